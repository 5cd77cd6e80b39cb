"""Datasets seen differently."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from vaelab.data.images import ImageFiles
from vaelab.data.memory import Examples, InMemory

# one class or several, by number or by name; of data whose y are factors, the values of some of them: {"shape": [0, 1]}
Value = int | str
Classes = Value | Sequence[Value] | Mapping[str, Value | Sequence[Value]]


def hide_labels(dataset: Examples, num_labelled: int, among: Int[Tensor, "m"], seed: int = 0) -> InMemory:
    """The dataset with y for `num_labelled` of the examples `among`, equally many of each class, and -1 for all others.

    The protocol of semi-supervised learning (Kingma et al., 2014, https://arxiv.org/abs/1406.5298).

    Raises:
        ValueError: if the data are not in memory, have no labels, or have fewer of a class than are asked for.
    """
    if not isinstance(dataset, InMemory) or dataset.y.ndim != 1 or bool((dataset.y < 0).all()):
        raise ValueError("labels can be hidden of data that are in memory and have one label for each example: use data=mnist")
    among = among[dataset.y[among] >= 0]
    classes, counts = dataset.y[among].unique(return_counts=True)
    share = -(-num_labelled // len(classes))
    if num_labelled < 1 or share > int(counts.min()):
        raise ValueError(
            f"num_labelled={num_labelled} must be at least 1, and the rarest of the {len(classes)} classes has {int(counts.min())} examples"
        )
    order = among[torch.randperm(len(among), generator=torch.Generator().manual_seed(seed))]
    # the first of each class in a random order, then the second of each, ...: the first num_labelled of these are balanced
    ranked = torch.stack([order[dataset.y[order] == label][:share] for label in classes], dim=1).flatten()[:num_labelled]
    y = torch.full_like(dataset.y, -1)
    y[ranked] = dataset.y[ranked]
    return dataset.replaced(dataset.x, y)


def only_classes(dataset: Examples, classes: Classes, among: Int[Tensor, "m"]) -> Int[Tensor, "k"]:
    """Those of the examples `among` that are of these classes, in their order: what a one-class model is trained on.

    Raises:
        ValueError: as `by_class`.
    """
    return by_class(dataset, classes, among)[0]


def by_class(dataset: Examples, classes: Classes, among: Int[Tensor, "m"]) -> tuple[Int[Tensor, "k"], Int[Tensor, "l"]]:
    """Those of the examples `among` that are of these classes, and those of others, in their order; unknown ones, -1, are neither.

    Raises:
        ValueError: as `of_classes`, or if no example is left, or if labels are not known without reading every example.
    """
    if isinstance(dataset, InMemory):
        y = dataset.y[among]
    elif isinstance(dataset, ImageFiles):
        y = torch.tensor(dataset.labels)[among]
    else:
        raise ValueError(
            f"classes={classes} can be chosen of data in memory and of folders of pictures, but not of {type(dataset).__name__}"
        )
    chosen, known = of_classes(y, classes, dataset.y_names, getattr(dataset, "y_values", {})), (y >= 0).reshape(len(y), -1).all(1)
    if not chosen.any():
        raise ValueError(f"no example has all of classes={classes}: choose fewer factors, or more of their values")
    return among[chosen.cpu()], among[(known & ~chosen).cpu()]


def of_classes(
    y: Shaped[Tensor, "n ..."], classes: Classes, names: Sequence[str] = (), values: Mapping[str, Sequence[str]] | None = None
) -> Bool[Tensor, "n"]:
    """True for examples of these classes; of factors, for those that have the values given of all the factors that are named.

    Args:
        y: labels (N,), or factors (N, F).
        classes: 3, [3, 5], ["cat"], or {"shape": [0, "heart"]}.
        names: of the classes, or of the F factors.
        values: names of the values of factors.

    Raises:
        ValueError: if classes are given for factors or the reverse, a factor has another name, or no example is of a class.
    """
    if y.ndim == 1:
        if isinstance(classes, Mapping):
            raise ValueError(f"classes={dict(classes)} name factors, but y is one label for each example: give labels, such as [0, 1]")
        return _has_value(y, classes, "class", names)
    if not isinstance(classes, Mapping) or not classes.keys() <= set(names):
        raise ValueError(
            f"classes={classes}, but each example has the factors {', '.join(names)}: give values of some of them, such as"
            f" {{{names[0] if names else 'factor'}: [0]}}"
        )
    chosen = [_has_value(y[:, names.index(name)], wanted, name, (values or {}).get(name, ())) for name, wanted in classes.items()]
    return torch.stack([torch.ones(len(y), dtype=torch.bool, device=y.device), *chosen]).all(0)


def _has_value(y: Shaped[Tensor, "n"], values: Value | Sequence[Value], noun: str, names: Sequence[str]) -> Bool[Tensor, "n"]:
    wanted = [values] if isinstance(values, int | str) else list(values)
    known = y[y >= 0].unique().tolist()
    for value in wanted:
        if not isinstance(value, str) and str(value) in names and list(names).index(str(value)) != value:
            raise ValueError(f"{noun} {value} may be number {value} or the one that is called {value}: give its name, ['{value}']")
    numbers = [list(names).index(value) if isinstance(value, str) and value in names else value for value in wanted]
    absent = [value for value, number in zip(wanted, numbers, strict=True) if number not in known]
    if absent or not wanted:
        there = [f"{i} ({names[int(i)]})" if i < len(names) and names[int(i)] != str(i) else i for i in known]
        raise ValueError(f"no example has {noun} {absent or wanted}: there are {_listed(there)}")
    return torch.isin(y, torch.tensor(numbers, device=y.device))


def _listed(values: Sequence[object], most: int = 20) -> str:
    return (", ".join(map(str, values[:most])) + (", ..." if len(values) > most else "")) or "no labels"
