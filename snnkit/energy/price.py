"""Counts × profile: energy and time, per layer and operation, always as a range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import ParameterError
from .counts import Counts
from .library import load_profile
from .models import MODELS, Tariff
from .profile import Profile
from .rows import Row, mean, total_pj

WHICH = ("low", "value", "high")


@dataclass(frozen=True)
class Price:
    """What a network costs under one profile. Energies are pJ a sample (an inference).

    table            one row a layer, part and operation: a dict of arrays that pandas takes as it is.
                     Columns layer, part, operation, count (mean a sample), pj_each, energy_pj_low,
                     energy_pj, energy_pj_high (mean a sample), scales (count follows the spikes)
    per_inference    energy of each sample ``[B]``
    latency_us       time of each sample ``[B]``, or None where the profile can't tell
    low, high        total with all constants at their low, high
    notes            what the counts, and so the energy, leave out
    """

    profile: Profile
    table: dict[str, np.ndarray]
    per_inference: np.ndarray
    latency_us: np.ndarray | None
    latency_low_us: np.ndarray | None
    latency_high_us: np.ndarray | None
    notes: tuple[str, ...] = ()

    @property
    def total_pj(self) -> float:
        """Mean energy of a sample: the sum of the table."""
        return float(self.table["energy_pj"].sum())

    @property
    def low_pj(self) -> float:
        """Total with every constant at its low."""
        return float(self.table["energy_pj_low"].sum())

    @property
    def high_pj(self) -> float:
        """Total with every constant at its high."""
        return float(self.table["energy_pj_high"].sum())

    def by(self, column: str) -> dict[str, float]:
        """Energy summed over the rows that share a value of "layer", "part" or "operation", pJ.

        Raises `ParameterError` for another column.
        """
        if column not in ("layer", "part", "operation"):
            raise ParameterError(f"can't sum by {column!r}; choose layer, part or operation.")
        sums: dict[str, float] = {}
        for name, energy in zip(self.table[column], self.table["energy_pj"], strict=True):
            sums[str(name)] = sums.get(str(name), 0.0) + float(energy)
        return sums

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists, ready for `json.dumps`."""
        latency = None
        if self.latency_us is not None:
            assert self.latency_low_us is not None
            assert self.latency_high_us is not None
            latency = {
                "mean": mean(self.latency_us),
                "low": mean(self.latency_low_us),
                "high": mean(self.latency_high_us),
            }
        return {
            "profile": self.profile.name,
            "quality": self.profile.quality,
            "settings": dict(self.profile.settings),
            "total_pj": self.total_pj,
            "low_pj": self.low_pj,
            "high_pj": self.high_pj,
            "latency_us": latency,
            "per_inference_pj": self.per_inference.tolist(),
            "table": {name: column.tolist() for name, column in self.table.items()},
            "notes": list(self.notes),
        }


def settings_of(profile: Profile) -> dict[str, Any]:
    """The profile's settings, with the model's defaults for those it leaves out."""
    return {**MODELS[profile.model].settings, **profile.settings}


def tariff(profile: Profile, constants: dict[str, float] | None = None) -> Tariff:
    """What the profile's model prices by; `constants` in place of the profile's values."""
    return Tariff(profile.values() if constants is None else constants, settings_of(profile), profile.chip)


def rows(counts: Counts, profile: Profile, constants: dict[str, float] | None = None) -> list[Row]:
    """Every operation of a network with its price; `constants` in place of the profile's values."""
    return MODELS[profile.model].rows(counts, tariff(profile, constants))


def price(counts: Counts, profile: str | Profile = "cmos45", **settings: Any) -> Price:
    """Energy and time of counted operations under a profile.

    profile   a profile, its name, or the path of a TOML file
    settings  in place of the profile's own, e.g. ``precision="int8"``

    Raises `ConfigError` naming what is wrong with the profile or a setting, and `ParameterError` if there
    are no samples or the counts lack what the profile's model prices: active neurons, a mapping.
    """
    given = load_profile(profile)
    if settings:
        given = load_profile(given.with_settings(**settings))
    if not len(counts):
        raise ParameterError("there are no samples to price; count at least one.")
    widen = _widening(given, "energy")
    three = {which: rows(counts, given, given.values(which)) for which in WHICH}
    mid = three["value"]
    energies = {which: np.array([r.energy_pj for r in three[which]]) * widen[which] for which in WHICH}
    table = {
        "layer": np.array([r.layer for r in mid], dtype=str),
        "part": np.array([r.part for r in mid], dtype=str),
        "operation": np.array([r.operation for r in mid], dtype=str),
        "count": np.array([r.mean for r in mid]),
        "pj_each": np.array([r.pj for r in mid]),
        "energy_pj_low": energies["low"],
        "energy_pj": energies["value"],
        "energy_pj_high": energies["high"],
        "scales": np.array([r.scales for r in mid], dtype=bool),
    }
    per_inference = np.zeros(len(counts))
    for r in mid:
        per_inference = per_inference + np.asarray(r.count, float) * r.pj
    low, mid_us, high = (_latency_us(counts, given, which) for which in WHICH)
    return Price(
        profile=given,
        table=table,
        per_inference=per_inference,
        latency_us=mid_us,
        latency_low_us=low,
        latency_high_us=high,
        notes=tuple(counts.notes()),
    )


def _latency_us(counts: Counts, profile: Profile, which: str) -> np.ndarray | None:
    """Time of each sample ``[B]`` with the constants at "low", "value" or "high", µs."""
    model = MODELS[profile.model]
    ns = None if model.latency is None else model.latency(counts, tariff(profile, profile.values(which)))
    return None if ns is None else ns * _widening(profile, "latency")[which] / 1000


def _widening(profile: Profile, what: Literal["energy", "latency"]) -> dict[str, float]:
    """What the profile's published error makes of its low, value and high."""
    error = profile.error.get(what, 0.0)
    return {"low": 1 - error, "value": 1.0, "high": 1 + error}


def sensitivity(counts: Counts, profile: str | Profile, by: float = 0.2) -> dict[str, np.ndarray]:
    """What a change of each constant by ±`by` does to the total, largest first.

    Columns constant, energy_pj_minus, energy_pj_plus, change (relative, of the plus side). Constants
    that only set the time are left out, unless static power makes them count. Raises `ParameterError` for
    a `by` that is no share.
    """
    if not 0 < by < 1:
        raise ParameterError(f"sensitivity needs 0 < by < 1 (0.2 is ±20 %), got {by}.")
    given = load_profile(profile)
    base = given.values()
    total = total_pj(rows(counts, given, base))
    found = []
    for name, value in base.items():
        minus, plus = (total_pj(rows(counts, given, {**base, name: value * f})) for f in (1 - by, 1 + by))
        if minus != total or plus != total:
            found.append((name, minus, plus, (plus - total) / total if total else 0.0))
    found.sort(key=lambda row: -abs(row[3]))
    return {
        "constant": np.array([f[0] for f in found], dtype=str),
        "energy_pj_minus": np.array([f[1] for f in found]),
        "energy_pj_plus": np.array([f[2] for f in found]),
        "change": np.array([f[3] for f in found]),
    }
