"""Losses, metrics and data of a stranger."""

import numpy as np

from snnkit.datasets import Splits


def loss(out, targets):
    """Squared distance of the scores from one-hot."""
    wanted = targets[:, None] == out.scores.new_tensor([0, 1])
    return (out.scores.softmax(1) - wanted.float()).square().mean()


def margin(out, targets):
    """Mean lead of the right class's score, negative if the other leads."""
    lead = out.scores[:, 1] - out.scores[:, 0]
    return (lead * (2 * targets - 1)).mean() - 5


def steps(dt: float = 5.0) -> Splits:
    """Which third of the channels is busy, in every step; none is said of the first."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (90, 3)).repeat(8, 1)
    busy = np.repeat(labels[..., None] == np.arange(3), 4, axis=2)
    x = (rng.random((90, 24, 12)) < np.where(busy, 0.6, 0.05)).astype(np.float32)
    labels[:, 0] = -1
    return Splits.from_arrays(
        train=(x[:60], labels[:60]), valid=(x[60:], labels[60:]), test=(x[60:], labels[60:]), dt=dt
    )
