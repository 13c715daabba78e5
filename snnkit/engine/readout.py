"""From a run of a Graph to class scores, in NumPy, for float and integer networks alike.

The graph's metadata say how (`snnkit.metadata`); what a read-out computes stands in `snnkit.readouts`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import GraphError, ParameterError
from ..events import EventBatch
from ..graph import Graph
from ..metadata import Readout, Timing, Units
from ..readouts import READOUTS, Rule
from .result import Result
from .simulate import simulate


def output_of(graph: Graph) -> str:
    """The one output population. Raises `GraphError` if there are more or none."""
    if len(graph.outputs) != 1:
        raise GraphError(f"a class is read from one output population; the graph has {graph.outputs}.")
    return graph.outputs[0]


def rule_of(graph: Graph) -> Rule:
    """The read-out that the graph's metadata name. Raises `ParameterError` if it is none of `READOUTS`."""
    kind = Readout.of(graph.metadata).kind
    if kind not in READOUTS:
        raise ParameterError(f"read-out {kind!r} is none of {', '.join(READOUTS)}.")
    return READOUTS[kind]


def recorded(graph: Graph) -> list[tuple[str, str]]:
    """What `simulate` must record for `classify`."""
    return [] if rule_of(graph).of_spikes else [(output_of(graph), "v")]


def classify(result: Result, graph: Graph, lengths: np.ndarray) -> np.ndarray:
    """Scores ``[B, C]`` of a run; the prediction is their argmax.

    result   of `snnkit.engine.simulate`, with v of the output recorded (unless spikes are counted)
    lengths  int [B], steps of input of each sample; what comes before or after does not count
    """
    rule, values = rule_of(graph), read_out(result, graph)
    timing = Timing.of(graph.metadata)
    last = np.asarray(lengths) + timing.steps_tail  # the tail has the latency in it
    steps = np.arange(len(values))[:, None]
    return rule(values, (steps >= timing.latency) & (steps < last[None]))


def read_out(result: Result, graph: Graph) -> np.ndarray:
    """What scores are made of, float64 [T, B, C]: spikes, or potentials in the float network's units."""
    name = output_of(graph)
    if rule_of(graph).of_spikes:
        return result.spikes[name].to_dense(dtype=np.float64)
    scale = np.asarray(Units.of(graph.metadata).scale.get(name, 1.0), np.float64).reshape(-1)
    return np.asarray(result.recorded[name, "v"].astype(np.float64) / scale)


def hits(values: np.ndarray, lengths: np.ndarray, targets: np.ndarray) -> tuple[int, int]:
    """Of a class in every step: how many steps have their class's output highest, and how many count.

    values   [T, B, C], as `read_out` gives it, from the network's `Timing.latency` on
    lengths  int [B], steps of input of each sample; what comes after is padding
    targets  int [B, T], negative in a step that does not count
    """
    steps = min(len(values), targets.shape[1])
    wanted = targets.T[:steps]
    counts = (np.arange(steps)[:, None] < np.asarray(lengths)) & (wanted >= 0)
    return int((values[:steps].argmax(2) == wanted)[counts].sum()), int(counts.sum())


def tied(scores: np.ndarray) -> int:
    """Samples of the scores [B, C] whose highest several classes share."""
    return int(((scores == scores.max(1, keepdims=True)).sum(1) > 1).sum())


def scores(graph: Graph, events: EventBatch, batch: int = 64, **options: Any) -> np.ndarray:
    """Scores ``[B, C]`` of all samples, `batch` at a time."""
    kept = [output_of(graph)]
    rows = []
    for start in range(0, len(events), batch):
        part = slice_of(events, start, min(start + batch, len(events)))
        result = simulate(graph, part, record=recorded(graph), spikes=kept, **options)
        rows.append(classify(result, graph, part.lengths))
    return np.concatenate(rows)


def slice_of(events: EventBatch, start: int, stop: int) -> EventBatch:
    """Samples start:stop."""
    lo, hi = events.offsets[start], events.offsets[stop]
    return EventBatch(
        events.times[lo:hi],
        events.neurons[lo:hi],
        events.offsets[start : stop + 1] - lo,
        events.lengths[start:stop],
        events.size,
        None if events.values is None else events.values[lo:hi],
    )


def accuracy(graph: Graph, events: EventBatch, labels: np.ndarray, **options: Any) -> float:
    """Share of samples whose highest score is their label; labels int [B]."""
    return float((scores(graph, events, **options).argmax(1) == np.asarray(labels)).mean())
