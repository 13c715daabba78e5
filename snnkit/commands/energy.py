"""`snnkit energy`: what a Graph costs on real inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ..energy import Estimate, estimate, human, human_time
from ..files import PathLike
from ..hardware.graded import sent
from ..report import energy_page
from .data import data_of
from .formats import AS_WRITTEN, Reading, load


def estimate_energy(
    net: PathLike,
    profiles: Sequence[str],
    split: str = "valid",
    settings: Sequence[str] = (),
    *,
    limit: int | None = None,
    page: PathLike | None = None,
    reading: Reading = AS_WRITTEN,
) -> Estimate:
    """Energy and latency of a network's file on its data; with `page`, also as an HTML page there."""
    graph = load(net, reading)
    data = data_of(graph, split, settings, limit, call="estimate(graph, data.valid.events)")
    events = sent(graph, data.events)
    found = estimate(graph, events, "all" if list(profiles) == ["all"] else list(profiles))
    if page is not None:
        energy_page(found, page, f"Energy and latency of {Path(net).name}")
    return found


def energy_table(found: Estimate) -> Table:
    """One row a profile: energy with its range, latency."""
    table = Table(title="an inference, mean over the samples", title_justify="left")
    for column in ("profile", "energy", "low", "high", "latency"):
        table.add_column(column, justify="left" if column == "profile" else "right")
    for name, price in found.prices.items():
        latency = found.latency_us[name]
        table.add_row(
            name,
            *(human(value) for value in (price.total_pj, price.low_pj, price.high_pj)),
            "–" if latency is None else human_time(latency),
        )
    return table
