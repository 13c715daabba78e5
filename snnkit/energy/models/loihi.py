"""Synaptic operations, active and idle neurons, hops (Davies et al., IEEE Micro 38(1), 2018)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..counts import CoreCounts, Counts
from ..rows import Row
from . import chip
from .model import Model, Tariff


def rows(counts: Counts, tariff: Tariff) -> list[Row]:
    """SynOps, neurons by what they did, and messages with the tiles that they cross."""
    k = tariff.constants
    out = []
    for n in counts.neurons:
        out += [Row(n.name, s.name, "SynOp", s.synops, k["synop"]) for s in counts.into(n.name)]
        if not n.is_input:
            active = chip.active(n)
            idle = n.updates - active
            out.append(Row(n.name, n.name, "active neuron", active, k["neuron_active"], scales=False))
            out.append(Row(n.name, n.name, "idle neuron", idle, k["neuron_inactive"], scales=False))
        messages, x, y = chip.traffic(n, tariff)
        out.append(Row(n.name, n.name, "spike in tile", messages, k["spike_in_tile"]))
        out.append(Row(n.name, n.name, "hop E-W", x, k["hop_ew"]))
        out.append(Row(n.name, n.name, "hop N-S", y, k["hop_ns"]))
    return out + chip.static(tariff, latency(counts, tariff))


def latency(counts: Counts, tariff: Tariff) -> np.ndarray | None:
    """A core updates its neurons and sends, or adds up synapses, whichever is slower: ns, ``[B]``."""
    k = tariff.constants

    def stages(cores: CoreCounts, b: int) -> tuple[Any, ...]:
        active = cores.steps("active", b)
        soma = active * k["t_active"] + (cores.neurons - active) * k["t_inactive"]
        synops = sum(cores.steps(kind, b) for kind in cores.synops.values())
        return soma + cores.steps("sent", b) * k["t_message"], synops * k["t_synop"]

    return chip.step_latency(counts, tariff, stages)


MODEL = Model(
    constants={
        **dict.fromkeys(
            ("synop", "neuron_active", "neuron_inactive", "spike_in_tile", "hop_ew", "hop_ns"), "pJ"
        ),
        **dict.fromkeys(("t_synop", "t_active", "t_inactive", "t_message"), "ns"),
        **chip.CONSTANTS,
    },
    rows=rows,
    latency=latency,
    optional=frozenset({"static_chip"}),
    switched=chip.SWITCHED,
    settings={"barrier": "linear", "static": False},
    choices=chip.CHOICES,
    on_chip=True,
)
