"""What delays cost: four ways to build them, priced by their memory traffic.

No published analytical model prices delay memory; this one extends Lemaire's (2022). With S = SynOps,
T steps, N neurons of the target, D the longest delay, a(c) the price of one access to a memory of
capacity c and w the bits of a word:

    none          2·S·a(N·w)                                            the published model, delays free
    ring          2·S·a(N·(D+1)·w) + 2·T·N·a(N·(D+1)·w)                 a ring of input accumulators a
                  neuron: each SynOp reads and writes its slot, each step reads and clears one
    accumulators  the same traffic in a bank of fixed size, 8192 words a core, as Loihi's dendritic
                  accumulators (Davies et al. 2018): 8 slots for 1024 compartments, more slots for fewer
    queue         2·S·a(N·w) + (entries + circulations)·(read + write)  one entry a spike and different
                  delay, held in a queue at the source that is as large as its fullest moment; an entry
                  that waits k steps is read and rewritten k times (Meijer et al., arXiv 2501.13610)
    source_lines  2·S·a(N·w) + 2·T·N_source·⌈(D+1)/w⌉·a(N_source·(D+1)) the last D+1 steps of every
                  source neuron as bits, shifted and scanned in every step

A projection whose delays are all 0 costs the same in all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ParameterError
from .counts import NeuronCounts, SynapseCounts
from .rows import Row

KINDS = ("none", "ring", "accumulators", "queue", "source_lines")
BANK_WORDS = 8192
MIN_SLOTS = 8


def rows(
    kind: str, n: NeuronCounts, s: SynapseCounts, access: Callable[[float], float], word: int, acc: int
) -> list[Row]:
    """Potential and delay traffic that the SynOps of one projection cause.

    access  price of one access to a memory of so many bits, pJ
    word    bits of a potential, acc: bits of an accumulator of the ring

    Raises `ParameterError` naming an unknown kind.
    """
    if kind not in KINDS:
        raise ParameterError(f"unknown delay implementation {kind!r}; known are {', '.join(KINDS)}.")
    touched, D = s.addressed, s.max_delay
    direct = access(n.size * n.states * word)
    plain = [
        Row(n.name, s.name, "read potential", touched, direct),
        Row(n.name, s.name, "write potential", touched, direct),
    ]
    if not D or kind == "none":
        return plain
    if kind in ("ring", "accumulators"):
        price = access(_ring_bits(kind, n.size, D, acc))
        return [
            Row(n.name, s.name, "read delay buffer", touched, price),
            Row(n.name, s.name, "write delay buffer", touched, price),
            Row(n.name, s.name, "read delay buffer (step)", n.updates, price, scales=False),
            Row(n.name, s.name, "clear delay buffer (step)", n.updates, price, scales=False),
        ]
    if kind == "queue":
        width = entry_bits(s)
        price = access(max(int(s.peak.max(initial=0)), 1) * width) * -(-width // word)
        moves = s.delayed + s.waiting
        return [
            *plain,
            Row(n.name, s.name, "write delay queue", moves, price),
            Row(n.name, s.name, "read delay queue", moves, price),
        ]
    price = access(s.inputs * (D + 1)) * -(-(D + 1) // word)
    scans = n.steps * s.inputs
    return [
        *plain,
        Row(n.name, s.name, "write delay line", scans, price, scales=False),
        Row(n.name, s.name, "read delay line", scans, price, scales=False),
    ]


def entry_bits(s: SynapseCounts) -> int:
    """Bits of a queue entry: a source address and the steps still to wait."""
    return max((s.inputs - 1).bit_length(), 1) + s.max_delay.bit_length()


def _slots(D: int) -> int:
    """Slots a compartment gets on Loihi: a power of two, at least 8."""
    return max(1 << D.bit_length(), MIN_SLOTS)


def _ring_bits(kind: str, size: int, D: int, acc: int) -> int:
    return BANK_WORDS * acc if kind == "accumulators" else size * (D + 1) * acc


def capacity_bits(kind: str, s: SynapseCounts, acc: int = 32) -> int:
    """Memory that the delays of a projection need, bits; 0 without delays."""
    if not s.max_delay or kind == "none":
        return 0
    if kind == "ring":
        return s.outputs * (s.max_delay + 1) * acc
    if kind == "accumulators":
        return BANK_WORDS * acc * -(-s.outputs * _slots(s.max_delay) // BANK_WORDS)
    if kind == "queue":
        return int(s.peak.max(initial=0)) * entry_bits(s)
    return s.inputs * (s.max_delay + 1)
