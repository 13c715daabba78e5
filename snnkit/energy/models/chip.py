"""What models of chips share: messages over a mesh, the time of a step, static power."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ParameterError
from ..counts import CoreCounts, Counts, NeuronCounts
from ..rows import Row
from .model import FLAG, Tariff

CONSTANTS = {"barrier_*": "ns", "static_chip": "mW"}
CHOICES: dict[str, tuple[Any, ...]] = {"barrier": ("linear", "steps"), "static": FLAG}
SWITCHED: dict[str, tuple[str, ...]] = {"static": ("static_chip",)}


def active(n: NeuronCounts) -> np.ndarray:
    """Active neuron updates ``[B]``. Raises `ParameterError` naming a layer of which they are not known."""
    if n.active is None:
        raise ParameterError(
            f"which neurons of {n.name!r} were active is not known, and this profile prices active and idle "
            "neurons apart; count with the recorded states, as `measure` does."
        )
    return n.active


def traffic(n: NeuronCounts, tariff: Tariff) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Messages, hops along x, hops along y, each ``[B]``.

    Raises `ParameterError` if the counts were taken without a mapping, or with one to a core that the
    chip has not.
    """
    chip = tariff.chip
    if n.routes is None or n.messages is None or chip is None:
        raise ParameterError(
            f"messages and hops of {n.name!r} were asked for, but the counts were taken without a mapping; "
            "pass mapping= to `measure` or `count`, or use `estimate`, which places the network itself."
        )
    x, y = np.zeros(n.messages.shape[1]), np.zeros(n.messages.shape[1])
    for (a, b), messages in zip(n.routes, n.messages, strict=True):
        if max(a, b) >= chip.cores:
            raise ParameterError(
                f"the mapping uses core {max(a, b)}, the profile's chip has cores 0 to {chip.cores - 1}."
            )
        (x0, y0), (x1, y1) = chip.tile(max(int(a), 0)), chip.tile(int(b))
        x += messages * abs(x0 - x1)
        y += messages * abs(y0 - y1)
    return n.messages.sum(0), x, y


def static(tariff: Tariff, latency: np.ndarray | None) -> list[Row]:
    """Static power over the time of each sample ``[B]``, ns, where the setting static is on."""
    if not tariff.settings["static"] or latency is None:
        return []
    power = tariff.constants["static_chip"]
    return [Row("(chip)", "(chip)", "static power", latency, power, scales=False)]  # mW · ns = pJ


def step_latency(
    counts: Counts, tariff: Tariff, stages: Callable[[CoreCounts, int], tuple[Any, ...]]
) -> np.ndarray | None:
    """Σ over steps of the busiest core's slowest stage, plus the barrier: ns, ``[B]``.

    stages  (work of the cores, sample) → time of each stage of a core, ns ``[T, C]``, or 0 for no work

    None where the counts were taken without a mapping.
    """
    if counts.cores is None or tariff.chip is None:
        return None
    wait = _barrier(counts.cores.cores // tariff.chip.cores_per_tile, tariff)
    total = np.zeros(len(counts))
    for b, T in enumerate(counts.steps):
        busiest = np.zeros(int(T))
        for stage in stages(counts.cores, b):
            if np.ndim(stage):
                busiest = np.maximum(busiest, np.max(stage, axis=1, initial=0.0))
        total[b] = busiest.sum() + wait * int(T)
    return total


def _barrier(tile: np.ndarray, tariff: Tariff) -> float:
    """Time of the chip-wide synchronisation at the end of a step, ns; tile: that of each core ``[C]``."""
    tiles = len(np.unique(tile))
    table = sorted(
        (int(name.split("_")[1]), value)
        for name, value in tariff.constants.items()
        if name.startswith("barrier_")
    )
    if tariff.settings["barrier"] == "linear":
        return float(np.interp(tiles, [t for t, _ in table], [v for _, v in table]))
    return [v for t, v in table if t <= tiles][-1]
