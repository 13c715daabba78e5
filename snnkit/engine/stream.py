"""A network that runs along with its input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

import numpy as np

from ..errors import DataError, ParameterError
from ..events import EventBatch
from ..graph import Graph
from .arguments import Computing, Record, by_input, computing_of, core_of, recording_of, threads_of
from .core import Source
from .generators import ArraySource, Generator, seed_of
from .plan import build
from .progress import interruptible
from .recording import Memory, Spikes
from .result import Result, Sample, gather


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
        threads: int = 1,
        max_delay: int | None = None,
        **computing: Unpack[Computing],
    ) -> None:
        """As for `simulate`, and:

        generators  {input population: generator} for inputs that nothing is pushed to
        max_delay   the longest delay, in steps, that the rings are made for
        """
        dtype, chosen, self.seed, memory_limit = computing_of(**computing)
        if chosen == "reference":
            raise ParameterError("Engine: the reference runs whole recordings only; use simulate.")
        make, parts = core_of(chosen, threads_of(threads, 1))
        self.plan = build(graph, dtype, parts=parts, max_delay=max_delay, memory_limit=memory_limit)
        self.graph = graph
        self.recording = recording_of(graph, spikes, record)
        self.generators = by_input(graph, generators or {})
        self.core = make(self.plan, self.recording)
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
                own = seed_of(self.seed, name)
                self.sources[name] = generator.source(size, self.graph.dt, 0, own, wide)
            else:
                self.sources[name] = self.queues[name] = _Queue(name, size, wide)

    def push(self, events: EventBatch | dict[str, EventBatch]) -> None:
        """Add input: a batch of one sample, times in steps since `reset`.

        A spike must not lie before `t` nor before one pushed earlier: `DataError`.
        """
        for name, batch in by_input(self.graph, events).items():
            if name not in self.queues:
                raise ParameterError(f"input {name!r} is fed by a generator; nothing can be pushed to it.")
            if not isinstance(batch, EventBatch) or len(batch) != 1:
                raise ParameterError(f"push takes an EventBatch of one sample for {name!r}.")
            self.queues[name].push(batch, self.t)

    def advance(self, until: int) -> Result:
        """Run steps `t`:`until`; what happened in them. Times count from the last `reset`.

        Raises `ParameterError` if `until` lies before `t`.
        """
        if until < self.t:
            raise ParameterError(
                f"advance to step {until}, but step {self.t} is reached already; reset first."
            )
        first = self.t
        before = self.core.tallies() if first else None
        sample = Sample(Memory(self.recording))
        with interruptible() as stop:
            self.core.run(until, self.sources, sample.memory.spiked, sample.memory.watched, stop.is_set)
        sample.steps = self.t - first
        sample.counts = self.core.tallies()
        if before is not None:
            sample.counts = {
                kind: {k: v - before[kind][k] for k, v in entries.items()}
                for kind, entries in sample.counts.items()
            }
        result = gather(self.plan, [sample], self.recording, not stop.is_set())
        for batch in result.spikes.values():
            batch.lengths = np.array([self.t])
        return result


class _Queue:
    """Pushed spikes that are still to come; a `Source`."""

    def __init__(self, name: str, size: int, dtype: Any) -> None:
        self.name, self.size, self.dtype = name, size, dtype
        self.waiting: list[ArraySource] = []
        self.last = -1

    def push(self, batch: EventBatch, now: int) -> None:
        """Add spikes, none before step `now` nor before those pushed earlier: `DataError`."""
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
        """Spikes of steps start:stop; forgets pieces that end before `stop`."""
        pieces = [s.events(start, stop) for s in self.waiting]
        self.waiting = [s for s in self.waiting if s.times[-1] >= stop]
        pieces = [p for p in pieces if len(p.times)]
        if len(pieces) == 1:
            return pieces[0]
        if not pieces:
            return Spikes(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, self.dtype))
        values = pieces[0].values
        if any(len(p.values) for p in pieces):
            values = np.concatenate([p.weighted(self.dtype) for p in pieces])
        times, neurons = (np.concatenate([getattr(p, k) for p in pieces]) for k in ("times", "neurons"))
        return Spikes(times, neurons, values)
