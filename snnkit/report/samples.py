"""A picture of what a network gets to see: some samples of every class."""

from __future__ import annotations

import numpy as np

from ..datasets.splits import Data
from ..files import PathLike, atomic
from .style import COLOURS, INK

CLASSES = 20
"""Classes that are shown, the first ones."""


def samples_picture(data: Data, path: PathLike, each: int = 3) -> list[int]:
    """Draw the first `each` samples of every class to `path` (.png, .svg, .pdf), and return which they are.

    Spikes over time and channel; of a sensor with a shape (C, H, W) the sum over time, polarity 1 less
    polarity 0 where there are two.
    """
    from matplotlib.colors import CenteredNorm
    from matplotlib.figure import Figure

    classes = data.classes[:CLASSES]
    rows = [np.flatnonzero(data.labels == k)[:each] for k in range(len(classes))]
    drawing = Figure(figsize=(2.2 * each + 0.8, 1.5 * len(classes)), layout="constrained")
    grid = drawing.subplots(len(classes), each, squeeze=False)
    for k, name in enumerate(classes):
        for axes, row in zip(grid[k], [*rows[k], *[None] * each], strict=False):
            axes.tick_params(labelsize=6, colors=INK)
            if row is None:
                axes.set_axis_off()
                continue
            x, lengths, _ = data.batch([row])
            x = x[: lengths[0], 0]
            if len(data.shape) == 3:
                axes.imshow(_image(x.reshape(len(x), *data.shape)), cmap="RdBu_r", norm=CenteredNorm())
                axes.set_axis_off()
            else:
                step, channel = np.nonzero(x)
                axes.scatter(step * data.dt, channel, s=2, c=COLOURS[k % 10], linewidths=0)
                axes.set(xlim=(0, len(x) * data.dt), ylim=(-0.5, x.shape[1] - 0.5))
        grid[k][0].set_title(name, fontsize=8, color=INK, loc="left")
    if len(data.shape) != 3:
        grid[-1][0].set_xlabel("ms", fontsize=7)
    with atomic(path) as temporary:
        drawing.savefig(temporary, format=str(path).rpartition(".")[2] or "png", dpi=120)
    return [int(row) for some in rows for row in some]


def _image(x: np.ndarray) -> np.ndarray:
    total: np.ndarray = x.sum(axis=0)
    return total[1] - total[0] if len(total) == 2 else total.mean(axis=0)
