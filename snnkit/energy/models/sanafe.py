"""Soma access, update and spike; messages per target core; hops (SANA-FE; Boyle et al., TCAD 2025)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..counts import CoreCounts, Counts
from ..rows import Row
from . import chip
from .model import Model, Tariff

FORMATS = ("dense", "sparse", "conv")
"""In which a chip stores synapses, each with a price of its own."""


def rows(counts: Counts, tariff: Tariff) -> list[Row]:
    """SynOps by format, soma events, and messages with the tiles that they cross."""
    k = tariff.constants
    out = []
    for n in counts.neurons:
        for s in counts.into(n.name):
            out.append(Row(n.name, s.name, "SynOp", s.synops, k[f"synop_{_format(s.kind, tariff)}"]))
        if not n.is_input:
            out += [
                Row(n.name, n.name, "soma access", n.updates, k["soma_access"], scales=False),
                Row(n.name, n.name, "soma update", chip.active(n), k["soma_update"], scales=False),
                Row(n.name, n.name, "soma spike", n.spikes, k["soma_spike"]),
            ]
        messages, x, y = chip.traffic(n, tariff)
        out += [
            Row(n.name, n.name, "message", messages, k["message_out"] + k["message_in"]),
            Row(n.name, n.name, "hop E-W", x, k["hop_ew"]),
            Row(n.name, n.name, "hop N-S", y, k["hop_ns"]),
        ]
    return out + chip.static(tariff, latency(counts, tariff))


def _format(kind: str, tariff: Tariff) -> str:
    """Which of the chip's synapse formats a projection is stored in."""
    if tariff.settings["synapse"] != "by_kind":
        return str(tariff.settings["synapse"])
    return "sparse" if kind == "one_to_one" else kind


def latency(counts: Counts, tariff: Tariff) -> np.ndarray | None:
    """A core runs its somas and sends, or receives and adds up synapses, whichever is slower: ns, ``[B]``."""
    k = tariff.constants

    def stages(cores: CoreCounts, b: int) -> tuple[Any, ...]:
        soma = (
            cores.neurons * k["t_access"]
            + cores.steps("active", b) * k["t_update"]
            + cores.steps("spikes", b) * k["t_spike"]
            + cores.steps("sent", b) * k["t_message_out"]
        )
        received = cores.steps("received", b) * k["t_message_in"] + sum(
            cores.steps(work, b) * k[f"t_synop_{_format(kind, tariff)}"]
            for kind, work in cores.synops.items()
        )
        return soma, received

    return chip.step_latency(counts, tariff, stages)


MODEL = Model(
    constants={
        **{f"synop_{f}": "pJ" for f in FORMATS},
        **dict.fromkeys(("soma_access", "soma_update", "soma_spike", "message_out", "message_in"), "pJ"),
        **dict.fromkeys(("hop_ew", "hop_ns"), "pJ"),
        **{f"t_synop_{f}": "ns" for f in FORMATS},
        **dict.fromkeys(("t_access", "t_update", "t_spike", "t_message_out", "t_message_in"), "ns"),
        **chip.CONSTANTS,
    },
    rows=rows,
    latency=latency,
    optional=frozenset({"static_chip"}),
    switched=chip.SWITCHED,
    settings={"barrier": "steps", "synapse": "by_kind", "static": False},
    choices={**chip.CHOICES, "synapse": ("by_kind", *FORMATS)},
    on_chip=True,
)
