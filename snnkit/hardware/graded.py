"""Input values that are no integers (pixels, currents), as the chip's graded spikes take them.

A graded spike carries an integer. With q = round(S · x), S = `LARGEST` / max |x| over calibration data,

    Σ (w / S) · q  ≈  Σ w · x

so that the network with weights w / S from its input is the same network, read q. `quantise` makes that of
one whose calibration data has other values than integers; S stands in the metadata (`Units.inputs`), and
whoever runs the integer network gives it `sent` events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import overload

import numpy as np

from ..errors import ParameterError
from ..events import EventBatch
from ..graph import Graph
from ..metadata import Units

LARGEST = 127
"""The largest magnitude that an input spike carries: 8 bits with a sign."""


def scales_of(calibration: dict[str, EventBatch]) -> dict[str, float]:
    """Input → S, for the inputs whose values are not all integers."""
    found = {}
    for name, events in calibration.items():
        values = events.values
        if values is not None and (values != np.round(values)).any():
            found[name] = LARGEST / float(np.abs(values).max())
    return found


def scaled(graph: Graph, scales: dict[str, float]) -> Graph:
    """The network that computes from S · x what `graph` computes from x."""
    projections = [
        replace(p, weight=p.weight.astype(np.float64) / scales[p.source]) if p.source in scales else p
        for p in graph.projections
    ]
    return replace(graph, projections=projections)


def rounded(events: EventBatch, scale: float, largest: int | None = LARGEST) -> EventBatch:
    """Events of integer values, round(scale · x) within ±`largest`; those that round to 0 are left out.

    largest  None: values are not held
    """
    values = np.ones(len(events.times)) if events.values is None else events.values
    whole = np.rint(np.asarray(values, np.float64) * scale)
    if largest is not None:
        whole = whole.clip(-largest, largest)
    kept = whole != 0
    sample = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(sample[kept], minlength=len(events)))])
    return EventBatch(
        events.times[kept], events.neurons[kept], offsets, events.lengths, events.size,
        whole[kept].astype(np.float32),
    )  # fmt: skip


@overload
def sent(graph: Graph, events: EventBatch) -> EventBatch: ...


@overload
def sent(graph: Graph, events: Mapping[str, EventBatch]) -> dict[str, EventBatch]: ...


def sent(graph: Graph, events: EventBatch | Mapping[str, EventBatch]) -> EventBatch | dict[str, EventBatch]:
    """The events as `graph` takes them: as they are, or as integers where its metadata say a scale.

    events  those of the only input, or {input: its own}, each by its own scale

    Raises `ParameterError` for events without a name where there are several inputs, or for another name.
    """
    units = Units.of(graph.metadata)
    scales, largest = units.inputs, units.largest
    if isinstance(events, EventBatch):
        if len(graph.inputs) > 1:
            raise ParameterError(
                f"the network has inputs {', '.join(graph.inputs)}; give {{input: events}}, each its own."
            )
        return rounded(events, scales[graph.inputs[0]], largest) if graph.inputs and scales else events
    if unknown := set(events) - set(graph.inputs):
        raise ParameterError(f"events for {sorted(unknown)}; the network has inputs {graph.inputs}.")
    return {n: rounded(e, scales[n], largest) if n in scales else e for n, e in events.items()}
