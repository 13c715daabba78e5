"""A network beside what might stand in its place: dense networks, and other ways to build its delays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import ParameterError
from .baseline import PASSES, crossover, dense_pj, equivalent_bits
from .counts import Counts
from .delay import KINDS, capacity_bits
from .library import load_profile
from .models import MODELS
from .price import WHICH, price, rows
from .profile import Profile
from .rows import mean, total_pj


class _Network(NamedTuple):
    """A row of `compare_dense`; energy_pj: low, value, high."""

    name: str
    bits: int
    passes: str
    energy_pj: list[float]
    rate: float


def compare_dense(counts: Counts, profile: str | Profile = "lemaire45") -> dict[str, np.ndarray]:
    """The network beside dense ones of equal size: 32 bits, 8 bits, and ⌈log2(T+1)⌉ bits.

    Columns network, bits, passes, baseline (the profile that priced it; a chip's dense rivals are priced
    by lemaire45), energy_pj_low, energy_pj, energy_pj_high, ratio (to the spiking network; inf beside one
    that costs nothing), crossover_rate (NaN for the spiking network and where it is not known).
    """
    given = load_profile(profile)
    other = given if MODELS[given.model].dense is not None else load_profile("lemaire45")
    own = [total_pj(rows(counts, given, given.values(which))) for which in WHICH]
    found = [_Network("SNN", 0, "every step", own, np.nan)]
    wanted = sorted({32, 8, equivalent_bits(mean(counts.steps))}, reverse=True)
    for passes in PASSES:
        for bits in wanted:
            cross = crossover(counts, given, bits, passes, other)
            energy = dense_pj(counts, other, bits, passes).tolist()
            rate = np.nan if cross.rate is None else cross.rate
            name = "dense ANN" if bits == 32 else f"{bits}-bit QNN"
            found.append(_Network(name, bits, passes, energy, rate))
    energies = np.array([row.energy_pj for row in found])
    return {
        "network": np.array([row.name for row in found]),
        "bits": np.array([row.bits for row in found]),
        "passes": np.array([row.passes for row in found]),
        "baseline": np.array([given.name, *[other.name] * (len(found) - 1)]),
        "energy_pj_low": energies[:, 0],
        "energy_pj": energies[:, 1],
        "energy_pj_high": energies[:, 2],
        "ratio": energies[:, 1] / own[1] if own[1] else np.full(len(found), np.inf),
        "crossover_rate": np.array([row.rate for row in found]),
    }


def compare_delays(counts: Counts, profile: str | Profile = "lemaire45") -> dict[str, np.ndarray]:
    """What the delays of a network cost in each implementation, mean a sample.

    Columns kind, energy_pj (whole network), extra_pj (above the same network without delay memory),
    share (extra / whole), capacity_bits, cheapest (True for the cheapest that does delay). The profile
    must price memory, as lemaire45 does. Raises `ParameterError` if it does not.
    """
    given = load_profile(profile)
    if "delay" not in given.settings:
        raise ParameterError(
            f"profile {given.name!r} does not price delay memory; use one with the setting 'delay', such as "
            "lemaire45."
        )
    acc = int(given.settings.get("delay_bits", 32))
    totals = np.array([price(counts, given.with_settings(delay=k)).total_pj for k in KINDS])
    extra = totals - totals[0]
    cheapest = np.zeros(len(KINDS), bool)
    cheapest[1 + int(np.argmin(totals[1:]))] = True
    return {
        "kind": np.array(KINDS),
        "energy_pj": totals,
        "extra_pj": extra,
        "share": np.divide(extra, totals, out=np.zeros(len(KINDS)), where=totals > 0),
        "capacity_bits": np.array([sum(capacity_bits(k, s, acc) for s in counts.synapses) for k in KINDS]),
        "cheapest": cheapest,
    }
