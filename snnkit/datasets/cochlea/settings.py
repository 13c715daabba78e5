"""The constants of the chain from sound to spikes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ...errors import ParameterError


@dataclass(frozen=True)
class Cochlea:
    """Constants of the chain; the defaults are those of the SHD paper. CGS units as in its sources.

    channels        places along the membrane, evenly spaced, the stapes (high pitch) first
    sample_rate     Hz that every sound is brought to; None keeps the sound's own
    rms             root mean square the sound is scaled to
    flank_ms        length of the Hann flanks at both ends, ms; None: half the clip each
    pad_ms          least silence appended so that the end does not ring into the beginning, ms; None: none
    f_min           lowest frequency of the membrane's spectrum, Hz
    length          of the cochlea, cm
    stiffness       C0, g s⁻² cm⁻²
    stiffness_slope α, cm⁻¹
    stiffness_drop  a, g s⁻² cm⁻²
    density         ρ of the fluid, g cm⁻³
    damping         δ
    height          h of the fluid, cm
    mass            m of the membrane, g cm⁻²
    cell_y … cell_m the rates (1/s) and amounts of the hair cell: y, g, l, r, x, A, B, h, M
    afferents       fibres per bushy cell
    tau_mem         membrane time constant of the bushy cell, ms
    tau_syn         synaptic time constant, ms
    refractory      of afferents and bushy cells, ms
    weight          of all afferents of a cell together, thresholds per second
    precision       "single" (float32, fast) or "double" (float64, to check stages by)
    """

    channels: int = 700
    sample_rate: int | None = 48_000
    rms: float = 0.3
    flank_ms: float | None = 30.0
    pad_ms: float | None = 25.0
    f_min: float = 1.0
    length: float = 3.5
    stiffness: float = 1e9
    stiffness_slope: float = 3.0
    stiffness_drop: float = 3500.0
    density: float = 1.0
    damping: float = 0.15
    height: float = 0.1
    mass: float = 0.05
    cell_y: float = 5.05
    cell_g: float = 2000.0
    cell_l: float = 2500.0
    cell_r: float = 6580.0
    cell_x: float = 66.3
    cell_a: float = 5.0
    cell_b: float = 300.0
    cell_h: float = 50_000.0
    cell_m: float = 1.0
    afferents: int = 40
    tau_mem: float = 1.0
    tau_syn: float = 0.5
    refractory: float = 1.0
    weight: float = 13_000.0
    precision: str = "single"

    def __post_init__(self) -> None:
        if self.precision not in ("single", "double"):
            raise ParameterError(f'Cochlea: precision is "single" or "double", got {self.precision!r}.')
        may_be_none = {"sample_rate", "flank_ms", "pad_ms"}
        may_be_zero = {"flank_ms", "pad_ms", "stiffness_drop", "refractory"}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "precision" or (value is None and entry.name in may_be_none):
                continue
            whole = entry.name in ("channels", "sample_rate", "afferents")
            if (
                not isinstance(value, int | np.integer if whole else int | float | np.number)
                or not math.isfinite(value)
                or value < 0
                or (value == 0 and entry.name not in may_be_zero)
            ):
                kind = "a whole number above 0" if whole else "a number above 0"
                if entry.name in may_be_zero:
                    kind = "a number of at least 0"
                raise ParameterError(f"Cochlea: {entry.name} = {value!r}, expected {kind}.")
        if self.stiffness * math.exp(-self.stiffness_slope * self.length) <= self.stiffness_drop:
            raise ParameterError(
                "Cochlea: the membrane's stiffness falls below 0 within its length; lower stiffness_slope, "
                "length or stiffness_drop."
            )

    @property
    def dtype(self) -> type:
        """Floating-point type of the stages."""
        return np.float32 if self.precision == "single" else np.float64


def with_changes(settings: Cochlea | None, changes: dict[str, Any]) -> Cochlea:
    """The settings, or the defaults, with some fields replaced.

    Raises `ParameterError` naming a field that there is not.
    """
    known = {entry.name for entry in fields(Cochlea)}
    if unknown := sorted(set(changes) - known):
        raise ParameterError(f"Cochlea has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    return replace(settings or Cochlea(), **changes)
