"""Gradient boosting of decision trees (Friedman, 2001, https://doi.org/10.1214/aos/1013203451), with scikit-learn's defaults.

The same trees as those of its GradientBoostingClassifier, several times as fast on codes of many examples: that sorts the codes anew at
each node of each of 100 trees a class, and this sorts them once, since a part of a sorted list is sorted.
"""

import numpy as np
from jaxtyping import Float, Int

NUM_STAGES, DEPTH, LEARNING_RATE = 100, 3, 0.1
APART = np.float32(1e-7)  # values that are nearer are not parted


def boosted_trees(
    codes: Float[np.ndarray, "n d"], labels: Int[np.ndarray, "n"], test_codes: Float[np.ndarray, "m d"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "d"], Int[np.ndarray, "m"]]:
    """Trees that tell the label from the codes: the importance of each code, and the labels that they give to test examples.

    A stage adds a tree of depth 3 for each class, or one if there are two, fitted by least squares to what the probabilities are off by,
    with leaves that are Newton steps of the log-loss times 0.1. The importance of a code is its share of the squared error that all of
    its splits remove.

    Args:
        codes: to learn from.
        labels: whole numbers, of two values or more.
        test_codes: to be labelled.
        rng: says which code is taken where several part the examples equally well.
    """
    classes, y = np.unique(labels, return_inverse=True)
    targets = (y[:, None] == np.arange(len(classes)))[:, -1 if len(classes) == 2 else 0 :].T.astype(np.float64)
    shares = targets.mean(1, keepdims=True)
    start = np.log(shares) if len(classes) > 2 else np.log(shares / (1 - shares))
    scores, test_scores = np.repeat(start, len(codes), axis=1), np.repeat(start, len(test_codes), axis=1)
    trees = Trees(codes, test_codes, rng)
    newton = (len(classes) - 1) / len(classes) if len(classes) > 2 else 1.0
    for _ in range(NUM_STAGES):
        p = probabilities(scores)
        for k, (residual, curvature) in enumerate(zip(targets - p, p * (1 - p), strict=True)):
            step, test_step = trees.fit(residual, curvature / newton)
            scores[k] += LEARNING_RATE * step
            test_scores[k] += LEARNING_RATE * test_step
    guesses = test_scores.argmax(0) if len(classes) > 2 else (test_scores[0] >= 0).astype(np.int64)
    return trees.importance / (trees.importance.sum() or 1), classes[guesses]


def probabilities(scores: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
    """The softmax over classes, or the sigmoid of a single score."""
    if len(scores) == 1:
        return 1 / (1 + np.exp(-scores))
    p = np.exp(scores - scores.max(0))
    return p / p.sum(0)


class Trees:
    """Regression trees of one set of codes, in single precision as in scikit-learn."""

    def __init__(self, codes: Float[np.ndarray, "n d"], test_codes: Float[np.ndarray, "m d"], rng: np.random.Generator) -> None:
        self.x, self.test_x = (np.ascontiguousarray(z.T.astype(np.float32)) for z in (codes, test_codes))
        self.order = self.x.argsort(axis=1, kind="stable")
        self.sorted_x = np.take_along_axis(self.x, self.order, axis=1)
        self.weights = 1 / np.arange(1, len(codes) + 1)
        self.importance, self.rng = np.zeros(len(self.x)), rng

    def fit(
        self, residual: Float[np.ndarray, "n"], curvature: Float[np.ndarray, "n"]
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]:
        """The values sum residual / sum curvature of the leaves that the examples and the test examples come to."""
        values, test_values = np.empty(len(residual)), np.empty(self.test_x.shape[1])
        nodes = [(0, self.order, self.sorted_x, np.arange(self.test_x.shape[1]))]
        while nodes:
            depth, order, sorted_x, test = nodes.pop()
            split = self.best_split(order, sorted_x, residual) if depth < DEPTH else None
            if split is None:
                below = curvature[order[0]].sum()
                values[order[0]] = test_values[test] = residual[order[0]].sum() / below if below > 1e-150 else 0.0
                continue
            code, threshold = split
            rows = slice(None if depth + 1 < DEPTH else 1)  # a leaf needs to know its examples, but not their order
            left, test_left = (self.x[code] <= threshold)[order[rows]], self.test_x[code, test] <= threshold
            for side, test_side in ((left, test[test_left]), (~left, test[~test_left])):
                nodes.append((depth + 1, order[rows][side].reshape(len(side), -1), sorted_x[rows][side].reshape(len(side), -1), test_side))
        return values, test_values

    def best_split(
        self, order: Int[np.ndarray, "d n"], sorted_x: Float[np.ndarray, "d n"], residual: Float[np.ndarray, "all"]
    ) -> tuple[int, float] | None:
        """The code and the threshold that remove most of the squared error; None if there is none to remove, or nothing to part."""
        num = order.shape[1]
        sums = residual[order].cumsum(axis=1)
        if num < 2 or residual[order[0]].var() <= np.finfo(np.float64).eps:
            return None
        total, left = sums[0, -1], sums[:, :-1]
        removed = left**2 * self.weights[: num - 1]
        removed += (total - left) ** 2 * self.weights[num - 2 :: -1]
        removed[sorted_x[:, 1:] <= sorted_x[:, :-1] + APART] = -np.inf
        codes = self.rng.permutation(len(removed))
        code = codes[removed.max(axis=1)[codes].argmax()]
        place = removed[code].argmax()
        if removed[code, place] == -np.inf:
            return None
        self.importance[code] += removed[code, place] - total**2 / num
        below, above = sorted_x[code, place].astype(np.float64), sorted_x[code, place + 1].astype(np.float64)
        return int(code), float((below + above) / 2)
