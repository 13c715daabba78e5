"""A trained network through the stages after training, on the data it was trained on.

What the commands `simulate`, `export`, `verify` and `energy` call.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import engine
from ..datasets.splits import Data
from ..energy import Estimate, estimate, human, human_time
from ..engine.readout import classify, recorded
from ..errors import ParameterError
from ..files import PathLike
from ..graph import Graph
from ..hardware import netx
from ..hardware.ladder import Ladder, ladder
from ..hardware.quantise import quantise
from ..hardware.report import Report
from ..interop import nir
from ..training.run import compare, graph_data
from .formats import load

if TYPE_CHECKING:
    from rich.table import Table


def data_of(graph: Graph, split: str, settings: Sequence[str], limit: int | None = None) -> Data:
    """A split of the graph's data; `settings` are a name or key=value; `limit` samples spread over it."""
    from ..training.config import parse_overrides

    pairs = [s if "=" in s else f"name={s!r}" for s in settings]
    given = parse_overrides([f"data.{pair}" for pair in pairs]).data if pairs else None
    chosen = given.model_dump(mode="json", exclude_unset=True) if given is not None else {}
    if "images" in graph.metadata and not chosen:
        from ..compression.run import image_data

        data: Data = image_data(graph, split)
    else:
        data = graph_data(graph, split, chosen)
    if limit is None or limit >= len(data):
        return data
    if limit < 1:
        raise ParameterError(f"limit must be at least 1 sample, got {limit}.")
    return data.subset(np.linspace(0, len(data) - 1, limit).astype(int))


def simulate_on_data(
    net: PathLike,
    split: str = "valid",
    settings: Sequence[str] = (),
    *,
    limit: int | None = None,
    dtype: str | None = None,
    against: PathLike | None = None,
    engine: str = "snnkit",
) -> dict[str, Any]:
    """Accuracy, spikes and time of a graph file; with `against`, also the share of spikes in common."""
    graph = load(Path(net))
    data = data_of(graph, split, settings, limit)
    simulate = simulator(engine)
    options = {} if dtype is None else {"dtype": dtype}
    started = time.perf_counter()
    scores, spikes, synops = [], 0, 0
    for start in range(0, len(data), 64):
        events = data.subset(np.arange(start, min(start + 64, len(data)))).events
        result = simulate(graph, events, record=recorded(graph), **options)
        scores.append(classify(result, graph, events.lengths))
        spikes += sum(len(s.times) for n, s in result.spikes.items() if n not in graph.inputs)
        synops += sum(int(n.sum()) for n in result.counts.get("synops", {}).values())
    seconds = time.perf_counter() - started
    guess = np.concatenate(scores).argmax(1)
    summary: dict[str, Any] = {
        "split": split,
        "samples": len(data),
        "accuracy": float((guess == data.labels).mean()),
        "spikes_per_inference": spikes / len(data),
        "synops_per_inference": synops / len(data),
        "ms_per_inference": 1e3 * seconds / len(data),
    }
    if against is not None:
        from ..training.checkpoint import load_network

        network, _, _ = load_network(against)
        summary |= compare(network, graph, data, dtype or "float32")
    return summary


def simulator(name: str) -> Any:
    """`snnkit.engine.simulate`, or its twin that runs on NEST."""
    if name == "snnkit":
        return engine.simulate
    if name == "nest":
        from ..interop import nest

        return nest.simulate
    raise ParameterError(f"unknown engine {name!r}; known are snnkit and nest.")


def export_network(
    net: PathLike,
    to: str,
    path: PathLike,
    settings: Sequence[str] = (),
    *,
    bits: int = 8,
    clip_delays: bool = False,
    relay_delays: bool = False,
    calibration: int = 64,
) -> dict[str, Any]:
    """Write a graph file as NetX, NIR or integer graph; what was written, and what quantising changed."""
    graph = Graph.load(net)
    if clip_delays and relay_delays:
        raise ParameterError("choose one of --clip-delays and --relay-delays.")
    long_delays = "clip" if clip_delays else "relay" if relay_delays else "refuse"
    if to == "nir":
        nir.write(graph, path)
        return {"format": to, "path": str(path), "bytes": Path(path).stat().st_size}
    events = data_of(graph, "valid", settings, calibration).events if calibration else None
    integer = quantise(graph, bits=bits, calibration=events, long_delays=long_delays)
    if to == "netx":
        netx.write(integer, path)
    elif to == "graph":
        integer.save(path)
    else:
        raise ParameterError(f"unknown format {to!r}; known are netx, nir and graph.")
    report = Report.of(integer)
    return {
        "format": to,
        "path": str(path),
        "bytes": Path(path).stat().st_size,
        "bits": bits,
        "delays_clipped": report.delays_clipped,
        "relays": report.relays,
        "warnings": report.warnings,
    }


def verify_export(
    exported: PathLike,
    net: PathLike,
    split: str = "valid",
    settings: Sequence[str] = (),
    *,
    limit: int | None = None,
    tolerance: float = 0.005,
) -> Ladder:
    """The ladder from a float graph file to an exported one, on the data it was trained on."""
    graph = Graph.load(net)
    data = data_of(graph, split, settings, limit)
    return ladder(graph, load(exported), data.events, data.labels, tolerance=tolerance)


def ladder_json(found: Ladder) -> dict[str, Any]:
    """A ladder as plain data."""
    return {
        "rungs": [vars(rung) for rung in found.rungs],
        "drop": found.drop,
        "tolerance": found.tolerance,
        "status": found.status,
    }


def estimate_energy(
    net: PathLike,
    profiles: Sequence[str],
    split: str = "valid",
    settings: Sequence[str] = (),
    *,
    limit: int | None = None,
) -> Estimate:
    """Energy and latency of a graph file on its data."""
    graph = Graph.load(net)
    events = data_of(graph, split, settings, limit).events
    return estimate(graph, events, "all" if list(profiles) == ["all"] else list(profiles))


def energy_table(found: Estimate) -> Table:
    """One row a profile: energy with its range, latency."""
    from rich.table import Table

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
