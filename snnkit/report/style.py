"""The one look of all figures: colours, letters, units."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..energy.uncertainty import UNITS

COLOURS = (
    "#2a6fbb", "#e08a3c", "#3f9d6b", "#b8476b", "#7a5ea8",
    "#8c6d4f", "#3aa6b9", "#c9a227", "#6b7785", "#a3b86c",
)  # fmt: skip
INK, SOFT, LINE = "#1b2430", "#5a6675", "#dde3ea"
_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "snnkit",
}


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure of inches and its axes in the house style; pyplot's global state is not touched."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_RC):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing, drawing.add_subplot()


def svg(drawing: Any) -> str:
    """A figure as SVG text, the same for the same figure."""
    out = io.StringIO()
    drawing.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def unit_of(largest: float) -> tuple[str, float]:
    """The unit in which a bar of `largest` pJ reads well."""
    return next(((u, s) for u, s in UNITS if largest >= s), UNITS[-1])


def decades(value: float, _: int) -> str:
    """The label of a tick of `value` pJ."""
    if value <= 0:
        return ""
    unit, size = unit_of(value * 1.0000001)
    return f"{value / size:g} {unit}"


def no_ticks() -> Any:
    """A locator for axes without minor ticks."""
    from matplotlib.ticker import NullLocator

    return NullLocator()
