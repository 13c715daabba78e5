"""Run a Graph: `simulate` for whole recordings, `Engine` for a stream of events."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import backend as backends
from ..errors import DataError, ParameterError
from ..events import EventBatch
from ..files import atomic_h5, open_h5
from ..graph import INPUT, Graph
from ..metadata import Timing
from . import plan as plans
from . import reference
from .core import Core, Source, check_watch, variables_of
from .generators import ArraySource, Generator
from .recording import File, Memory, Spikes, Thinner, Watch, check_run
from .synapses import fan_out

Events = EventBatch | Generator


@dataclass(frozen=True)
class Record:
    """What to record: a variable of chosen neurons.

    variable  a state variable of the neuron, "h" (before the reset), "x" (summed input) or "rate"
              (spikes a neuron and step)
    neurons   flat indices; None for all
    every     keep one step in so many, the first of each; "rate" is averaged over them
    """

    population: str
    variable: str
    neurons: Sequence[int] | None = None
    every: int = 1


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
    complete  False if the run was interrupted (Ctrl-C); everything up to `steps` is there
    """

    spikes: dict[str, EventBatch]
    recorded: dict[tuple[str, str], np.ndarray]
    counts: dict[str, dict[str, np.ndarray]]
    steps: np.ndarray
    dt: float
    complete: bool = True


@dataclass
class _Sample:
    """What one sample leaves behind."""

    memory: Memory
    steps: int = 0
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)


def simulate(
    graph: Graph,
    events: EventBatch | dict[str, Events] | Generator | None = None,
    steps: int | None = None,
    *,
    record: Iterable[str | tuple | Record] = (),
    spikes: Iterable[str] | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    backend: str | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    memory_limit: int | None = None,
    progress: bool = True,
) -> Result:
    """Run every sample of `events` through `graph`.

    events   what the input population gets, or {input population: …}: an `EventBatch`, whose values
             multiply the weights, or a generator
    steps    steps to run; None: each sample's length and the graph's ``metadata["steps_tail"]``
    record   variables to keep: "v" (of every population that has it), (population, variable),
             (population, variable, neurons) or `Record`
    spikes   populations whose spikes to keep; None: all but the inputs
    dtype    "float32", "float64" or "int32" (state in int32, sums in int64); None: by the neurons
    threads  samples run side by side; one sample is cut into as many parts. None: all cores for
             samples, one for a single sample
    backend  "reference", "numba" or "cuda"; None: as `snnkit.backend` says
    seed     of the generators
    out      HDF5 file that spikes and variables are written to as they come, for a run of one sample
             that memory could not hold; the result has the counts, `load_result` reads the file
    progress show a bar on a terminal once the run has taken two seconds
    """
    given = _by_input(graph, events)
    batch = max((len(e) for e in given.values() if isinstance(e, EventBatch)), default=1)
    duration = _durations(graph, given, steps, batch)
    chosen = _backend(backend)
    kept = _kept(graph, spikes)
    threads = _threads(threads, batch)
    make, parts = _core(chosen, threads if batch == 1 else 1)
    threads = 1 if chosen == "cuda" else threads
    copies = min(threads, batch)
    plan = plans.build(graph, dtype, parts=parts, copies=copies, memory_limit=memory_limit)
    watches = _watches(plan, record)
    wide = plan.types.wide

    def sources(b: int) -> dict[str, Source]:
        feeds: dict[str, Source] = {}
        for name, e in given.items():
            if isinstance(e, EventBatch):
                feeds[name] = ArraySource(e[b if len(e) > 1 else 0], wide)
            else:
                feeds[name] = e.source(graph.populations[name].size, graph.dt, b, seed, wide)
        return feeds

    if out is not None and (batch > 1 or chosen == "reference"):
        raise ParameterError(
            "out=… writes runs of one sample on the numba backend; give the samples one by one."
        )
    if chosen == "reference":
        samples = [_reference(plan, sources(b), int(duration[b]), watches, kept) for b in range(batch)]
        return _result(plan, samples, watches, kept, True)
    todo = iter(range(batch))
    lock = threading.Lock()
    done: dict[int, _Sample] = {}

    meter = _Meter(int(duration.sum()), progress)

    def work(stop: threading.Event) -> None:
        core = None
        while not stop.is_set():
            with lock:
                b = next(todo, None)
            if b is None:
                return
            if core is None:
                core = make(plan, watches, kept)
            else:
                core.reset()
            sample = done[b] = _Sample(memory_of())
            memory = sample.memory
            core.run(int(duration[b]), sources(b), memory.spiked, memory.watched, meter.watch(core, stop))
            core.finish(memory.watched)
            sample.steps, sample.counts = core.t, core.tallies()

    def memory_of() -> Memory:
        return Memory(kept, watches) if file is None else File(file, kept, watches)

    with _interruptible() as stop, meter, nullcontext() if out is None else atomic_h5(out) as file:
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
            sizes = {n: graph.populations[n].size for n in kept}
            memory.close(done[0].steps, graph.dt, sizes, complete)
    samples = [done.get(b) or _Sample(Memory(kept, watches)) for b in range(batch)]
    if out is not None:
        return _result(plan, samples, [], frozenset(), complete)
    return _result(plan, samples, watches, kept, complete)


