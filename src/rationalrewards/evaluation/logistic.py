"""Logistic regression without an intercept: which differences between two images make people prefer one.

There is no intercept because nothing may depend on which image is called A.
"""

from __future__ import annotations

import numpy as np

from rationalrewards.evaluation.judged import Floats

RIDGE = 1e-3
"""A faint pull to 0, which keeps the weights finite where a critic is never wrong; differences are scaled
to a largest absolute value of 1 before it applies.
"""


def fit(differences: Floats, sides: Floats, ridge: float = RIDGE) -> Floats:
    """The weights w, shape (k,), for which ``1 / (1 + exp(-differences @ w))`` best explains ``sides``.

    ``differences`` has shape (n, k), ``sides`` is 1 (A) or -1 (B), shape (n,). Newton's method with halved
    steps on a concave function. All zeros when there is nothing to learn from.
    """
    k = differences.shape[1]
    scale = np.abs(differences).max(axis=0, initial=0.0)
    scale = np.where(scale > 0, scale, 1.0)
    z = differences / scale * sides[:, None]
    w = np.zeros(k)

    def value(at: Floats) -> float:
        return float(-np.logaddexp(0, -z @ at).sum() - ridge / 2 * at @ at)

    best = value(w)
    for _ in range(200):
        p = 1 / (1 + np.exp(np.clip(z @ w, -500, 500)))
        gradient = z.T @ p - ridge * w
        curvature = (z * (p * (1 - p))[:, None]).T @ z + ridge * np.eye(k)
        step = np.linalg.solve(curvature, gradient)
        while value(w + step) < best and np.abs(step).max() > 1e-12:
            step = step / 2
        w, reached = w + step, value(w + step)
        if reached - best < 1e-12:
            break
        best = reached
    weights: Floats = w / scale
    return weights
