"""The scale of a population, K weight units to the threshold, and its parameters in integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..chips import Chip
from ..errors import ExportError
from ..graph import Graph, Population, Projection
from ..neurons.loihi import FULL, ONE
from . import loihi
from .cells import Cell, Use
from .report import LayerReport, PopulationReport, Report


@dataclass(frozen=True)
class Rounding:
    """What the integers may be; the fields are arguments of `snnkit.hardware.quantise.quantise`.

    bits  of every projection by name
    """

    chip: Chip
    bits: dict[str, int]
    exponents: bool
    bias_exponent: int | None
    settled_bias: bool

    @property
    def largest_bias(self) -> int:
        """The largest mantissa of a bias."""
        return (1 << (self.chip.bias_bits - 1)) - 1


def scaled(
    graph: Graph, cell: Cell, use: Use, how: Rounding, latency: int, report: Report
) -> tuple[Population, list[Projection]]:
    """The population and the projections into it, in integers; delays still the float network's.

    What was changed is added to `report`. Raises `ExportError` naming the population for what no K brings
    into the chip's registers.
    """
    incoming = graph.into(cell.name)
    parts = [Part.of(graph, p, cell, use, how.bits[p.name]) for p in incoming]
    du, error_u = _decay(cell.keep_u, 4095)
    dv, error_v = _decay(cell.keep_v, 4096)
    on_grid = bool((du == 4095).all()) and bool(np.isin(dv, (0, 4096)).all())
    bias = cell.bias * cell.row
    if cell.keep_u.any():
        bias = bias / (1 - cell.keep_u)
    limit = _limit(cell, use, bias, how, report)
    k, vth = _search(cell, parts, bias, on_grid and how.bias_exponent == 6, limit, how)
    rounded = [_rounded(p, part, cell, k, how) for p, part in zip(incoming, parts, strict=True)]
    mantissa, exponent = _bias(cell, bias, k, how)
    u, v = _start(cell, bias, k, how, report)
    report.layers |= {p.name: layer for p, layer in rounded}
    spread = np.abs(mantissa * (1 << exponent) - bias * ONE * k)
    report.populations[cell.name] = PopulationReport(
        threshold_units=float(k),
        du=np.unique(du).tolist(),
        dv=np.unique(dv).tolist(),
        vth=vth,
        decay_error=float(max(error_u, error_v)),
        bias_error=float(spread.max(initial=0) / (ONE * k)),
        latency=latency,
    )
    population = loihi.population(
        cell.name,
        cell.shape,
        du=_one_or_all(du, cell.shape),
        dv=_one_or_all(dv, cell.shape),
        vth=vth,
        bias=_one_or_all(mantissa << exponent, cell.shape),
        u=_one_or_all(u, cell.shape),
        v=_one_or_all(v, cell.shape),
        refractory=cell.refractory,
    )
    if cell.refractory:
        report.warnings.append(
            f"population {cell.name!r}: refractory period of {cell.refractory} steps; lava-nc has no "
            "fixed-point model of it, so it is not verified against Lava."
        )
    if len(np.unique(du)) > 1 or len(np.unique(dv)) > 1:
        report.warnings.append(
            f"population {cell.name!r}: decays differ between neurons; the integer model runs them, whether "
            "the chip takes them is not verified."
        )
    return population, [p for p, _ in rounded]


def _rounded(
    p: Projection, part: Part, cell: Cell, k: float, how: Rounding
) -> tuple[Projection, LayerReport]:
    """The projection with integer weights, and what that changed."""
    q, e, clipped = part.rounded(k, how.exponents)
    weight = (q << e).reshape(p.weight.shape)
    options = dict(p.options) | {"bits": part.bits, "exponent": e}
    change = part.weight * k - (q << e)
    rms = float(np.sqrt(np.mean(np.square(part.weight * k)))) or 1.0
    layer = LayerReport(
        bits=part.bits,
        exponent=e,
        scale=float(k * np.mean(cell.row)),
        clipped=clipped,
        weights=part.weight.size,
        rms_error=float(np.sqrt(np.mean(np.square(change)))) / rms,
    )
    return replace(p, weight=weight, options=options), layer


def _bias(cell: Cell, bias: np.ndarray, k: float, how: Rounding) -> tuple[np.ndarray, int]:
    """Mantissas int64 ``[N]`` and the exponent of biases given in thresholds."""
    top, exponent = how.largest_bias, how.bias_exponent
    if exponent is None:
        exponent = next(x for x in range(8) if np.abs(bias).max() * ONE * k <= top << x or x == 7)
    mantissa = np.round(bias * ONE * k / (1 << exponent)).astype(np.int64)
    if np.abs(mantissa).max(initial=0) > top:
        worst = int(np.abs(mantissa).argmax())
        raise ExportError(
            f"population {cell.name!r}, neuron {worst}: bias {cell.bias[worst]:g} is {mantissa[worst]} · "
            f"2^{exponent}, beyond the chip's {how.chip.bias_bits} bits. Pass bias_exponent=None."
        )
    return mantissa, exponent


def _start(
    cell: Cell, bias: np.ndarray, k: float, how: Rounding, report: Report
) -> tuple[np.ndarray, np.ndarray]:
    """u and v before the first step, int64 ``[N]``."""
    u = np.round(cell.start_u * ONE * k).astype(np.int64)
    v = np.round(cell.start_v * ONE * k).astype(np.int64)
    if cell.keep_u.any() and bias.any() and how.settled_bias:
        report.warnings.append(
            f"population {cell.name!r}: its bias acts on the current, on the chip on the potential: from the "
            "first step on in full, where the float network's grows to it (settled_bias=True)."
        )
    elif cell.keep_u.any() and bias.any():
        u = u - np.round(bias * ONE * k).astype(np.int64)
        if np.abs(u).max() >= FULL:
            raise ExportError(f"population {cell.name!r}: the bias needs u = {u.min()}, beyond 24 bits.")
        report.warnings.append(
            f"population {cell.name!r}: its bias acts on the current; u starts at minus the settled value. "
            "settled_bias=True (--settled-bias) starts settled instead, which a NetX file can hold."
        )
    return u, v


def _one_or_all(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A scalar where all are equal, one value a channel where those are equal, else one a neuron."""
    if (values == values.flat[0]).all():
        return values.reshape(-1)[0]
    values = values.reshape(shape)
    if len(shape) == 3 and (values == values[:, :1, :1]).all():
        return values[:, :1, :1]
    return values


