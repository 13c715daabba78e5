"""A network and its input in longer steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import ParameterError
from ..events import EventBatch
from ..graph import Graph
from ..metadata import Timing


def coarser(graph: Graph, factor: int) -> Graph:
    """The network with steps `factor` times as long.

    decay → decay^f; gain → gain · (1 − decay^f) / (f · (1 − decay)), so that a steady input has the
    same effect; bias → f · bias; delays → round(delay / f), at least 1 where they were and lead back.
    An approximation: two spikes of one new step are one event of value 2. Raises `ParameterError` for a
    factor below 1.
    """
    if factor < 1:
        raise ParameterError(f"factor must be at least 1, got {factor}.")
    loop = graph.components()
    populations = {}
    for name, p in graph.populations.items():
        params = dict(p.params)
        for key in ("decay", "decay_syn", "decay_mem"):
            if key in params:
                params[key] = params[key] ** factor
        if "gain" in params:
            old = np.asarray(p.params["decay"], np.float64)
            left = np.where(old < 1, (1 - old**factor) / np.where(old < 1, factor * (1 - old), 1), 1)
            params["gain"] = params["gain"] * left
        if "refractory" in params:
            params["refractory"] = np.round(params["refractory"] / factor)
        populations[name] = replace(p, params=params, bias=p.bias * factor)
    projections = []
    for s in graph.projections:
        delay = np.round(s.delay / factor).astype(np.int32)
        if loop[s.source] == loop[s.target]:
            delay = delay.clip(1)
        projections.append(replace(s, delay=delay))
    timing = Timing.of(graph.metadata)
    timing = replace(timing, steps_tail=-(-timing.steps_tail // factor))
    metadata = graph.metadata | timing.to_metadata()
    return Graph(populations, projections, graph.dt * factor, list(graph.outputs), metadata)


def coarser_events(events: EventBatch, factor: int) -> EventBatch:
    """The events in steps `factor` times as long; spikes that fall together add up."""
    sample = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    values = np.ones(len(events.times)) if events.values is None else events.values.astype(np.float64)
    steps = -(-events.lengths // factor)
    keys = (
        sample * max(int(steps.max(initial=1)), 1) + events.times // factor
    ) * events.size + events.neurons
    unique, position = np.unique(keys, return_inverse=True)
    total = np.bincount(position, values, len(unique))
    neuron, time = unique % events.size, unique // events.size
    longest = max(int(steps.max(initial=1)), 1)
    counts = np.bincount((time // longest).astype(np.int64), minlength=len(events))
    return EventBatch(
        time % longest,
        neuron,
        np.concatenate([[0], np.cumsum(counts)]),
        steps,
        events.size,
        None if (total == 1).all() else total,
    )
