"""Shares of samples that lie among the data, and of data among the samples: balls up to the k-th nearest neighbour."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

TOLERANCE = 1e-6  # of a radius: equal distances, of data of few grey levels, may differ by rounding, and both count as inside


def precision_recall(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], num_neighbours: int = 3, chunk_size: int = 1000
) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019, https://arxiv.org/abs/1904.06991).

    Every point of a set has a ball up to its k-th nearest neighbour in that set, with its surface. Precision is the share of the samples
    that lie in a ball of the data; recall, the share of the data that lie in a ball of the samples.

    Args:
        real, generated: features.
        num_neighbours: k.
        chunk_size: rows of a matrix of distances that are in memory at a time.

    Raises:
        ValueError: if num_neighbours is not from 1 to one less than there are of either, or chunk_size is below 1.
    """
    real_radii, generated_radii = (radii(points, num_neighbours, chunk_size) for points in (real, generated))
    precise, recalled = torch.zeros(len(generated), dtype=torch.bool, device=real.device), []
    for rows, distances in distances_by_rows(real, generated, chunk_size):
        precise |= (distances <= real_radii[rows, None]).any(0)
        recalled.append((distances <= generated_radii).any(1))
    return precise.double().mean().item(), torch.cat(recalled).double().mean().item()


def density_coverage(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], num_neighbours: int = 5, chunk_size: int = 1000
) -> tuple[float, float]:
    """Density and coverage (Naeem et al., 2020, https://arxiv.org/abs/2002.09797).

    Every example of the data has a ball up to its k-th nearest neighbour among them. Density is 1 / k times the mean number of balls that
    a sample lies in; coverage, the share of balls with a sample. Of one law they are in the mean 1 and about 1 - 2^-k, of equally many.

    Args, Raises: as `precision_recall`.
    """
    limits = radii(real, num_neighbours, chunk_size)
    inside = [(distances <= limits[rows, None]).sum(1) for rows, distances in distances_by_rows(real, generated, chunk_size)]
    counts = torch.cat(inside).double()
    return counts.sum().item() / (num_neighbours * len(generated)), (counts > 0).double().mean().item()


def radii(points: Float[Tensor, "n d"], num_neighbours: int, chunk_size: int) -> Float[Tensor, "n"]:
    """The distance of each point from its k-th nearest neighbour among the others, enlarged by `TOLERANCE`.

    Raises:
        ValueError: as `precision_recall`.
    """
    if not 1 <= num_neighbours < len(points) or chunk_size < 1:
        raise ValueError(
            f"num_neighbours={num_neighbours} must be from 1 to {len(points) - 1}, one less than there are examples, and"
            f" chunk_size={chunk_size} at least 1"
        )
    # a point is its own nearest: the k-th of the others is one further on
    found = [
        distances.topk(num_neighbours + 1, largest=False).values[:, -1] for _, distances in distances_by_rows(points, points, chunk_size)
    ]
    return (1 + TOLERANCE) * torch.cat(found)


def distances_by_rows(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], chunk_size: int) -> Iterator[tuple[slice, Tensor]]:
    """Some rows at a time of the matrix of distances |a_i - b_j|, and which rows they are.

    |a_i|^2 + |b_j|^2 - 2 a_i . b_j in float64; what is less than its rounding error, as of two equal rows, is zero.
    """
    a, b = a.double(), b.double()
    of_a, of_b = a.square().sum(1), b.square().sum(1)
    rounding = (a.shape[1] + 4) * torch.finfo(a.dtype).eps
    for start in range(0, len(a), chunk_size):
        rows = slice(start, start + chunk_size)
        sizes = of_a[rows, None] + of_b
        squares = torch.addmm(sizes, a[rows], b.T, alpha=-2)
        yield rows, squares.where(squares > rounding * sizes, 0.0).sqrt()
