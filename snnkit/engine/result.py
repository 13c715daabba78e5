"""What a run gives, put together from what its samples left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..events import EventBatch
from ..files import PathLike, open_h5
from .plan import Plan
from .recording import Memory, Recording, Spikes, check_run


@dataclass
class Result:
    """What a run gave.

    spikes    population → its spikes; `lengths` are the steps that were run. By default of every
              population but the inputs
    recorded  (population, variable) → ``[T, B, n]``, zero behind a sample's last step
    counts    kind → population or projection → int64 [B]:

        spikes            events of a population (an input's event with a value counts once)
        spike_sum         the same, each counted with its value (float64)
        updates           neurons × steps of a population
        updates_done      the same without the steps that were skipped because nothing could change
        synops            spikes × synapses stored, of a projection
        synops_effective  spikes × synapses of weight ≠ 0
        ring_writes       additions to the ring of a projection
        ring_reads        places read from (and emptied in) it

    steps     int64 [B], steps that were run
    dt        length of a step, ms
    complete  False if the run was interrupted (Ctrl-C); everything up to `steps` is there
    """

    spikes: dict[str, EventBatch]
    recorded: dict[tuple[str, str], np.ndarray]
    counts: dict[str, dict[str, np.ndarray]]
    steps: np.ndarray
    dt: float
    complete: bool = True


def load_result(path: PathLike) -> Result:
    """What `simulate(..., out=path)` wrote, in memory; without counts.

    Raises `DataError` for a file that is missing, damaged or not of a run.
    """
    with open_h5(path) as file:
        check_run(file, path)
        steps = np.array([int(file.attrs["steps"])])
        spikes = {}
        for name, group in file.get("spikes", {}).items():
            times, neurons = group["times"][()], group["neurons"][()]
            values = group["values"][()] if "values" in group else None
            spikes[name] = EventBatch(
                times=times,
                neurons=neurons,
                offsets=np.array([0, len(times)]),
                lengths=steps,
                size=int(group.attrs["size"]),
                values=values,
            )
        recorded = {
            (name, variable): data[()][:, None]
            for name, group in file.get("recorded", {}).items()
            for variable, data in group.items()
        }
        return Result(
            spikes=spikes,
            recorded=recorded,
            counts={},
            steps=steps,
            dt=float(file.attrs["dt"]),
            complete=bool(file.attrs["complete"]),
        )


@dataclass
class Sample:
    """What one sample leaves behind: what was kept, steps that were run, kind → name → count."""

    memory: Memory
    steps: int = 0
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)


def gather(plan: Plan, samples: list[Sample], recording: Recording, complete: bool) -> Result:
    """The result of a run from its samples, in their order."""
    graph, types = plan.graph, plan.types
    steps = np.array([s.steps for s in samples], np.int64)
    spikes = {
        name: _joined([s.memory.spikes[name] for s in samples], steps, population.size)
        for name, population in graph.populations.items()
        if name in recording.spikes
    }
    recorded = {}
    for w in recording.watches:
        size = graph.populations[w.population].size if w.neurons is None else len(w.neurons)
        pieces = [s.memory.rows[w.key] for s in samples]
        dtype = pieces[0][0].dtype if pieces and pieces[0] else types.state
        lengths = [sum(len(rows) for rows in piece) for piece in pieces]
        table = recorded[w.key] = np.zeros((max(lengths, default=0), len(samples), size), dtype)
        for b, piece in enumerate(pieces):
            if piece:
                table[: lengths[b], b] = np.concatenate(piece)
    counts: dict[str, dict[str, np.ndarray]] = {}
    example = next((s.counts for s in samples if s.counts), {})
    for kind, entries in example.items():
        number = np.float64 if kind == "spike_sum" else np.int64
        counts[kind] = {
            k: np.array([s.counts[kind][k] if s.counts else 0 for s in samples], number) for k in entries
        }
    return Result(
        spikes=spikes, recorded=recorded, counts=counts, steps=steps, dt=graph.dt, complete=complete
    )


def _joined(pieces: list[list[Spikes]], lengths: np.ndarray, size: int) -> EventBatch:
    """The pieces of each sample, in the order of time, as one batch; lengths int64 [B], steps."""
    every = [p for piece in pieces for p in piece]
    offsets = np.concatenate([[0], np.cumsum([sum(len(p.times) for p in piece) for piece in pieces])])
    values = None
    if any(len(p.values) for p in every):
        values = np.concatenate([p.weighted(np.float32) for p in every])
    return EventBatch(
        times=np.concatenate([p.times for p in every]) if every else np.zeros(0, np.int64),
        neurons=np.concatenate([p.neurons for p in every]) if every else np.zeros(0, np.int32),
        offsets=offsets.astype(np.int64),
        lengths=lengths,
        size=size,
        values=values,
    )
