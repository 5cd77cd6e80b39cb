"""Sylvester flows (van den Berg et al., 2018, https://arxiv.org/abs/1803.05649): z' = z + Q R1 tanh(R2 Q^T z + b).

Q has M orthonormal columns, R1 and R2 are upper triangular, so by Sylvester's identity det = prod_i (1 + r1_ii r2_ii (1 - tanh_i^2)).
The map is invertible where every r1_ii r2_ii > -1, which tanh on both diagonals ensures. All parameters are functions of x. An encoder
starts with small outputs, and R1 = 0 is the identity.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.checks import check_at_least, check_choice

KINDS = ("orthogonal", "householder", "triangular")


class Sylvester(nn.Module):
    """num_flows Sylvester maps in a row.

    Args:
        features: D, of z.
        num_flows: how many.
        kind: what Q is. "orthogonal": D x M, the orthogonal factor of a matrix from the encoder (by QR in place of the paper's iteration,
            which converges to another orthonormal basis of the same columns); "householder": D x D, a product of reflections;
            "triangular": the identity and the reversal in turn.
        num_vectors: M, or how many reflections.

    Raises:
        ValueError: if kind is unknown, or a number is out of range.
    """

    def __init__(self, features: int, num_flows: int = 4, kind: str = "orthogonal", num_vectors: int = 8) -> None:
        super().__init__()
        check_choice(KINDS, kind=kind)
        check_at_least(1, num_flows=num_flows, num_vectors=num_vectors)
        self.features, self.num_flows, self.kind = features, num_flows, kind
        self.num_vectors = min(num_vectors, features)
        self.size = self.num_vectors if kind == "orthogonal" else features  # M
        self.basis = 0 if kind == "triangular" else features * self.num_vectors
        self.triangle = self.size * (self.size - 1) // 2
        self.num_context = num_flows * (self.basis + 2 * self.triangle + 3 * self.size)

    def forward(self, z: Float[Tensor, "*k d"], context: Float[Tensor, "*b c"]) -> tuple[Float[Tensor, "*k d"], Float[Tensor, "*k"]]:
        total = z.new_zeros(z.shape[:-1])
        for i, params in enumerate(context.chunk(self.num_flows, dim=-1)):
            basis, upper1, upper2, diagonal1, diagonal2, b = params.split(
                [self.basis, self.triangle, self.triangle, self.size, self.size, self.size], dim=-1
            )
            q = self.orthonormal(basis, flipped=i % 2 == 1)
            diagonal1, diagonal2 = diagonal1.tanh(), diagonal2.tanh()
            projected = (q.mT @ z[..., None]).squeeze(-1)
            h = torch.tanh((self.upper(upper2, diagonal2) @ projected[..., None]).squeeze(-1) + b)
            # 1 + r1_ii r2_ii (1 - h^2), as a sum of what is positive: nothing cancels where r1_ii r2_ii is almost -1
            total = total + (h.square() + (1 + diagonal1 * diagonal2) * (1 - h.square())).log().sum(-1)
            z = z + (q @ (self.upper(upper1, diagonal1) @ h[..., None])).squeeze(-1)
        return z, total

    def upper(self, entries: Float[Tensor, "*b t"], diagonal: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m m"]:
        """The upper triangular matrix of these entries and this diagonal."""
        matrix = torch.diag_embed(diagonal)
        rows, columns = torch.triu_indices(self.size, self.size, offset=1, device=diagonal.device)
        matrix[..., rows, columns] = entries
        return matrix

    def orthonormal(self, basis: Float[Tensor, "*b n"], flipped: bool) -> Float[Tensor, "... d m"]:
        """Q."""
        identity = torch.eye(self.features, dtype=basis.dtype, device=basis.device)
        if self.kind == "triangular":
            return identity.flip(0) if flipped else identity
        vectors = basis.unflatten(-1, (self.num_vectors, self.features))
        if self.kind == "orthogonal":
            q, r = torch.linalg.qr(vectors.mT)
            sign = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q)
            return q * sign[..., None, :]  # Gram and Schmidt's, which is continuous in x; LAPACK's columns jump to their opposites
        q = identity
        for v in vectors.unbind(-2):
            v = v / v.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            q = q - 2 * (q @ v[..., None]) @ v[..., None, :]
        return q