def _decay(keep: np.ndarray, zero: int) -> tuple[np.ndarray, float]:
    """du or dv of what is kept, and the largest change of what is kept."""
    kept = np.round(keep * 4096).astype(np.int64)
    if zero == 4095:
        kept = kept.clip(0, 4095)
    return zero - kept, float(np.abs(kept / 4096 - keep).max())


@dataclass(frozen=True)
class Part:
    """One projection's weights in thresholds of their targets, and how much each is used.

    weight     float64, in the projection's own shape
    use        how much the rounding of each counts, same shape
    low, high  the smallest and largest integer that it may become
    """

    name: str
    weight: np.ndarray
    use: np.ndarray
    bits: int
    low: int
    high: int

    @classmethod
    def of(cls, graph: Graph, p: Projection, cell: Cell, use: Use, bits: int) -> Part:
        """The part of projection `p` into `cell`, to be held in `bits` bits."""
        weight = p.weight.astype(np.float64)
        source, rate = graph.populations[p.source], use.square[p.source]
        if p.kind == "dense":
            row, used = cell.row[:, None], rate[None, :]
        elif p.kind == "one_to_one":
            row, used = cell.row, rate
        elif p.kind == "sparse":
            assert p.indptr is not None
            assert p.indices is not None
            row, used = cell.row[p.indices], np.repeat(rate, np.diff(p.indptr))
        else:
            per_channel = cell.row.reshape(cell.shape[0], -1)
            if np.ptp(per_channel, axis=1).any():
                raise ExportError(
                    f"population {cell.name!r}: thresholds or gains differ within a channel; the shared "
                    f"weights of convolution {p.name!r} cannot take that up."
                )
            row = per_channel[:, :1, None, None]
            groups = int(p.options.get("groups", 1))
            channel = rate.reshape(source.shape[0], -1).mean(1).reshape(groups, -1)
            used = np.repeat(channel, weight.shape[0] // groups, 0)[:, :, None, None]
        weight = weight * row
        used = np.broadcast_to(used, weight.shape)
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        if weight.min(initial=0) >= 0:
            low, high = 0, (1 << bits) - 1
        elif weight.max(initial=0) <= 0:
            low, high = -min((1 << bits) - 1, 127), 0  # further down lava-dl's reader garbles them
        return cls(name=p.name, weight=weight, use=used, bits=bits, low=low, high=high)

    @property
    def fits(self) -> float:
        """The largest K at which nothing is clipped."""
        high, low = self.weight.max(initial=0), self.weight.min(initial=0)
        return min(self.high / high if high > 0 else np.inf, self.low / low if low < 0 else np.inf)

    def rounded(self, k: float, exponents: bool) -> tuple[np.ndarray, int, int]:
        """Integers (int64, in the shape of the weights), exponent, number of clipped weights."""
        e = max(math.ceil(math.log2(k / self.fits) - 0.5), 0) if exponents and np.isfinite(self.fits) else 0
        q = np.round(self.weight * k / (1 << e))
        clipped = int(((q > self.high) | (q < self.low)).sum())
        q = q.clip(self.low, self.high).astype(np.int64)
        if self.high == 0 and q.any():
            while (lowest := -int(q.min())) & (lowest - 1) == 0:  # nor may −2^k be the lowest
                q[q == -lowest] = -3 if lowest < 3 else 1 - lowest
        return q, e, clipped

    def error(self, k: float, exponents: bool) -> float:
        """Σ use · (change of the weight)² at this K, in thresholds²."""
        q, e, _ = self.rounded(k, exponents)
        return float((self.use * np.square((q << e) / k - self.weight)).sum())


def _limit(cell: Cell, use: Use, bias: np.ndarray, how: Rounding, report: Report) -> float:
    """The largest K at which threshold, biases and potentials stay within the chip's registers."""
    limit = float((1 << how.chip.vth_bits) - 1)
    exponent = how.chip.bias_exponent if how.bias_exponent is None else how.bias_exponent
    if bias.any():
        limit = min(limit, (how.largest_bias << exponent) / (ONE * np.abs(bias).max()))
    peak = use.peak.get(cell.name)
    if peak is not None:
        reach = peak / cell.unit.min()
        limit = min(limit, FULL / (ONE * 2 * max(reach, 1e-9)))
    elif not cell.spikes:
        report.warnings.append(
            f"population {cell.name!r}: without calibration data it is not known whether its potential "
            "stays below 2^23; beyond, it saturates."
        )
    return limit


def _search(
    cell: Cell,
    parts: Sequence[Part],
    bias: np.ndarray,
    on_grid: bool,
    limit: float,
    how: Rounding,
) -> tuple[float, int]:
    """K and vth: those of least error, K at most `limit`; on_grid: K may lie between whole numbers."""
    exponents = how.exponents
    fits = [part.fits for part in parts if np.isfinite(part.fits)]
    if not fits:
        base = min(limit, 255.0)
        if not cell.spikes:
            return base, loihi.SILENT
        whole = max(int(base), 1)
        return float(whole), whole if cell.strict else whole - 1
    base = max(fits) if exponents else min(fits)
    if cell.spikes and (n := _exact(parts, bias, min(min(fits), limit))):
        return float(n), n if cell.strict else n - 1
    if exponents:
        while base < 1024 and base * 2 <= limit:  # a threshold of more units, held by the exponent
            base *= 2

    def cost(option: tuple[float, int]) -> float:
        return _error(parts, bias, option[0], exponents)

    def options_at(candidates: np.ndarray) -> list[tuple[float, int]]:
        if not cell.spikes:
            return [(float(k), loihi.SILENT) for k in candidates]
        whole = np.unique([np.floor(candidates), np.round(candidates)])
        between = 0 if cell.strict else 1 / ONE
        found = [(n - 0.5, n - 1) if on_grid else (n + between, n) for n in whole]
        return [
            (float(k), int(vth))
            for k, vth in found
            if 1 <= vth < 1 << how.chip.vth_bits and k <= limit * (1 + 1e-9)
        ]

    coarse = np.minimum(base * np.geomspace(0.35, 2.5, 48), limit)
    options = options_at(coarse)
    if not options:
        worst = max(parts, key=lambda part: float(np.abs(part.weight).max(initial=0)))
        most = float(np.abs(worst.weight).max())
        raise ExportError(
            f"population {cell.name!r}: its threshold is {1 / most:.3g} of the largest weight of "
            f"{worst.name!r}, too small to represent beside {worst.bits}-bit weights"
            + (" and its biases" if bias.any() else "")
            + ". Clip the weights, or pass exponents=True and bias_exponent=None."
        )
    best = min(options, key=cost)
    fine = np.minimum(best[0] * np.geomspace(0.96, 1.04, 24), limit)
    return min([best, *options_at(fine)], key=cost)


def _exact(parts: Sequence[Part], bias: np.ndarray, limit: float) -> int:
    """The largest K at which all weights and biases are whole numbers, or 0.

    Such networks are made by hand: there h = v_th happens, and must spike, so vth is K − 1 (of neurons that
    spike above the threshold only: K).
    """
    k = np.arange(1, int(min(limit * (1 + 1e-9), 4096)) + 1)
    values = np.unique(np.concatenate([bias, *(part.weight.reshape(-1) for part in parts)]))

    def whole(values: np.ndarray, k: np.ndarray) -> np.ndarray:
        scaled = k[:, None] * values[None]
        return np.abs(scaled - np.round(scaled)).max(1, initial=0) < 1e-5

    k = k[whole(values[:: max(len(values) // 64, 1)], k)]
    return max((int(n) for n in k if whole(values, np.array([n]))[0]), default=0)


def _error(parts: Sequence[Part], bias: np.ndarray, k: float, exponents: bool) -> float:
    """What rounding adds to the potentials' mean square, in thresholds."""
    change = np.round(bias * k) / k - bias
    return sum(part.error(k, exponents) for part in parts) + float(np.square(change).sum())
