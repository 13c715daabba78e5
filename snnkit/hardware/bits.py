"""Which layers can do with fewer weight bits: sensitivity of each, and the best choice under a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.readout import scores
from ..errors import ParameterError
from ..events import EventBatch
from ..graph import Graph
from .quantise import quantise


@dataclass
class Choice:
    """Bits of each projection and what led to them.

    bits  projection → bits
    drop  projection → {bits: accuracy lost when this layer alone has so many, 0..1}
    size  weight bits in all
    """

    bits: dict[str, int]
    drop: dict[str, dict[int, float]]
    size: int

    def __str__(self) -> str:
        widths = sorted({b for row in self.drop.values() for b in row})
        lines = [f"{'accuracy lost at bits':<24}" + "".join(f"{b:>8}" for b in widths) + f"{'chosen':>8}"]
        for name, row in self.drop.items():
            cells = "".join(f"{100 * row[b]:>7.2f}%" for b in widths)
            lines.append(f"{name:<24}{cells}{self.bits[name]:>8}")
        return "\n".join([*lines, f"{self.size} weight bits in all"])


def choose_bits(
    graph: Graph,
    events: EventBatch,
    labels: np.ndarray,
    budget: float,
    *,
    choices: tuple[int, ...] = (2, 3, 4, 5, 6, 8),
    calibration: EventBatch | None = None,
    **options: Any,
) -> Choice:
    """Bits for each projection so that accuracy falls least while the weights take `budget` bits on average.

    Every projection is quantised alone with each of `choices`, all others with the most, and the loss is
    measured: wrong answers, and to tell equals apart the change of the scores. Of each layer's points the
    lower convex hull (its Pareto list) is kept; the price of a bit is then bisected until the sum fits.

    events, labels  data to measure on, labels int [B]: validation, never test
    budget          bits a weight on average
    options         of `quantise`

    Raises `ParameterError` for a budget outside the choices.
    """
    sizes = {p.name: int(p.weight.size) for p in graph.projections}
    total = sum(sizes.values())
    most, least = max(choices), min(choices)
    if not least <= budget <= most:
        raise ParameterError(f"budget {budget} bits a weight is outside the choices {least}..{most}.")
    labels = np.asarray(labels)

    def measure(bits: dict[str, int]) -> tuple[float, np.ndarray]:
        made = quantise(graph, bits=bits, calibration=calibration, **options)
        found = scores(made, events)
        return float((found.argmax(1) == labels).mean()), found / max(np.abs(found).max(), 1e-9)

    whole, reference = measure(dict.fromkeys(sizes, most))
    drop: dict[str, dict[int, float]] = {name: {most: 0.0} for name in sizes}
    loss: dict[str, dict[int, float]] = {name: {most: 0.0} for name in sizes}
    for name in sizes:
        for b in sorted(choices, reverse=True)[1:]:
            accuracy, found = measure(dict.fromkeys(sizes, most) | {name: b})
            drop[name][b] = whole - accuracy
            loss[name][b] = max(drop[name][b], 0.0) + float(np.abs(found - reference).mean())
    lists = {name: _hull(loss[name], sizes[name]) for name in sizes}

    def at(price: float) -> dict[str, int]:
        return {
            name: min(points, key=lambda point: point[1] + price * point[0])[2]
            for name, points in lists.items()
        }

    def used(bits: dict[str, int]) -> int:
        return sum(sizes[name] * b for name, b in bits.items())

    low, high = 0.0, 1.0
    while used(at(high)) > budget * total:
        high *= 2
    if used(at(low)) <= budget * total:
        return Choice(at(low), drop, used(at(low)))
    for _ in range(100):
        middle = (low + high) / 2
        if used(at(middle)) > budget * total:
            low = middle
        else:
            high = middle
    bits = at(high)
    for name in sorted(sizes, key=lambda n: -loss[n][bits[n]]):  # what is left of the budget
        for b in sorted((b for b in choices if b > bits[name]), reverse=True):
            if used(bits | {name: b}) <= budget * total and loss[name][b] <= loss[name][bits[name]]:
                bits[name] = b
                break
    return Choice(bits, drop, used(bits))


def _hull(loss: dict[int, float], size: int) -> list[tuple[float, float, int]]:
    """(size, loss, bits) of the points that no mixture of others beats, smallest first."""
    hull: list[tuple[float, float, int]] = []
    for b in sorted(loss):
        point = (float(size * b), loss[b], b)
        if hull and hull[-1][1] <= point[1]:  # fewer bits are no worse
            continue
        while len(hull) > 1 and _turns(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _turns(a: tuple[float, float, int], b: tuple[float, float, int], c: tuple[float, float, int]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