def load_result(path: str | os.PathLike[str]) -> Result:
    """What `simulate(..., out=path)` wrote, in memory; without counts."""
    with open_h5(path) as file:
        check_run(file, path)
        steps = np.array([int(file.attrs["steps"])])
        spikes = {}
        for name, group in file.get("spikes", {}).items():
            times, neurons = group["times"][()], group["neurons"][()]
            values = group["values"][()] if "values" in group else None
            size = int(group.attrs["size"])
            spikes[name] = EventBatch(times, neurons, np.array([0, len(times)]), steps, size, values)
        recorded = {
            (name, variable): data[()][:, None]
            for name, group in file.get("recorded", {}).items()
            for variable, data in group.items()
        }
        return Result(spikes, recorded, {}, steps, float(file.attrs["dt"]), bool(file.attrs["complete"]))


class _Meter:
    """A progress bar that appears after two seconds, on a terminal."""

    AFTER = 2.0

    def __init__(self, total: int, wanted: bool) -> None:
        self.total, self.wanted = total, wanted
        self.started, self.lock = time.monotonic(), threading.Lock()
        self.bar: Any = None
        self.reached: dict[object, int] = {}

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def watch(self, core: Core, stop: threading.Event) -> Callable[[], bool]:
        """What a core calls between chunks: notes how far it is, tells whether to stop."""
        key = object()

        def between() -> bool:
            if self.wanted and time.monotonic() - self.started > self.AFTER:
                with self.lock:
                    self.reached[key] = core.t
                    self._show(sum(self.reached.values()))
            return stop.is_set()

        return between

    def _show(self, steps: int) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.disable = not self.bar.console.is_terminal
            self.task = self.bar.add_task("simulating", total=self.total)
            self.bar.start()
        self.bar.update(self.task, completed=steps)


def _backend(name: str | None) -> str:
    """The backend asked for, here or by `snnkit.backend`; "numba" if none was."""
    wanted = name or backends.requested()
    if wanted == "auto":
        return "numba"
    with backends.use(wanted):
        return backends.choose("simulate", "cuda" if wanted == "cuda" else "cpu")


def _core(chosen: str, threads: int) -> tuple[Callable[[plans.Plan, list[Watch], frozenset[str]], Core], int]:
    """What runs a sample, and in how many partitions the populations are cut for it."""
    if chosen != "cuda":
        return Core, threads
    from .kernels_cuda import PARTS, CudaCore

    return CudaCore, PARTS


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a run ends between two chunks with all it has recorded."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _by_input(graph: Graph, events: Any) -> dict[str, Events]:
    inputs = graph.inputs
    if events is None:
        given: dict[str, Events] = {}
    elif isinstance(events, dict):
        given = events
    elif len(inputs) == 1:
        given = {inputs[0]: events}
    else:
        raise ParameterError(
            f"the graph has {len(inputs)} inputs, {inputs}; give events as {{input: events}}."
        )
    for name, e in given.items():
        if name not in inputs:
            raise ParameterError(f"events for {name!r}, which is no input population; inputs are {inputs}.")
        if isinstance(e, EventBatch):
            if e.size != graph.populations[name].size:
                raise DataError(
                    f"events of {e.size} neurons for input {name!r} of {graph.populations[name].size}."
                )
            e.validate()
        elif not hasattr(e, "source"):
            raise ParameterError(
                f"events for {name!r} are a {type(e).__name__}; give an EventBatch or a generator."
            )
    lengths = {len(e) for e in given.values() if isinstance(e, EventBatch)} - {1}
    if len(lengths) > 1:
        raise DataError(f"the inputs have different numbers of samples: {sorted(lengths)}.")
    return given


def _durations(graph: Graph, given: dict[str, Events], steps: int | None, batch: int) -> np.ndarray:
    if steps is not None:
        if steps < 0:
            raise ParameterError(f"steps must not be negative, got {steps}.")
        return np.full(batch, steps, np.int64)
    lengths = [e.lengths for e in given.values() if isinstance(e, EventBatch)]
    if not lengths:
        raise ParameterError("without an EventBatch there is no length; say how many steps to run.")
    tail = Timing.of(graph.metadata).steps_tail
    return np.max([np.broadcast_to(n, batch) for n in lengths], axis=0) + tail


