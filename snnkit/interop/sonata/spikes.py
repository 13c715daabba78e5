"""SONATA's spike files: spikes of a simulation, and those that feed one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from ...errors import DataError, ExportError, ParameterError, listed
from ...events import EventBatch
from ...files import PathLike, atomic_h5
from ...graph import Graph
from .rows import column, integers, opened

TIC = 1e-3
"""NEST's resolution of time, ms: times nearer to a step than half of it are on it."""

ORDERS = {"none": 0, "by_id": 1, "by_time": 2}
"""Values of attribute `sorting`."""


def read_spikes(path: PathLike, graph: Graph, population: str, steps: int | None = None) -> EventBatch:
    """The spikes of a population of a SONATA `graph`, one sample.

    steps  length of the sample: spikes of later steps are not read; None: it ends with the last spike

    NEST dates a spike by the end of its step: a time t (ms) with k·dt < t ≤ (k + 1)·dt is step k. Several
    spikes of a neuron in a step remain several.

    Raises `DataError` naming file and place for what is missing, not in ms, at or before 0 ms, or of a node
    that is not there; `ParameterError` for a population that came from no SONATA file.
    """
    name, ids = _origin(graph, population)
    with opened(path) as file:
        group, where = _group(file, path, name)
        key = next((k for k in ("node_ids", "gids") if k in group), "node_ids")
        nodes = integers(group, key, where)
        times = column(group, "timestamps", where, "iuf", len(nodes)).astype(float)
        units = group["timestamps"].attrs.get("units", "ms")
        units = units.decode() if isinstance(units, bytes) else units
    if units not in ("ms", "milliseconds"):
        raise DataError(f"{where}/timestamps: units are {units!r}, expected 'ms'.")
    wrong = ~(np.isfinite(times) & (times > 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{where}/timestamps[{row}] is {times[row]}; a spike comes after 0 ms.")
    total = int(ids.max()) + 1 if ids is not None else graph.populations[population].size
    count = _number_of_nodes(graph, name) if ids is not None else total
    if nodes.max(initial=-1) >= count:
        row = int(np.argmax(nodes >= count))
        raise DataError(f"{where}/{key}[{row}] is {nodes[row]}; {name!r} has {count} nodes.")
    if ids is None:
        neurons = nodes
    else:
        place = np.full(count, -1)
        place[ids] = np.arange(len(ids))
        neurons = place[nodes]
        times, neurons = times[neurons >= 0], neurons[neurons >= 0]
    k = times / graph.dt
    nearest = np.round(k)
    on_step = np.abs(k - nearest) * graph.dt <= TIC / 2
    step = np.where(on_step, np.maximum(nearest, 1), np.ceil(k)).astype(np.int64) - 1
    length = int(step.max(initial=-1)) + 1 if steps is None else int(steps)
    if length < 1 and steps is not None:
        raise ParameterError(f"steps must be at least 1, got {steps}.")
    kept = step < length
    order = np.lexsort((neurons[kept], step[kept]))
    return EventBatch(
        times=step[kept][order],
        neurons=neurons[kept][order],
        offsets=np.array([0, int(kept.sum())]),
        lengths=np.array([length]),
        size=graph.populations[population].size,
    ).validate()


def write_spikes(path: PathLike, graph: Graph, spikes: Mapping[str, EventBatch]) -> None:
    """Write spikes of populations of a SONATA `graph` to a SONATA file, sorted by time.

    spikes  population → one sample, such as `Result.spikes`; a spike of step k is dated (k + 1)·dt ms

    Raises `ParameterError` for a batch of several samples and for a population that came from no SONATA file,
    `ExportError` for spikes that carry values.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for population, events in spikes.items():
        name, ids = _origin(graph, population)
        events.validate()
        if len(events) != 1:
            raise ParameterError(
                f"{population!r}: {len(events)} samples; a SONATA file holds one. Take events[b]."
            )
        if events.values is not None and (events.values != 1).any():
            raise ExportError(f"{population!r}: spikes carry values, for which SONATA has no place.")
        nodes = events.neurons if ids is None else ids[events.neurons]
        found.setdefault(name, []).append((events.times, nodes))
    kind = h5py.enum_dtype(ORDERS, basetype="u1")
    with atomic_h5(path) as file:
        for name, pieces in found.items():
            times, nodes = (np.concatenate(part) for part in zip(*pieces, strict=True))
            order = np.lexsort((nodes, times))
            group = file.create_group(f"spikes/{name}")
            group.attrs.create("sorting", ORDERS["by_time"], dtype=kind)
            stamps = group.create_dataset("timestamps", data=(times[order] + 1) * float(graph.dt))
            stamps.attrs["units"] = "ms"
            group.create_dataset("node_ids", data=nodes[order].astype(np.uint64))


def _origin(graph: Graph, population: str) -> tuple[str, np.ndarray | None]:
    """The node population of a population of the graph, and the ids of its neurons (None: all, in order)."""
    known: dict[str, dict[str, Any]] = graph.metadata.get("sonata", {})
    if population not in known:
        raise ParameterError(
            f"population {population!r} came from no SONATA file; "
            + (
                f"{listed(map(repr, known))} did."
                if known
                else "`snnkit.interop.sonata.read` makes such graphs."
            )
        )
    ids = known[population]["ids"]
    return known[population]["nodes"], None if ids is None else np.asarray(ids, np.int64)


def _number_of_nodes(graph: Graph, name: str) -> int:
    known = graph.metadata["sonata"]
    return sum(graph.populations[p].size for p, said in known.items() if said["nodes"] == name)


def _group(file: h5py.File, path: PathLike, name: str) -> tuple[h5py.Group, str]:
    """The spikes of a node population; older files keep those of their only one in /spikes itself."""
    top = file.get("spikes")
    if not isinstance(top, h5py.Group):
        raise DataError(f"{path}: /spikes is missing; this is no SONATA file of spikes.")
    if isinstance(top.get("timestamps"), h5py.Dataset):
        return top, f"{path}: /spikes"
    if not isinstance(top.get(name), h5py.Group):
        raise DataError(
            f"{path}: /spikes/{name} is missing; there are {listed(map(repr, top)) if len(top) else 'none'}."
        )
    return top[name], f"{path}: /spikes/{name}"
