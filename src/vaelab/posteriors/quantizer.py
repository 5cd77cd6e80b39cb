"""The abstract base of all posteriors over codes."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from math import prod

from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.checks import check_choice, check_flag
from vaelab.conditional import Conditional, NetworkFactory
from vaelab.distributions import ESTIMATORS, Codebook, Quantized

MOST_NUMBERS = 2**33  # of a table of codes: 32 GiB in float32


class Quantizer(Conditional):
    """q(z | x) = 1 where each vector of z is the code e_k that stands for the network's, z_e, at the same place.

    A quantiser is a codebook, a map `prepare` of z_e into the space of its codes, and terms that train it:

        u = prepare(z_e),  k = argmin_k |u - e_k|,  z_q = e_k, and backwards u in the place of z_q, by an estimator.

    >>> posterior = FSQ(partial(MLP, hidden=[16]), in_shape=(9,), event_shape=(3, 7, 7), levels=[8, 6, 5])
    >>> q = posterior(torch.rand(4, 9))
    >>> q.indices.shape, torch.equal(posterior.decode_indices(q.indices), q.mode)
    (torch.Size([4, 7, 7]), True)

    Args:
        network, in_shape, num_classes: see `Conditional`.
        event_shape: (D, *space): D numbers in each code, and a code at each place.
        estimator: "straight_through", "rotation" or "diveq": see `vaelab.distributions.estimators`.
        batch_norm: whether each of the D numbers of z_e first gets mean 0 and variance 1 over places and examples (Lancucki et al., 2020,
            https://arxiv.org/abs/2005.08520), so that none leaves the range of the codes.

    Raises:
        ValueError: if there is no such estimator.
    """

    num_params = 1
    needs_losses = False  # whether codes are trained by `losses` alone

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        estimator: str = "straight_through",
        batch_norm: bool = False,
    ) -> None:
        super().__init__(network, in_shape, event_shape, num_classes)
        check_choice(ESTIMATORS, estimator=estimator)
        check_flag(batch_norm=batch_norm)
        self.norm = nn.BatchNorm1d(event_shape[0], affine=False) if batch_norm else nn.Identity()
        self.event_shape, self.estimator = tuple(event_shape), estimator

    @property
    @abstractmethod
    def codes(self) -> Codebook:
        """The codes as they are now."""

    @property
    def residual_scale(self) -> Tensor | float:
        """The size, beside these, of codes that encode what these leave over: one number, or one for each of D."""
        return 1.0

    def encode_residuals(self) -> None:
        """Called on a quantiser that encodes what others leave over, which lies evenly around 0."""

    def prepare(self, z_e: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """z_e in the space of the codes, which is where the network puts it, but for batch-norm.

        Raises:
            ValueError: if batch-norm has a single place to learn from.
        """
        vectors = z_e.reshape(-1, self.event_shape[0], prod(self.event_shape[1:]))
        if self.training and isinstance(self.norm, nn.BatchNorm1d) and len(vectors) * vectors.shape[2] == 1:
            raise ValueError("batch_norm=true cannot learn from a batch of one vector: set data.batch_size=2 or more, or batch_norm=false")
        return self.norm(vectors).reshape(z_e.shape)

    def losses(self, u: Float[Tensor, "..."], z_q: Float[Tensor, "..."]) -> dict[str, Tensor]:
        """Terms that train quantiser and encoder, by the names that `vaelab.objectives.VQ` weighs: scalars, per example."""
        return {}

    def quantize(self, u: Float[Tensor, "..."]) -> Quantized:
        """The codes nearest to u, (*batch, D, *space)."""
        codes = self.codes
        indices = codes.indices_of(u, self.event_ndim - 1)
        z_q = codes.embed(indices, self.event_ndim - 1)
        stand_in = ESTIMATORS[self.estimator](u, z_q, -self.event_ndim)
        losses = partial(self.losses, u, z_q)
        return Quantized(u, codes, self.event_ndim, indices, z_q, stand_in, losses, self.needs_losses, validate_args=False)

    def distribution(self, z_e: Float[Tensor, "..."]) -> Quantized:
        return self.quantize(self.prepare(z_e))

    def decode_indices(self, indices: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
        """z of these indices: (*batch, *space) -> (*batch, D, *space)."""
        return self.codes.embed(indices, self.event_ndim - 1)

    def distances(self, u: Float[Tensor, "..."], z_q: Float[Tensor, "..."]) -> dict[str, Tensor]:
        """The commitment |u - sg(z_q)|^2 of the encoder, and |sg(u) - z_q|^2 for codes that need it: losses of a quantiser."""
        codebook = {"codebook": self.pull(u.detach(), z_q)} if self.needs_losses else {}
        return {"commitment": self.pull(u, z_q.detach()), **codebook}

    def pull(self, u: Float[Tensor, "..."], z_q: Float[Tensor, "..."]) -> Float[Tensor, ""]:
        """|u - z_q|^2, summed over the event and averaged over the batch; the caller stops the gradient of one of the two."""
        return (u - z_q).square().flatten(-self.event_ndim).sum(-1).mean()

    def vectors_of(self, u: Float[Tensor, "..."]) -> Float[Tensor, "n d"]:
        """The vectors of all places of all examples."""
        return u.movedim(-self.event_ndim, -1).reshape(-1, self.event_shape[0])


def sum_by_name(losses: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The terms of several quantisers, added up by name."""
    found = dict[str, Tensor]()
    for terms in losses:
        found |= {name: found[name] + value if name in found else value for name, value in terms.items()}
    return found


def check_table(num_codes: int, dim: int) -> None:
    """Check that a table of codes can be held in memory.

    Raises:
        ValueError: if it has more numbers than any memory that is likely to be there.
    """
    if num_codes * dim > MOST_NUMBERS:
        raise ValueError(
            f"num_codes={num_codes} codes of {dim} numbers are a table of {num_codes * dim * 4 / 1e9:.3g} GB, more than memory holds: set"
            " fewer, or posterior=fsq or posterior=lookup_free, whose codes need no table"
        )