def _kept(graph: Graph, spikes: Iterable[str] | None) -> frozenset[str]:
    if spikes is None:
        return frozenset(n for n, p in graph.populations.items() if p.neuron != INPUT)
    kept = frozenset([spikes] if isinstance(spikes, str) else spikes)
    unknown = kept - graph.populations.keys()
    if unknown:
        raise ParameterError(
            f"spikes of {sorted(unknown)}: no such population; there are {list(graph.populations)}."
        )
    return kept


def _threads(threads: int | None, batch: int) -> int:
    if threads is None:
        return 1 if batch == 1 else len(os.sched_getaffinity(0))
    if threads < 1:
        raise ParameterError(f"threads must be at least 1, got {threads}.")
    return threads


def _watches(plan: plans.Plan, record: Iterable[str | tuple | Record]) -> list[Watch]:
    watches: dict[tuple[str, str], Watch] = {}
    for item in [record] if isinstance(record, str | Record) else record:
        if isinstance(item, str):
            having = [n for n in plan.graph.populations if item in variables_of(plan, n)]
            if not having:
                raise ParameterError(f"record: no population has a variable {item!r}.")
            entries = [Record(name, item) for name in having]
        else:
            entries = [item if isinstance(item, Record) else Record(*item)]
        for r in entries:
            neurons = None if r.neurons is None else np.asarray(r.neurons, np.int64)
            watches[r.population, r.variable] = check_watch(
                plan, Watch(r.population, r.variable, neurons, r.every)
            )
    return list(watches.values())


def _reference(
    plan: plans.Plan, sources: dict[str, Source], steps: int, watches: list[Watch], kept: frozenset[str]
) -> _Sample:
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
    sample = _Sample(Memory(kept, watches), steps)
    for name in kept:
        times, neurons = np.nonzero(sent[name])
        values = sent[name][times, neurons] if name in inputs else np.zeros(0, types.wide)
        sample.memory.spiked(name, (times, neurons.astype(np.int32), values))
    for w in watches:
        rows = sent[w.population] if w.variable == "rate" else recorded[w.key]
        thinner = Thinner(w)
        sample.memory.watched(w, thinner.feed(0, rows if w.neurons is None else rows[:, w.neurons]))
        rest = thinner.rest()
        if rest is not None:
            sample.memory.watched(w, rest)
    computing = [n for n in graph.populations if n not in inputs]
    events |= {n: sent[n].astype(np.int64) for n in computing}
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


def _result(
    plan: plans.Plan, samples: list[_Sample], watches: list[Watch], kept: frozenset[str], complete: bool
) -> Result:
    graph, types = plan.graph, plan.types
    steps = np.array([s.steps for s in samples], np.int64)
    spikes = {}
    for name in graph.populations:
        if name in kept:
            spikes[name] = _batch(
                [s.memory.spikes[name] for s in samples], steps, graph.populations[name].size
            )
    recorded = {}
    for w in watches:
        size = graph.populations[w.population].size if w.neurons is None else len(w.neurons)
        pieces = [s.memory.rows[w.key] for s in samples]
        kind = pieces[0][0].dtype if pieces and pieces[0] else types.state
        lengths = [sum(len(rows) for rows in piece) for piece in pieces]
        table = recorded[w.key] = np.zeros((max(lengths, default=0), len(samples), size), kind)
        for b, piece in enumerate(pieces):
            if piece:
                table[: lengths[b], b] = np.concatenate(piece)
    counts: dict[str, dict[str, np.ndarray]] = {}
    example = next((s.counts for s in samples if s.counts), {})
    for kind_, entries in example.items():
        number = np.float64 if kind_ == "spike_sum" else np.int64
        counts[kind_] = {
            k: np.array([s.counts[kind_][k] if s.counts else 0 for s in samples], number) for k in entries
        }
    return Result(spikes, recorded, counts, steps, graph.dt, complete)


def _batch(pieces: list[list[Spikes]], lengths: np.ndarray, size: int) -> EventBatch:
    times = [p[0] for piece in pieces for p in piece]
    neurons = [p[1] for piece in pieces for p in piece]
    offsets = np.concatenate([[0], np.cumsum([sum(len(p[0]) for p in piece) for piece in pieces])])
    values = None
    if any(len(p[2]) for piece in pieces for p in piece):
        values = np.concatenate(
            [p[2] if len(p[2]) else np.ones(len(p[0]), np.float32) for piece in pieces for p in piece]
        )
    return EventBatch(
        np.concatenate(times) if times else np.zeros(0, np.int64),
        np.concatenate(neurons) if neurons else np.zeros(0, np.int32),
        offsets.astype(np.int64),
        lengths,
        size,
        values,
    )


