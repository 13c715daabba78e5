"""Operations, addressing and every memory access of a spiking layer (Lemaire et al. 2022).

With the corrections of the authors' own later code. A SynOp of a convolution is counted with borders
ignored (`synops_borderless`), as theirs; what delays cost is not theirs, see `snnkit.energy.delay`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import delay
from ..counts import Counts, NeuronCounts, SynapseCounts
from ..rows import Row
from .model import Model, Tariff, layers, scaled


def access_pj(bits: float, k: Mapping[str, float], settings: Mapping[str, Any]) -> float:
    """Price of one access to a memory of so many bits, by the curve that the settings choose, pJ.

    piecewise   linear through (0, sram_0), (8 KiB, sram_8k), (32 KiB, sram_32k), (1 MiB, sram_1m), then
                flat
    regression  regression_base + regression_bit · bits
    bank8k      8 KiB banks with a 64-bit port, words packed
    """
    curve = settings["memory_curve"]
    if curve == "regression":
        return k["regression_base"] + k["regression_bit"] * bits
    if curve == "bank8k":
        return k["bank_access"] / max(64 // int(settings["word_bits"]), 1)
    points = [k["sram_0"], k["sram_8k"], k["sram_32k"], k["sram_1m"]]
    return float(np.interp(bits / 8, [0, 8192, 32768, 1048576], points))


class _Prices(NamedTuple):
    """word: bits of a word. add, mac, fifo (one access), address_add, address_mac: pJ. access: bits → pJ."""

    word: int
    add: float
    mac: float
    address_add: float
    address_mac: float
    fifo: float
    access: Callable[[float], float]


def _prices(tariff: Tariff) -> _Prices:
    k, settings = tariff.constants, tariff.settings
    word = int(settings["word_bits"])
    add, mac = k["add"], k["mul"] + k["add"]
    if word < 32:
        add, mul = scaled(k["add"], k["mul"], 32, word)
        mac = add + mul

    def access(bits: float) -> float:
        return access_pj(bits, k, settings)

    return _Prices(
        word=word,
        add=add,
        mac=mac,
        address_add=k["add"],
        address_mac=k["mul"] + k["add"],
        fifo=access(int(settings["fifo_words"]) * word),
        access=access,
    )


def rows(counts: Counts, tariff: Tariff) -> list[Row]:
    """Arithmetic, addressing, and reads and writes of input, weights, potentials, delays and output."""
    p = _prices(tariff)
    kind, delay_bits = str(tariff.settings["delay"]), int(tariff.settings["delay_bits"])
    out = []
    for n, into in layers(counts):
        for s in into:
            out += _synapse_rows(n, s, p)
            out += delay.rows(kind, n, s, p.access, p.word, delay_bits)
        out += _neuron_rows(n, sum(s.weights for s in into), p)
    return out


def _synapse_rows(n: NeuronCounts, s: SynapseCounts, p: _Prices) -> list[Row]:
    weights = p.access((s.weights + n.biases) * p.word)
    out = [Row(n.name, s.name, "AC", s.synops_borderless - s.synops_borderless_mac, p.add)]
    if s.synops_borderless_mac.any():
        out.append(Row(n.name, s.name, "MAC", s.synops_borderless_mac, p.mac))
    out.append(Row(n.name, s.name, "address AC", s.addressed, p.address_add))
    if s.address_fan_out:
        out.append(Row(n.name, s.name, "address MAC", 2 * s.spikes, p.address_mac))
    out.append(Row(n.name, s.name, "read input", s.spikes, p.fifo))
    if s.weights:
        out.append(Row(n.name, s.name, "read weight", s.addressed, weights))
    return out


def _neuron_rows(n: NeuronCounts, weights: int, p: _Prices) -> list[Row]:
    """weights: words that the layer's memory of parameters holds beside the biases."""
    out = []
    if n.biased:
        read = p.access((weights + n.biases) * p.word)
        out.append(Row(n.name, n.name, "bias AC", n.updates, p.add, scales=False))
        out.append(Row(n.name, n.name, "read bias", n.updates, read, scales=False))
    if n.leak_macs:
        out.append(Row(n.name, n.name, "leak MAC", n.updates * n.leak_macs, p.mac, scales=False))
    potential, touched = p.access(n.size * n.states * p.word), n.updates * n.states
    return [
        *out,
        Row(n.name, n.name, "reset AC", n.spikes, p.add),
        Row(n.name, n.name, "read potential (step)", touched, potential, scales=False),
        Row(n.name, n.name, "write potential (step)", touched, potential, scales=False),
        Row(n.name, n.name, "write output", n.spikes, p.fifo),
    ]


def dense(counts: Counts, tariff: Tariff, bits: int) -> list[Row]:
    """One pass of a formal network: every synapse a MAC, every weight, input and output one access."""
    k = tariff.constants
    add, mul = scaled(k["add"], k["mul"], 32, min(bits, 32))
    own = {**tariff.settings, "word_bits": bits}

    def access(size: int) -> float:
        price = access_pj(size * bits, k, own)
        return price if own["memory_curve"] == "bank8k" else price * bits / 32

    one = np.ones(len(counts))
    out = []
    for n, into in layers(counts):
        held = sum(s.weights for s in into) + n.biases
        for s in into:
            reads = s.synapses if s.address_fan_out else s.inputs
            addressed = s.inputs + s.outputs + s.address_fan_out
            weights = access(s.weights + n.biases)
            out += [
                Row(n.name, s.name, "address AC", one * addressed, k["add"], scales=False),
                Row(n.name, s.name, "read input", one * reads, access(s.inputs), scales=False),
            ]
            if s.weights:
                out += [
                    Row(n.name, s.name, "MAC", one * s.synapses, add + mul, scales=False),
                    Row(n.name, s.name, "read weight", one * s.synapses, weights, scales=False),
                ]
            else:
                out.append(Row(n.name, s.name, "AC", one * s.synapses, add, scales=False))
        if n.biased:
            out.append(Row(n.name, n.name, "bias AC", one * n.size, add, scales=False))
            out.append(Row(n.name, n.name, "read bias", one * n.size, access(held), scales=False))
        out.append(Row(n.name, n.name, "write output", one * n.size, access(n.size), scales=False))
    return out


MODEL = Model(
    constants={
        **dict.fromkeys(("add", "mul", "sram_0", "sram_8k", "sram_32k", "sram_1m"), "pJ"),
        "regression_base": "pJ",
        "regression_bit": "pJ/bit",
        "bank_access": "pJ",
    },
    rows=rows,
    dense=dense,
    settings={
        "memory_curve": "piecewise",
        "word_bits": 32,
        "fifo_words": 1000,
        "delay": "ring",
        "delay_bits": 32,
    },
    choices={"memory_curve": ("piecewise", "regression", "bank8k"), "delay": delay.KINDS},
)
