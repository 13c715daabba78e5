"""Run a network on real inputs and count its operations."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence

import numpy as np

from ..engine import simulate
from ..engine.readout import slice_of
from ..errors import ParameterError
from ..events import EventBatch
from ..graph import INPUT, Graph
from ..metadata import Timing
from ..neurons import resolve
from .counting import count
from .counts import Counts, concatenate
from .mapping import Mapping

Events = EventBatch | MappingType[str, EventBatch]
RECORD_BYTES = 1 << 28
"""Potentials of so many bytes are held at once; larger batches are run in pieces."""


def measure(
    graph: Graph,
    events: Events,
    *,
    lengths: np.ndarray | None = None,
    mapping: Mapping | None = None,
    dtype: str | None = None,
) -> Counts:
    """Counts of a network on real inputs, by the engine.

    events   what the input population gets, or {input population: …}
    lengths  steps of each sample that hold input ``[B]``; default: the batch's own. The graph's
             ``metadata["steps_tail"]`` is added, since those steps are run too
    mapping  neurons → cores: from `place`, or a `Mapping` by hand

    Raises `ParameterError` if there are no samples, if it is not said which input the events are for, or
    if the lengths are not those of the samples; and what `count` and `simulate` raise.
    """
    return measure_mappings(graph, events, [mapping], lengths=lengths, dtype=dtype)[0]


def measure_mappings(
    graph: Graph,
    events: Events,
    mappings: Sequence[Mapping | None],
    *,
    lengths: np.ndarray | None = None,
    dtype: str | None = None,
) -> list[Counts]:
    """Counts under each mapping, from one run; see `measure`."""
    given = _by_input(graph, events, lengths)
    batch = max(len(e) for e in given.values())
    states = [
        (name, variable)
        for name, population in graph.populations.items()
        if population.neuron != INPUT
        for variable in resolve(population.neuron, population.options).state
    ]
    longest = max(int(e.lengths.max(initial=0)) for e in given.values())
    longest += Timing.of(graph.metadata).steps_tail
    width = sum(graph.populations[name].size for name, _ in states)
    chunk = max(1, min(batch, RECORD_BYTES // max(8 * longest * width, 1)))
    parts: list[list[Counts]] = [[] for _ in mappings]
    for start in range(0, batch, chunk):
        stop = min(start + chunk, batch)
        piece = {n: e if len(e) < batch else slice_of(e, start, stop) for n, e in given.items()}
        result = simulate(graph, dict(piece), record=states, spikes=list(graph.populations), dtype=dtype)
        for into, mapping in zip(parts, mappings, strict=True):
            into.append(count(graph, result.spikes, result.recorded, lengths=result.steps, mapping=mapping))
    return [concatenate(p) for p in parts]


def _by_input(graph: Graph, events: Events, lengths: np.ndarray | None) -> dict[str, EventBatch]:
    """Input population → its events, cut to ``lengths [B]``."""
    if isinstance(events, EventBatch):
        if len(graph.inputs) != 1:
            raise ParameterError(f"the graph has inputs {graph.inputs}; give events as {{input: events}}.")
        events = {graph.inputs[0]: events}
    given = dict(events)
    if not given or not all(len(e) for e in given.values()):
        raise ParameterError("there are no samples to measure; give at least one.")
    if lengths is not None:
        for name, e in given.items():
            shape = np.shape(lengths)
            if shape != (len(e),):
                raise ParameterError(f"lengths has shape {shape} for {len(e)} samples of input {name!r}.")
            given[name] = _cut(e, np.asarray(lengths, np.int64))
    return given


def _cut(e: EventBatch, lengths: np.ndarray) -> EventBatch:
    """The events that lie before each sample's new length ``[B]``."""
    sample = np.repeat(np.arange(len(e)), np.diff(e.offsets))
    inside = e.times < lengths[sample]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(sample[inside], minlength=len(e)))])
    values = None if e.values is None else e.values[inside]
    return EventBatch(e.times[inside], e.neurons[inside], offsets, lengths, e.size, values)