class Engine:
    """A network that runs along with its input.

        engine = Engine(graph)
        engine.push(events)            # spikes of coming steps
        result = engine.advance(100)   # runs to step 100, returns what happened since the last call

    The spikes are those of `simulate` over the whole, bit for bit, however the input is cut. Memory
    is bounded: what was handed out is forgotten.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        record: Iterable[str | tuple | Record] = (),
        spikes: Iterable[str] | None = None,
        generators: dict[str, Generator] | None = None,
        dtype: str | None = None,
        threads: int = 1,
        backend: str | None = None,
        seed: int = 0,
        max_delay: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        """generators feed inputs that are not pushed; the rest is as for `simulate`.

        max_delay: the longest delay, in steps, that the rings are made for.
        """
        chosen = _backend(backend)
        if chosen == "reference":
            raise ParameterError("Engine: the reference runs whole recordings only; use simulate.")
        make, parts = _core(chosen, _threads(threads, 1))
        self.plan = plans.build(graph, dtype, parts=parts, max_delay=max_delay, memory_limit=memory_limit)
        self.graph = graph
        self.kept = _kept(graph, spikes)
        self.watches = _watches(self.plan, record)
        self.generators = _by_input(graph, generators or {})
        self.seed = seed
        self.core = make(self.plan, self.watches, self.kept)
        self.reset()

    @property
    def t(self) -> int:
        """The next step to be run."""
        return self.core.t

    def reset(self) -> None:
        """Back to step 0, without input."""
        self.core.reset()
        wide = self.plan.types.wide
        self.queues: dict[str, _Queue] = {}
        self.sources: dict[str, Source] = {}
        for name in self.graph.inputs:
            size = self.graph.populations[name].size
            if name in self.generators:
                generator = self.generators[name]
                assert not isinstance(generator, EventBatch)
                self.sources[name] = generator.source(size, self.graph.dt, 0, self.seed, wide)
            else:
                self.sources[name] = self.queues[name] = _Queue(name, size, wide)

    def push(self, events: EventBatch | dict[str, EventBatch]) -> None:
        """Add input: a batch of one sample, times in steps since `reset`.

        A spike must not lie before `t` nor before one pushed earlier: `DataError`.
        """
        for name, batch in _by_input(self.graph, events).items():
            if name not in self.queues:
                raise ParameterError(f"input {name!r} is fed by a generator; nothing can be pushed to it.")
            if not isinstance(batch, EventBatch) or len(batch) != 1:
                raise ParameterError(f"push takes an EventBatch of one sample for {name!r}.")
            self.queues[name].push(batch, self.t)

    def advance(self, until: int) -> Result:
        """Run steps `t`:`until`; what happened in them. Times count from the last `reset`."""
        if until < self.t:
            raise ParameterError(
                f"advance to step {until}, but step {self.t} is reached already; reset first."
            )
        first = self.t
        before = self.core.tallies() if first else None
        sample = _Sample(Memory(self.kept, self.watches))
        with _interruptible() as stop:
            self.core.run(
                until,
                self.sources,
                sample.memory.spiked,
                sample.memory.watched,
                stop.is_set,
            )
        sample.steps = self.t - first
        sample.counts = self.core.tallies()
        if before is not None:
            sample.counts = {
                kind: {k: v - before[kind][k] for k, v in entries.items()}
                for kind, entries in sample.counts.items()
            }
        result = _result(self.plan, [sample], self.watches, self.kept, not stop.is_set())
        for batch in result.spikes.values():
            batch.lengths = np.array([self.t])
        return result


class _Queue:
    """Pushed spikes that are still to come."""

    def __init__(self, name: str, size: int, dtype: Any) -> None:
        self.name, self.size, self.dtype = name, size, dtype
        self.waiting: list[ArraySource] = []
        self.last = -1

    def push(self, batch: EventBatch, now: int) -> None:
        if not len(batch.times):
            return
        first = int(batch.times[0])
        if first < now or first < self.last:
            reached = (
                f"step {now} is reached already" if first < now else f"step {self.last} was pushed before"
            )
            raise DataError(
                f"input {self.name!r}: a spike of step {first}, but {reached}; push in order of time."
            )
        self.last = int(batch.times[-1])
        self.waiting.append(ArraySource(batch, self.dtype))

    def events(self, start: int, stop: int) -> Spikes:
        pieces = [s.events(start, stop) for s in self.waiting]
        self.waiting = [s for s in self.waiting if s.times[-1] >= stop]
        pieces = [p for p in pieces if len(p[0])]
        if len(pieces) == 1:
            return pieces[0]
        if not pieces:
            return np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, self.dtype)
        times, neurons = (np.concatenate([p[k] for p in pieces]) for k in (0, 1))
        if not any(len(p[2]) for p in pieces):
            return times, neurons, pieces[0][2]
        values = [p[2] if len(p[2]) else np.ones(len(p[0]), self.dtype) for p in pieces]
        return times, neurons, np.concatenate(values)
