"""The networks of several layers of latent variables, z_L above ... above z_1 above x.

Bottom-up, x becomes features d_1, ..., d_L. Top-down, z_L, ..., z_1 become one state h, from which p(z_i | z_>i) is made and with it, or
together with d_i, q(z_i | x, z_>i); the last state is what p(x | z) is given. With vectors for latents this is the ladder VAE
(Sønderby et al., 2016, https://arxiv.org/abs/1602.02282), or the two-layer VAE of Tomczak & Welling (2018,
https://arxiv.org/abs/1705.07120).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_at_least, check_choice
from vaelab.networks.initial import keep_signal
from vaelab.networks.mlp import MLP


class Rung(nn.Module, ABC):
    """The networks of one latent variable: the parameters (mu, log sigma) of its two Gaussians as two rows, and the next state.

    Args:
        z_shape: of z_i.
        posterior: network (N, *d_shape) -> (N, 2, *z_shape). Below the top of a ladder with merge="network" it sees d_i and h,
            concatenated over channels; else d_i.
        prior: network (N, *h_shape) -> (N, 2, *z_shape); None at the top, whose prior is chosen.
    """

    def __init__(self, z_shape: Sequence[int], posterior: nn.Module, prior: nn.Module | None) -> None:
        super().__init__()
        self.z_shape, self.posterior, self.prior = tuple(z_shape), posterior, prior

    @abstractmethod
    def join(self, h: Float[Tensor, "n ..."] | None, z: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The state h with z_i in it; above the top h is None."""


class Ladder(nn.Module, ABC):
    """Features from the bottom up, and rungs from the top down.

    Args:
        in_shape: of x.
        state_shape: of the last state.
        rungs: top first.
        merge: how q(z_i | x, z_>i) comes about: "precision", as the product of the network's Gaussian and p(z_i | z_>i)
            (Sønderby et al., 2016); or "network", as the network of d_i and h says.

    Raises:
        ValueError: if there is no rung, or the merge is unknown.
    """

    def __init__(self, in_shape: Sequence[int], state_shape: Sequence[int], rungs: Sequence[Rung], merge: str) -> None:
        super().__init__()
        check_choice(("precision", "network"), merge=merge)
        if not rungs:
            raise ValueError("a ladder needs at least one latent variable")
        self.in_shape, self.state_shape, self.merge = tuple(in_shape), tuple(state_shape), merge
        self.rungs: Sequence[Rung] = nn.ModuleList(rungs)  # type: ignore[assignment]  # it is a sequence of what it was given

    @abstractmethod
    def bottom_up(self, x: Float[Tensor, "b ..."]) -> list[Float[Tensor, "b ..."]]:
        """The features of each rung, in the order of the rungs: d_L, ..., d_1."""


class Bounded(nn.Module):
    """Holds log sigma between -limit and limit, softly, by limit tanh(log sigma / limit) as in NVAE's code; mu passes.

    The scale of p(z_i | z_>i) needs it: nothing else holds it, since the layers below can undo any change of the unit of z_i, and the
    gradient of log p at an outlier grows with 1 / sigma^2.
    """

    def __init__(self, limit: float = 5.0) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, params: Float[Tensor, "n 2 ..."]) -> Float[Tensor, "n 2 ..."]:
        loc, log_scale = params.unbind(1)
        return torch.stack([loc, self.limit * torch.tanh(log_scale / self.limit)], dim=1)


class DenseRung(Rung):
    """z_i is a vector; the state is z_i, or with `skip` all of z_L, ..., z_i."""

    def __init__(self, z_shape: Sequence[int], posterior: nn.Module, prior: nn.Module | None, skip: bool) -> None:
        super().__init__(z_shape, posterior, prior)
        self.skip = skip

    def join(self, h: Float[Tensor, "n h"] | None, z: Float[Tensor, "n z"]) -> Float[Tensor, "n k"]:
        return torch.cat([h, z], dim=1) if self.skip and h is not None else z


class DenseLadder(Ladder):
    """Vectors for latents, and multilayer perceptrons between them.

    d_1 is a network of x, d_i one more layer on d_{i-1}, and (mu, log sigma) are linear in d_i, as at the top; of p(z_i | z_>i), and with
    merge="network" of q(z_i | x, z_>i), they are a perceptron's. A ladder of one rung is an encoder with `hidden` for its last width.

    Args:
        in_shape: of x.
        z_dims: the sizes of z_1, ..., z_L, bottom to top.
        encoder: a factory of networks, for that of x.
        hidden: the width of features and of hidden layers.
        merge: "precision" or "network", see `Ladder`.
        skip: whether each z_i, and x, depends on all of the latents above it and not on the nearest alone.

    Raises:
        ValueError: if a size is below 1, or as `Ladder`.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        z_dims: Sequence[int],
        encoder: Callable[..., nn.Module],
        hidden: int = 256,
        merge: str = "precision",
        skip: bool = False,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        check_at_least(1, z_dims=z_dims, hidden=hidden)
        rungs: list[Rung] = []
        state = 0  # how many numbers
        for dim in reversed(z_dims):
            if state and merge == "network":
                posterior = MLP((hidden + state,), (2, dim), (hidden,), activation)
            else:
                posterior = MLP((hidden,), (2, dim), ())
            prior = nn.Sequential(MLP((state,), (2, dim), (hidden,), activation), Bounded()) if state else None
            rungs.append(DenseRung((dim,), posterior, prior, skip))
            state = dim + skip * state
        super().__init__(in_shape, (state,), rungs, merge)
        first = encoder(in_shape=self.in_shape, out_shape=(hidden,))
        higher = [nn.Linear(hidden, hidden) for _ in z_dims[1:]]
        self.blocks = nn.ModuleList(nn.Sequential(block, activation()) for block in (first, *higher))
        keep_signal(self.blocks, activation)

    def bottom_up(self, x: Float[Tensor, "b ..."]) -> list[Float[Tensor, "b ..."]]:
        features = [x]
        for block in self.blocks:
            features.append(block(features[-1]))
        return features[:0:-1]
