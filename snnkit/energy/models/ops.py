"""Additions and multiplications only; Horowitz (ISSCC 2014) is the usual source of the constants.

AC = add, MAC = multiply + add, for every SynOp; one AC for every bias and step. On request also the
multiplications of the decays and an AC for every reset.
"""

from __future__ import annotations

import numpy as np

from ..counts import Counts
from ..rows import Row
from .model import FLAG, Model, Tariff, layers, scaled

PRECISIONS = ("fp32", "fp16", "int32", "int8")


def rows(counts: Counts, tariff: Tariff) -> list[Row]:
    """Every AC and MAC."""
    k, settings = tariff.constants, tariff.settings
    add, mul = k[f"add_{settings['precision']}"], k[f"mul_{settings['precision']}"]
    out = []
    for n, into in layers(counts):
        for s in into:
            total, mac = (s.synops, s.synops_mac)
            if settings["synops"] == "effective":
                total = s.synops_effective
                mac = np.minimum(mac, total)
            out.append(Row(n.name, s.name, "AC", total - mac, add))
            if mac.any():
                out.append(Row(n.name, s.name, "MAC", mac, mul + add))
        if n.biased:
            out.append(Row(n.name, n.name, "bias AC", n.steps * n.biased, add, scales=False))
        if settings["leak_macs"]:
            out.append(Row(n.name, n.name, "leak MAC", n.updates * n.leak_macs, mul + add, scales=False))
        if settings["resets"]:
            out.append(Row(n.name, n.name, "reset AC", n.spikes, add))
    return out


def dense(counts: Counts, tariff: Tariff, bits: int) -> list[Row]:
    """One MAC a synapse, an AC where there is no weight; below 32 bits scaled from int8."""
    k, precision = tariff.constants, tariff.settings["precision"]
    add, mul = k[f"add_{precision}"], k[f"mul_{precision}"]
    if bits < 32:
        add, mul = scaled(k["add_int8"], k["mul_int8"], 8, bits)
    mac = add + mul
    one = np.ones(len(counts))
    return [
        Row(n.name, s.name, "MAC", one * s.synapses, mac, scales=False)
        if s.weights
        else Row(n.name, s.name, "AC", one * s.synapses, add, scales=False)
        for n, into in layers(counts)
        for s in into
    ]


MODEL = Model(
    constants={f"{op}_{p}": "pJ" for p in PRECISIONS for op in ("add", "mul")},
    rows=rows,
    dense=dense,
    settings={"precision": "fp32", "synops": "stored", "leak_macs": False, "resets": False},
    choices={
        "precision": PRECISIONS,
        "synops": ("stored", "effective"),
        "leak_macs": FLAG,
        "resets": FLAG,
    },
)
