"""A profile fitted to measurements of a board.

A user measures a few networks and gives, for each, its counts and the energy (and time, if known) of
an inference. Energy is linear in the constants of a profile; with x_c the factor by which constant c
differs from the starting profile, the fit minimises over ln x

    Σ rows ρ((ln E_model(x) − ln E_measured) / noise) + Σ c (ln x_c / prior)²

with ρ the soft-L1 loss, so that one bad row does little harm, and a prior that keeps a constant where
the rows say nothing about it. The confidence of each constant is the curvature at the minimum, with
the noise as the rows show it where they show more than was assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, ParameterError
from ..files import PathLike
from .counts import Counts
from .library import load_profile
from .models import MODELS
from .price import rows, tariff
from .profile import Profile
from .rows import mean, total_pj

MIN_ROWS = 5
_Z = 1.959963984540054  # 95 % of a normal distribution


@dataclass(frozen=True)
class Measurement:
    """One measured network.

    energy_pj    mean energy of an inference, pJ
    latency_us   mean time of an inference, µs, if it was measured
    """

    counts: Counts
    energy_pj: float
    latency_us: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Calibration:
    """A fitted profile and how good it is.

    profile       the fitted profile; low and high of its fitted constants are the 95 % interval
    factors       constant → (fitted / starting value, low, high); 95 % interval
    informed      constant → part of its prior variance that the rows removed, 0 (nothing learned) to 1
    error         relative error of each row after the fit: model / measured − 1, ``[R]``
    left_out      the same, each row predicted by a fit without it: what to expect of a new network
    """

    profile: Profile
    factors: dict[str, tuple[float, float, float]]
    informed: dict[str, float]
    error: np.ndarray
    left_out: np.ndarray

    def save(self, path: PathLike) -> None:
        """Write the fitted profile as TOML."""
        self.profile.save(path)


def calibrate(
    measurements: Sequence[Measurement],
    base: str | Profile = "loihi1_sanafe",
    name: str = "calibrated",
    constants: Sequence[str] | None = None,
    *,
    noise: float = 0.05,
    prior: float = 1.0,
    year: int = 2025,
) -> Calibration:
    """Fit the constants of a profile to measured rows, at least 5.

    base       the profile to start from
    constants  names to fit; None: every constant that some row depends on
    noise      relative error of a measurement that is expected
    prior      standard deviation of ln(factor) before any measurement: 1 is a factor of e either way
    year       written into the fitted constants

    Raises `DataError` for fewer rows, or a row of no positive energy or time; `ParameterError` for a
    constant that the profile has not or on which no row depends, a time without a model or mapping for
    it, and a `noise` or `prior` that is not positive.
    """
    given = load_profile(base)
    _check(measurements, noise, prior)
    start = given.values()
    wanted = list(start) if constants is None else list(constants)
    unknown = [c for c in wanted if c not in start]
    if unknown:
        raise ParameterError(
            f"profile {given.name!r} has no constant {unknown[0]!r}; it has {', '.join(start)}."
        )
    problem = _Problem(given, measurements, noise, prior)
    fitted = [c for c in wanted if problem.matters(c)]
    if not fitted:
        raise ParameterError(f"none of the constants {', '.join(wanted)} plays a part in these rows.")
    logs, covariance = problem.fit(fitted, np.ones(len(measurements), bool))
    deviation = np.sqrt(np.diag(covariance))
    left_out = np.zeros(len(measurements))
    for i in range(len(measurements)):
        others = np.arange(len(measurements)) != i
        left_out[i] = problem.errors(fitted, problem.fit(fitted, others)[0])[i]
    factors = {
        c: (float(np.exp(x)), float(np.exp(x - _Z * d)), float(np.exp(x + _Z * d)))
        for c, x, d in zip(fitted, logs, deviation, strict=True)
    }
    return Calibration(
        profile=_profile(given, name, factors, len(measurements), year),
        factors=factors,
        informed={c: float(max(0.0, 1 - d**2 / prior**2)) for c, d in zip(fitted, deviation, strict=True)},
        error=problem.errors(fitted, logs),
        left_out=left_out,
    )


def _check(measurements: Sequence[Measurement], noise: float, prior: float) -> None:
    if len(measurements) < MIN_ROWS:
        raise DataError(
            f"calibration needs at least {MIN_ROWS} measured rows, got {len(measurements)}; with fewer a "
            "constant can't be told from another."
        )
    for i, m in enumerate(measurements):
        wrong = [x for x in (m.energy_pj, m.latency_us) if x is not None and not 0 < x < np.inf]
        if wrong:
            raise DataError(f"row {i} ({m.name or 'unnamed'}): {wrong[0]} is no positive energy or time.")
    if not (noise > 0 and prior > 0):
        raise ParameterError(f"noise and prior must be positive, got {noise} and {prior}.")


class _Problem:
    """Energies and times of all rows as functions of the constants."""

    def __init__(
        self, profile: Profile, measurements: Sequence[Measurement], noise: float, prior: float
    ) -> None:
        self.profile, self.measurements = profile, measurements
        self.noise, self.prior = noise, prior
        self.start = profile.values()
        self.model = MODELS[profile.model]
        if any(m.latency_us is not None for m in measurements) and self.model.latency is None:
            raise ParameterError(f"profile {profile.name!r} gives no latency; leave latency_us out.")

    def predicted(self, k: dict[str, float], i: int) -> list[float]:
        """[energy] or [energy, time] of row i, pJ and µs.

        Raises `ParameterError` where a row has a time but its counts say nothing of it.
        """
        m = self.measurements[i]
        out = [total_pj(rows(m.counts, self.profile, k))]
        if m.latency_us is not None:
            assert self.model.latency is not None
            ns = self.model.latency(m.counts, tariff(self.profile, k))
            if ns is None:
                raise ParameterError(f"row {i} has a time, but its counts were taken without a mapping.")
            out.append(mean(ns) / 1000)
        return out

    def measured(self, i: int) -> list[float]:
        m = self.measurements[i]
        return [m.energy_pj] if m.latency_us is None else [m.energy_pj, m.latency_us]

    def matters(self, constant: str) -> bool:
        """Does any row change with this constant?"""
        changed = {**self.start, constant: self.start[constant] * 2}
        return any(
            self.predicted(changed, i) != self.predicted(self.start, i) for i in range(len(self.measurements))
        )

    def _log_ratios(self, names: Sequence[str], logs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """ln(model / measured) of every energy and time of the rows chosen (bool ``[R]``)."""
        k = {**self.start, **{c: self.start[c] * np.exp(x) for c, x in zip(names, logs, strict=True)}}
        ratios: list[float] = []
        for i in np.flatnonzero(chosen):
            pairs = zip(self.predicted(k, int(i)), self.measured(int(i)), strict=True)
            ratios += [float(np.log(max(p, 1e-300) / m)) for p, m in pairs]
        return np.array(ratios)

    def fit(self, names: Sequence[str], chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln factors at the minimum ``[C]``, and their covariance ``[C, C]``; chosen: rows, bool ``[R]``."""
        from scipy.optimize import least_squares

        def residuals(logs: np.ndarray) -> np.ndarray:
            z = self._log_ratios(names, logs, chosen) / self.noise
            robust = np.sign(z) * np.sqrt(2 * (np.sqrt(1 + z**2) - 1))
            return np.concatenate([robust, logs / self.prior])

        found = least_squares(residuals, np.zeros(len(names)), method="trf", xtol=1e-10, ftol=1e-10)
        misfit = residuals(found.x)[: -len(names)]
        spread = max(1.0, float(np.median(np.abs(misfit)) / 0.6745)) if len(misfit) else 1.0
        data = found.jac[: -len(names)]
        information = data.T @ data / spread**2 + np.eye(len(names)) / self.prior**2
        return found.x, np.linalg.inv(information)

    def errors(self, names: Sequence[str], logs: np.ndarray) -> np.ndarray:
        """Model / measured − 1 of the energy of each row, ``[R]``; logs: ln factors ``[C]``."""
        k = {**self.start, **{c: self.start[c] * np.exp(x) for c, x in zip(names, logs, strict=True)}}
        return np.array([self.predicted(k, i)[0] / m.energy_pj - 1 for i, m in enumerate(self.measurements)])


def _profile(
    base: Profile, name: str, factors: dict[str, tuple[float, float, float]], count: int, year: int
) -> Profile:
    changed = dict(base.constants)
    for c, (value, low, high) in factors.items():
        start = base.constants[c].value
        changed[c] = base.constants[c].model_copy(
            update={
                "value": start * value,
                "low": start * low,
                "high": start * high,
                "source": f"fitted to {count} measurements, from {base.name}; range: 95 % interval",
                "year": year,
                "quality": "fitted",
            }
        )
    return base.model_copy(
        update={
            "name": name,
            "title": f"{base.title}, calibrated",
            "quality": f"fitted to {count} measured networks, starting from {base.name}",
            "error": {},
            "constants": changed,
        }
    )
