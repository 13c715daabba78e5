"""From a run of a Graph to class scores, in NumPy, for float and integer networks alike.

The graph's metadata say how: "readout", "steps_tail", and for a network on a chip "latency" (steps
from an input to its first effect on the output) and "scale" (units of v per unit of the float v).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import GraphError, ParameterError
from ..events import EventBatch
from ..graph import Graph
from .result import Result
from .simulate import simulate

READOUTS = ("softmax_sum", "max_over_time", "last_step", "mean", "spike_count")


def output_of(graph: Graph) -> str:
    """The one output population. Raises `GraphError` if there are more or none."""
    if len(graph.outputs) != 1:
        raise GraphError(f"a class is read from one output population; the graph has {graph.outputs}.")
    return graph.outputs[0]


def recorded(graph: Graph) -> list[tuple[str, str]]:
    """What `simulate` must record for `classify`."""
    return [] if graph.metadata.get("readout") == "spike_count" else [(output_of(graph), "v")]


def classify(result: Result, graph: Graph, lengths: np.ndarray) -> np.ndarray:
    """Scores ``[B, C]`` of a run; the prediction is their argmax.

    result   of `snnkit.engine.simulate`, with v of the output recorded (unless spikes are counted)
    lengths  int [B], steps of input of each sample; what comes before or after does not count
    """
    name = output_of(graph)
    readout = graph.metadata.get("readout", "softmax_sum")
    if readout not in READOUTS:
        raise ParameterError(f"read-out {readout!r} is none of {', '.join(READOUTS)}.")
    if readout == "spike_count":
        values = result.spikes[name].to_dense(dtype=np.float64)
    else:
        values = result.recorded[name, "v"].astype(np.float64)
        values = values / np.asarray(graph.metadata.get("scale", {}).get(name, 1.0), np.float64).reshape(-1)
    latency = int(graph.metadata.get("latency", 0))
    last = np.asarray(lengths) + int(graph.metadata.get("steps_tail", 0))  # tail has the latency in it
    steps = np.arange(len(values))[:, None]
    inside = ((steps >= latency) & (steps < last[None]))[..., None]
    if readout == "softmax_sum":
        odds = np.exp(values - values.max(-1, keepdims=True))
        return (odds / odds.sum(-1, keepdims=True) * inside).sum(0)
    if readout == "max_over_time":
        return np.where(inside, values, -np.inf).max(0)
    if readout == "last_step":
        return values[last - 1, np.arange(values.shape[1])]
    total: np.ndarray = (values * inside).sum(0)
    return total if readout == "spike_count" else total / (last - latency).clip(1)[:, None]


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
