"""Shares of samples that lie among the data, and of data among the samples: balls up to the k-th nearest neighbour."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor


def precision_recall(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], num_neighbours: int = 3, chunk_size: int = 1000
) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019, https://arxiv.org/abs/1904.06991).

    Every point of a set has a ball up to its k-th nearest neighbour in that set. Precision is the share of the samples that lie in a ball
    of the data; recall, the share of the data that lie in a ball of the samples.

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
    """The distance of each point from its k-th nearest neighbour among the others.

    Raises:
        ValueError: as `precision_recall`.
    """
    if not 1 <= num_neighbours < len(points) or chunk_size < 1:
        raise ValueError(
            f"num_neighbours={num_neighbours} must be from 1 to {len(points) - 1}, one less than there are examples, and"
            f" chunk_size={chunk_size} at least 1"
        )
    # a point is its own nearest: the k-th of the others is one further on
    return torch.cat(
        [distances.topk(num_neighbours + 1, largest=False).values[:, -1] for _, distances in distances_by_rows(points, points, chunk_size)]
    )


def distances_by_rows(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], chunk_size: int) -> Iterator[tuple[slice, Tensor]]:
    """Some rows at a time of the matrix of distances |a_i - b_j|, and which rows they are; in float64, in which products lose nothing."""
    a, b = a.double(), b.double()
    for start in range(0, len(a), chunk_size):
        rows = slice(start, start + chunk_size)
        yield rows, torch.cdist(a[rows], b, compute_mode="use_mm_for_euclid_dist")
