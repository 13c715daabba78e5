"""Operations, weight fetches and the movement of potentials (Yan et al., arXiv 2409.08290, 2024)."""

from __future__ import annotations

import numpy as np

from ..counts import Counts
from ..rows import Row
from .model import Model, Tariff, layers


def rows(counts: Counts, tariff: Tariff) -> list[Row]:
    """An addition and a weight fetch for each SynOp; a comparison and two moves for each update."""
    k = tariff.constants
    b_w, b_v = int(tariff.settings["weight_bits"]), int(tariff.settings["state_bits"])
    out = []
    for n, into in layers(counts):
        for s in into:
            out.append(Row(n.name, s.name, "AC", s.synops, k["acc"]))
            if s.weights:
                out.append(Row(n.name, s.name, "read weight", s.synops, b_w * k["weight_access"]))
        moved = 2 * n.updates * n.states
        out += [
            Row(n.name, n.name, "compare", n.updates, k["cmp"], scales=False),
            Row(n.name, n.name, "reset", n.spikes, k["sub"]),
            Row(n.name, n.name, "move potential", moved, b_v * k["move"], scales=False),
        ]
    return out


def dense(counts: Counts, tariff: Tariff, bits: int) -> list[Row]:
    """A multiplication and a weight fetch a synapse, a move a neuron."""
    k = tariff.constants
    one = np.ones(len(counts))
    out = []
    for n, into in layers(counts):
        for s in into:
            synapses, fetch = one * s.synapses, bits * k["weight_access"]
            # a b-bit multiplication as b additions: the arithmetic is small beside the weight fetch
            if s.weights:
                out.append(Row(n.name, s.name, "MAC", synapses, bits * k["acc"], scales=False))
                out.append(Row(n.name, s.name, "read weight", synapses, fetch, scales=False))
            else:
                out.append(Row(n.name, s.name, "AC", synapses, k["acc"], scales=False))
        out.append(Row(n.name, n.name, "move activation", one * n.size, bits * k["move"], scales=False))
    return out


MODEL = Model(
    constants={"acc": "pJ", "cmp": "pJ", "sub": "pJ", "weight_access": "pJ/bit", "move": "pJ/bit"},
    rows=rows,
    dense=dense,
    settings={"weight_bits": 8, "state_bits": 8},
)
