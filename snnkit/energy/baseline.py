"""Does spiking pay? The same layers as a dense network, and the spike rate where the two meet.

The energy of a spiking network splits into what follows its spikes and what does not (updates of
neurons, idle or not):

    E(r) = E_fixed + E_spikes · r / r₀            r₀ the measured spikes per neuron and step

so a dense network of energy E_dense is met at ``r* = r₀ · (E_dense − E_fixed) / E_spikes``; below it
the spiking network wins. If E_fixed alone is above E_dense it never does. Dense means: every synapse
one MAC, every neuron one activation, in b bits, either once an inference (one frame holds the whole
input, as in Yan et al.) or in every step (a network that keeps up with a stream).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ParameterError
from .counts import Counts
from .library import load_profile
from .models import MODELS
from .price import WHICH, rows, tariff
from .profile import Profile
from .rows import mean, total_pj

PASSES = ("once", "every step")


@dataclass(frozen=True)
class BreakEven:
    """A published break-even, in SynOps per synapse and inference."""

    name: str
    low: float
    high: float
    source: str


BREAK_EVENS = (
    BreakEven(
        "Dampfhoffer et al. 2023",
        0.15,
        1.38,
        "IEEE TETCI 7(3), IF against ANN, depending on the ANN's dataflow, memory included (second-hand)",
    ),
    BreakEven("Davidson & Furber 2021", 1.72, 1.72, "Frontiers in Neuroscience 15 (second-hand)"),
    BreakEven("Yan et al. 2024, v4", 0.285, 0.285, "arXiv 2409.08290 v4: rate 5.7 % at T = 5, times T"),
)
"""Where the literature draws the line, to stand beside `Counts.spikes_per_synapse`."""


def equivalent_bits(steps: float) -> int:
    """Bits of a quantised network as expressive as T steps of spikes: ⌈log2(T + 1)⌉ (Yan et al. 2024)."""
    return max(int(np.ceil(np.log2(steps + 1))), 1)


def dense_pj(counts: Counts, profile: str | Profile, bits: int = 32, passes: str = "once") -> np.ndarray:
    """Energy of the dense network of equal size, low, value, high: pJ, mean a sample, ``[3]``.

    Raises `ParameterError` for a profile of a chip, other passes than "once" and "every step", and bits
    outside 1 to 32.
    """
    given = load_profile(profile)
    model = MODELS[given.model]
    if model.dense is None:
        raise ParameterError(
            f"profile {given.name!r} is of a spiking chip and prices no dense network; take lemaire45, "
            "cmos45, yan22 or a processor for the baseline."
        )
    if passes not in PASSES:
        raise ParameterError(f"passes {passes!r} is none of {', '.join(PASSES)}.")
    if not 1 <= bits <= 32:
        raise ParameterError(f"a baseline of {bits} bits is not modelled; choose 1 to 32.")
    times = mean(counts.steps) if passes == "every step" else 1.0
    energies = []
    for which in WHICH:
        priced = model.dense(counts, tariff(given, given.values(which)), bits)
        energies.append(times * total_pj(priced))
    return np.array(energies)


@dataclass(frozen=True)
class Crossover:
    """Where a spiking and a dense network cost the same; energies in pJ, mean a sample.

    rate        break-even spikes per neuron and step; 0 if the fixed part alone costs more than the
                dense network ("never"), None if no spike occurred, so that the slope is not known
    measured    the network's own rate
    fixed_pj    what does not follow the spikes
    spikes_pj   what does, at the measured rate
    """

    profile: str
    baseline: str
    bits: int
    passes: str
    rate: float | None
    measured: float
    fixed_pj: float
    spikes_pj: float
    dense_pj: float

    @property
    def spiking_wins(self) -> bool:
        """True if at its own rate the spiking network costs less."""
        return self.fixed_pj + self.spikes_pj < self.dense_pj

    def energy_pj(self, rates: np.ndarray | Sequence[float]) -> np.ndarray:
        """Energy (pJ) of the spiking network at other `rates` [n], float64 [n]."""
        scale = np.asarray(rates, float) / self.measured if self.measured else np.zeros(len(rates))
        return self.fixed_pj + self.spikes_pj * scale


def crossover(
    counts: Counts,
    profile: str | Profile = "lemaire45",
    bits: int = 8,
    passes: str = "once",
    baseline: str | Profile | None = None,
) -> Crossover:
    """The spike rate below which the network costs less than a dense one of `bits` bits.

    baseline  profile that prices the dense network; None: the same
    """
    given = load_profile(profile)
    other = given if baseline is None else load_profile(baseline)
    dense = float(dense_pj(counts, other, bits, passes)[1])
    priced = rows(counts, given)
    fixed = total_pj(r for r in priced if not r.scales)
    spikes = total_pj(r for r in priced if r.scales)
    rate = None
    if counts.rate and spikes:
        rate = max(counts.rate * (dense - fixed) / spikes, 0.0)
    return Crossover(
        profile=given.name,
        baseline=other.name,
        bits=bits,
        passes=passes,
        rate=rate,
        measured=counts.rate,
        fixed_pj=fixed,
        spikes_pj=spikes,
        dense_pj=dense,
    )
