"""Whole recordings through a Graph, samples side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, Unpack

import numpy as np

from ..errors import ParameterError
from ..events import EventBatch
from ..files import PathLike, atomic_h5
from ..graph import Graph
from . import reference
from .arguments import (
    Computing,
    Events,
    Record,
    by_input,
    computing_of,
    core_of,
    durations_of,
    recording_of,
    threads_of,
)
from .core import Source
from .generators import ArraySource, Generator, seed_of
from .plan import Plan, build
from .progress import Meter, interruptible
from .recording import File, Memory, Recording, Spikes, Thinner
from .result import Result, Sample, gather
from .synapses import fan_out


def simulate(
    graph: Graph,
    events: EventBatch | dict[str, Events] | Generator | None = None,
    steps: int | None = None,
    *,
    record: Iterable[str | tuple | Record] = (),
    spikes: Iterable[str] | None = None,
    threads: int | None = None,
    out: PathLike | None = None,
    progress: bool = True,
    **computing: Unpack[Computing],
) -> Result:
    """Run every sample of `events` through `graph`.

    events   what the input population gets, or {input population: …}: an `EventBatch`, whose values
             multiply the weights, or a generator
    steps    steps to run; None: each sample's length and the graph's ``metadata["steps_tail"]``
    record   variables to keep: "v" (of every population that has it), (population, variable),
             (population, variable, neurons) or `Record`; requests of one variable are joined
    spikes   populations whose spikes to keep; None: all but the inputs
    threads  samples run side by side; one sample is cut into as many parts. None: all cores for
             samples, one for a single sample
    out      HDF5 file that spikes and variables are written to as they come, for a run of one sample
             that memory could not hold; the result has the counts, `load_result` reads the file
    progress show a bar on a terminal once the run has taken two seconds
    dtype, backend, seed, memory_limit  see `snnkit.engine.arguments.Computing`

    Raises `GraphError`, `ParameterError` or `DataError` naming what does not fit the graph, and
    `TooLargeError` before anything is allocated that memory (or `memory_limit`, bytes) can't hold.
    """
    given = by_input(graph, events)
    batch = max((len(e) for e in given.values() if isinstance(e, EventBatch)), default=1)
    duration = durations_of(graph, given, steps, batch)
    dtype, chosen, seed, memory_limit = computing_of(**computing)
    recording = recording_of(graph, spikes, record)
    threads = threads_of(threads, batch)
    make, parts = core_of(chosen, threads if batch == 1 else 1)
    threads = 1 if chosen == "cuda" else threads
    copies = min(threads, batch)
    plan = build(graph, dtype, parts=parts, copies=copies, memory_limit=memory_limit)
    wide = plan.types.wide

    def sources(b: int) -> dict[str, Source]:
        feeds: dict[str, Source] = {}
        for name, e in given.items():
            if isinstance(e, EventBatch):
                feeds[name] = ArraySource(e[b if len(e) > 1 else 0], wide)
            else:
                size, own = graph.populations[name].size, seed_of(seed, name)
                feeds[name] = e.source(size, graph.dt, b, own, wide)
        return feeds

    if out is not None and (batch > 1 or chosen == "reference"):
        raise ParameterError(
            "out=… writes runs of one sample on the numba backend; give the samples one by one."
        )
    if chosen == "reference":
        samples = [_reference(plan, sources(b), int(duration[b]), recording) for b in range(batch)]
        return gather(plan, samples, recording, True)
    todo = iter(range(batch))
    lock = threading.Lock()
    done: dict[int, Sample] = {}

    meter = Meter(int(duration.sum()), progress)

    def work(stop: threading.Event) -> None:
        core = None
        while not stop.is_set():
            with lock:
                b = next(todo, None)
            if b is None:
                return
            if core is None:
                core = make(plan, recording)
            else:
                core.reset()
            sample = done[b] = Sample(memory_of())
            memory = sample.memory
            core.run(int(duration[b]), sources(b), memory.spiked, memory.watched, meter.watch(core, stop))
            core.finish(memory.watched)
            sample.steps, sample.counts = core.t, core.tallies()

    def memory_of() -> Memory:
        return Memory(recording) if file is None else File(file, recording)

    with interruptible() as stop, meter, nullcontext() if out is None else atomic_h5(out) as file:
        if threads == 1 or batch == 1:
            work(stop)
        else:
            with ThreadPoolExecutor(min(threads, batch)) as pool:
                for future in [pool.submit(work, stop) for _ in range(min(threads, batch))]:
                    future.result()
        complete = not stop.is_set()
        if file is not None:
            memory = done[0].memory
            assert isinstance(memory, File)
            sizes = {n: graph.populations[n].size for n in recording.spikes}
            memory.close(done[0].steps, graph.dt, sizes, complete)
    samples = [done.get(b) or Sample(Memory(recording)) for b in range(batch)]
    return gather(plan, samples, recording if out is None else Recording(), complete)


def _reference(plan: Plan, sources: dict[str, Source], steps: int, recording: Recording) -> Sample:
    """One sample by `reference.run`, kept and counted as a core does it."""
    graph, types = plan.graph, plan.types
    inputs, events = {}, {}
    for name in graph.inputs:
        inputs[name] = np.zeros((steps, graph.populations[name].size), types.wide)
        events[name] = np.zeros_like(inputs[name], np.int64)
        if name in sources:
            times, neurons, values = sources[name].events(0, steps)
            np.add.at(inputs[name], (times, neurons), values if len(values) else 1)
            np.add.at(events[name], (times, neurons), 1)
    sent, recorded = reference.run(graph, inputs, steps, types.state)
    sample = Sample(Memory(recording), steps)
    for name in recording.spikes:
        times, neurons = np.nonzero(sent[name])
        carried = name in inputs or plan.units[name].neuron.counts
        values = sent[name][times, neurons] if carried else np.zeros(0, types.wide)
        sample.memory.spiked(name, Spikes(times, neurons.astype(np.int32), values))
    for w in recording.watches:
        rows = sent[w.population] if w.variable == "rate" else recorded[w.key]
        thinner = Thinner(w)
        sample.memory.watched(w, thinner.feed(0, rows if w.neurons is None else rows[:, w.neurons]))
        rest = thinner.rest()
        if rest is not None:
            sample.memory.watched(w, rest)
    computing = [n for n in graph.populations if n not in inputs]
    events |= {n: (sent[n] != 0).astype(np.int64) for n in computing}
    updates = {n: steps * graph.populations[n].size for n in computing}
    synops: dict[str, Any] = {"synops": {}, "synops_effective": {}, "ring_writes": {}, "ring_reads": {}}
    for p in graph.projections:
        stored, effective = fan_out(graph, p)
        total = events[p.source].sum(0)
        synops["synops"][p.name] = synops["ring_writes"][p.name] = int(total @ stored)
        synops["synops_effective"][p.name] = int(total @ effective)
        synops["ring_reads"][p.name] = updates[p.target]
    sample.counts = {
        "spikes": {n: int(e.sum()) for n, e in events.items()},
        "spike_sum": {n: float(s.sum()) for n, s in sent.items()},
        "updates": updates,
        "updates_done": updates,
        **synops,
    }
    return sample
