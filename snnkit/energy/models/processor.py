"""So much for each operation, dense or event-driven: KerasSpiking's convention."""

from __future__ import annotations

import numpy as np

from ..counts import Counts
from ..rows import Row
from .model import Model, Tariff, layers


def rows(counts: Counts, tariff: Tariff) -> list[Row]:
    """Every SynOp, or where execution is "dense" every synapse in every step, and every neuron update."""
    k, event = tariff.constants, tariff.settings["execution"] == "event"
    operation = "SynOp" if event else "dense MAC"
    out = []
    for n, into in layers(counts):
        for s in into:
            count = s.synops if event else s.synops_dense
            out.append(Row(n.name, s.name, operation, count, k["operation"], scales=event))
        out.append(Row(n.name, n.name, "neuron update", n.updates, k["neuron"], scales=False))
    return out


def dense(counts: Counts, tariff: Tariff, bits: int) -> list[Row]:
    """One operation a synapse; the processor's words have one width, whatever `bits`."""
    one = np.ones(len(counts))
    return [
        Row(n.name, s.name, "dense MAC", one * s.synapses, tariff.constants["operation"], scales=False)
        for n, into in layers(counts)
        for s in into
    ]


def latency(counts: Counts, tariff: Tariff) -> np.ndarray | None:
    """Operations, updates and steps one after another: ns, ``[B]``."""
    k, event = tariff.constants, tariff.settings["execution"] == "event"
    if "t_operation" not in k:
        return None
    nothing = np.zeros(len(counts))
    work = sum((s.synops if event else s.synops_dense for s in counts.synapses), nothing)
    updates = sum((n.updates for n in counts.neurons), nothing)
    t_neuron = k.get("t_neuron", k["t_operation"])
    return work * k["t_operation"] + updates * t_neuron + counts.steps * k.get("t_step", 0.0)


MODEL = Model(
    constants={"operation": "pJ", "neuron": "pJ", "t_operation": "ns", "t_neuron": "ns", "t_step": "ns"},
    rows=rows,
    dense=dense,
    latency=latency,
    optional=frozenset({"t_operation", "t_neuron", "t_step"}),
    settings={"execution": "dense"},
    choices={"execution": ("dense", "event")},
)
