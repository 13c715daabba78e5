"""A float network in Loihi's integers.

Units. A population's potential is measured in thresholds and multiplied by `scale`: one weight unit
is 64 units of v. With K weight units to the threshold,

    weight_int = round(K · gain · weight / v_th)        signed, `bits` wide, times 2^exponent
    vth        = K − 1/64, so that v ≥ 64·K, the float neuron's h ≥ v_th, is v > 64·vth

K is searched so that the weights' rounding, weighted by how often each synapse is used in calibration
data, changes the potentials least. Decays become n/4096.

Time. A spike takes one step through a synapse. Every population gets a latency L, and a synapse of
delay d from A to B gets d + L(B) − L(A) steps, so that all arrives at the moment it should, L later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .. import engine
from ..engine import synapses
from ..errors import ExportError, ParameterError
from ..events import EventBatch
from ..graph import INPUT, Graph, Population, Projection
from ..neurons.loihi import FULL, NEVER, ONE
from . import loihi
from .chips import LOIHI2, Chip

DECAYS = ("refuse", "shared", "per_neuron")


@dataclass
class LayerReport:
    """What became of one projection.

    scale      weight units per unit of the float weight (mean over targets)
    exponent   weights are integers of `bits` times 2^exponent
    clipped    weights that lay outside what `bits` can hold
    rms_error  rms of the weights' change relative to their rms
    """

    bits: int
    exponent: int
    scale: float
    clipped: int
    weights: int
    rms_error: float


@dataclass
class PopulationReport:
    """What became of one population: integers, K, and the decays' change."""

    threshold_units: float
    du: list[int]
    dv: list[int]
    vth: int
    decay_error: float
    bias_error: float
    latency: int


@dataclass
class Report:
    """What quantising did, kept in ``graph.metadata["quantisation"]``.

    delays_clipped  synapses whose delay was cut to the chip's longest
    relays          relay neurons added for long delays
    time_factor     steps of the float network that make one of this one
    warnings        what may differ, in words
    """

    chip: str
    layers: dict[str, LayerReport] = field(default_factory=dict)
    populations: dict[str, PopulationReport] = field(default_factory=dict)
    delays_clipped: int = 0
    relays: int = 0
    time_factor: int = 1
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph) -> Report:
        """The report of a graph that `quantise` made."""
        if "quantisation" not in graph.metadata:
            raise ParameterError("this graph was not made by quantise; it holds no report.")
        data = dict(graph.metadata["quantisation"])
        data["layers"] = {k: LayerReport(**v) for k, v in data["layers"].items()}
        data["populations"] = {k: PopulationReport(**v) for k, v in data["populations"].items()}
        return cls(**data)

    def __str__(self) -> str:
        lines = [f"{'projection':<24} {'bits':>4} {'exp':>4} {'scale':>9} {'clipped':>8} {'rms error':>10}"]
        lines += [
            f"{name:<24} {r.bits:>4} {r.exponent:>4} {r.scale:>9.4g} {r.clipped:>8} {r.rms_error:>10.2%}"
            for name, r in self.layers.items()
        ]
        lines.append(f"{'population':<24} {'vth':>7} {'du':>5} {'dv':>5} {'decay error':>12} {'latency':>8}")
        lines += [
            f"{name:<24} {r.vth:>7} {r.du[0]:>5} {r.dv[0]:>5} {r.decay_error:>12.2g} {r.latency:>8}"
            for name, r in self.populations.items()
        ]
        lines.append(f"delays clipped: {self.delays_clipped}; relay neurons: {self.relays}")
        return "\n".join([*lines, *self.warnings])


def quantise(
    graph: Graph,
    *,
    chip: Chip = LOIHI2,
    bits: int | dict[str, int] = 8,
    calibration: EventBatch | dict[str, EventBatch] | None = None,
    clip_delays: bool = False,
    relay_delays: bool = False,
    rescale_time: bool = False,
    decays: str = "refuse",
    exponents: bool = False,
    bias_exponent: int | None = 6,
    settled_bias: bool = False,
    align: bool = True,
) -> Graph:
    """The network in integers: populations "loihi", weights of 2–8 bits, delays the chip can hold.

    bits           for all projections, or {projection: bits} (8 where not named)
    calibration    a few samples of real input; weighs the rounding by use, and shows how far the
                   read-out's potential reaches and whether inputs carry counts
    clip_delays    delays beyond the chip's become its longest; counted in the report
    relay_delays   or: are passed on by relay neurons, without loss
    rescale_time   or: the step is made a whole number of times longer, see `coarser`
    decays         where neurons of a population differ: "refuse", "shared" (their mean) or
                   "per_neuron" (runs in the integer model; the chip's own tools take one value)
    exponents      let a projection's weights carry a factor 2^e (Lava takes it, NetX files do not)
    bias_exponent  of the 13-bit biases; 6 is NetX's; None: the finest that fits
    settled_bias   of a current-based neuron: start as if the bias had acted for ever
    align          clear a population's state just before the first input can reach it, so that biases
                   do not act in the steps of latency before

    The report is in ``metadata["quantisation"]`` (`Report.of`). Raises `ExportError` naming layer and
    value for what the chip does not have: soft reset, a reset that is not the resting potential,
    neurons of other kinds, thresholds, decays or delays out of range.
    """
    graph.validate()
    if decays not in DECAYS:
        raise ParameterError(f"decays {decays!r} is none of {', '.join(DECAYS)}.")
    if clip_delays + relay_delays + rescale_time > 1:
        raise ParameterError("choose one of clip_delays, relay_delays and rescale_time.")
    report = Report(chip.name)
    if rescale_time:
        report.time_factor = _factor(graph, chip)
        graph = coarser(graph, report.time_factor)
        if report.time_factor > 1 and calibration is not None:
            calibration = _each(calibration, lambda e: coarser_events(e, report.time_factor))
    use = _Use.measure(graph, calibration)
    latency = latencies(graph)
    biased = any(np.any(p.bias) for p in graph.populations.values())
    populations = {n: replace(p) for n, p in graph.populations.items() if p.neuron == INPUT}
    projections: list[Projection] = []
    scales: dict[str, Any] = {}
    for name, p in graph.populations.items():
        if p.neuron == INPUT:
            continue
        cell = _Cell.of(p, decays, graph, use)
        made, weights = _scaled(
            graph, cell, use, _bits(graph, bits, chip), exponents, bias_exponent, settled_bias, chip, report
        )
        if align and biased and not made.initial:
            made = _aligned(made, latency[name])
        populations[name] = made
        report.populations[name].latency = latency[name]
        scales[name] = _plain(ONE * report.populations[name].threshold_units / cell.unit)
        projections += weights
    projections = _delayed(
        graph, projections, populations, latency, chip, clip_delays, relay_delays, use.graded, report
    )
    for wire in projections:  # a relay lags behind as much as what it relays
        latency.setdefault(wire.target, latency[wire.source])
    metadata = dict(graph.metadata)
    last = max((latency[name] for name in graph.outputs), default=0)
    metadata |= {
        "latency": last,
        "latencies": latency,
        "steps_tail": int(metadata.get("steps_tail", 0)) + last,
        "scale": scales,
        "graded": use.graded,
        "quantisation": asdict(report),
    }
    order = [n for n in graph.populations if n in populations]
    ordered = {n: populations[n] for n in [*order, *(n for n in populations if n not in order)]}
    names = {p.name: i for i, p in enumerate(graph.projections)}
    projections.sort(key=lambda p: names.get(p.name, len(names)))
    return loihi.check(Graph(ordered, projections, graph.dt, list(graph.outputs), metadata))


def _bits(graph: Graph, bits: int | dict[str, int], chip: Chip) -> dict[str, int]:
    names = [p.name for p in graph.projections]
    given = bits if isinstance(bits, dict) else dict.fromkeys(names, bits)
    if unknown := set(given) - set(names):
        raise ParameterError(f"bits names {sorted(unknown)}, which are no projections; there are {names}.")
    for name, value in given.items():
        if not 2 <= value <= chip.weight_bits:
            raise ParameterError(f"projection {name!r}: {value} bits; the chip takes 2..{chip.weight_bits}.")
    return dict.fromkeys(names, chip.weight_bits) | given


def _plain(value: Any) -> Any:
    array = np.asarray(value, np.float64)
    return float(array.flat[0]) if np.ptp(array) == 0 else array.reshape(-1).tolist()


def _each(events: Any, change: Any) -> Any:
    return {k: change(e) for k, e in events.items()} if isinstance(events, dict) else change(events)


@dataclass
class _Use:
    """How the float network is used by calibration data.

    square  population → mean s² of each neuron [N]
    peak    population → largest |h|, or None where there is no data
    graded  whether inputs carry values other than 1; None where there is no data
    """

    square: dict[str, np.ndarray]
    peak: dict[str, float | None]
    graded: bool | None

    @classmethod
    def measure(cls, graph: Graph, calibration: Any) -> _Use:
        if calibration is None:
            ones = {n: np.ones(p.size) for n, p in graph.populations.items()}
            return cls(ones, dict.fromkeys(graph.populations), None)
        given = calibration if isinstance(calibration, dict) else {graph.inputs[0]: calibration}
        result = engine.simulate(graph, given, record=[(n, "h") for n in graph.populations if n not in given])
        peak: dict[str, float | None] = dict.fromkeys(graph.populations)
        square = {}
        for name, population in graph.populations.items():
            events = given[name] if name in given else result.spikes[name]
            values = np.ones(len(events.times)) if events.values is None else events.values
            total = np.bincount(events.neurons, np.square(values, dtype=np.float64), population.size)
            rate = total / max(int(result.steps.sum()), 1)
            square[name] = rate + 1e-4 * rate.mean() + 1e-12
            if name not in given:
                peak[name] = float(np.abs(result.recorded[name, "h"]).max(initial=0))
        graded = any(e.values is not None and (e.values != 1).any() for e in given.values())
        return cls(square, peak, graded)


@dataclass
class _Cell:
    """A float population in the terms of the chip's neuron.

    row        weights and bias are multiplied by this [N] (gain / unit)
    unit       potential that counts as 1 [N]: the threshold above rest; 1 for a read-out
    keep_u     what u keeps of itself in a step [N]
    keep_v     what v keeps [N]
    spikes     False for a read-out
    start_u, start_v  where current and potential start, in units of `unit` [N]
    """

    name: str
    shape: tuple[int, ...]
    row: np.ndarray
    unit: np.ndarray
    keep_u: np.ndarray
    keep_v: np.ndarray
    bias: np.ndarray
    spikes: bool
    refractory: int
    start_u: np.ndarray
    start_v: np.ndarray

    @classmethod
    def of(cls, p: Population, decays: str, graph: Graph, use: _Use) -> _Cell:
        where = f"population {p.name!r}"
        zero, one = np.zeros(p.size), np.ones(p.size)

        def get(name: str, default: np.ndarray) -> np.ndarray:
            return p.param(name) if name in p.params else default

        if p.neuron in ("lif", "if", "li"):
            keep_v, gain, rest = get("decay", one), get("gain", one), get("v_rest", zero)
            keep_u = zero
        elif p.neuron == "cuba":
            keep_u, keep_v, gain, rest = get("decay_syn", zero), get("decay_mem", one), one, zero
        else:
            raise ExportError(
                f"{where}: neurons of kind {p.neuron!r} have no counterpart on Loihi; lif, if, cuba, li have."
            )
        for name, value, top in (("decay_syn", keep_u, 1.0), ("decay", keep_v, 1.0 + 1e-12)):
            wrong = ~((value >= 0) & (value < top))
            if wrong.any():
                raise ExportError(
                    f"{where}, neuron {np.argmax(wrong)}: {name} is {value[wrong][0]}, must lie in [0, 1)."
                )
        unit, spikes = one, p.neuron != "li"
        if spikes:
            unit = get("v_th", one) - rest
            bound = _reach(graph, p, gain, keep_u, keep_v, use)
            if (unit > bound).all():
                unit, spikes = one, False
        reset = p.options.get("reset", "hard")
        if spikes:
            if reset != "hard":
                raise ExportError(f"{where}: reset {reset!r}; Loihi's neuron resets to 0 (hard) only.")
            if (unit <= 0).any():
                raise ExportError(
                    f"{where}, neuron {np.argmax(unit <= 0)}: threshold {unit.min():g} above rest; it must "
                    "be positive."
                )
            apart = np.abs(get("v_reset", zero) - rest) > 1e-9 * unit
            if apart.any():
                raise ExportError(
                    f"{where}, neuron {np.argmax(apart)}: v_reset {get('v_reset', zero)[apart][0]:g} is not "
                    f"the resting potential {rest[apart][0]:g}; Loihi's neuron resets to rest."
                )
        wait = np.unique(get("refractory", zero)) if p.options.get("refractory") else np.zeros(1)
        if len(wait) > 1:
            raise ExportError(f"{where}: refractory periods differ ({wait.min():g}..{wait.max():g} steps).")
        keeps = []
        for name, value in (("decay_syn", keep_u), ("decay", keep_v)):
            if np.ptp(value) > 0 and decays == "refuse":
                raise ExportError(
                    f"{where}: {name} differs between neurons ({value.min():g}..{value.max():g}); the chip's "
                    "tools take one value a population. Pass decays='shared' or decays='per_neuron'."
                )
            keeps.append(np.full(p.size, value.mean()) if decays == "shared" else value)
        bias = np.broadcast_to(p.bias, p.shape).reshape(-1).astype(np.float64)
        begins = {
            key: np.broadcast_to(p.initial.get(key, np.zeros(())), p.shape).reshape(-1).astype(np.float64)
            for key in ("i", "v")
        }
        return cls(
            p.name,
            p.shape,
            gain / unit,
            unit,
            keeps[0],
            keeps[1],
            bias,
            spikes,
            int(wait[0]),
            begins["i"] / unit,
            (begins["v"] - rest) / unit,
        )


def _reach(
    graph: Graph, p: Population, gain: np.ndarray, keep_u: np.ndarray, keep_v: np.ndarray, use: _Use
) -> np.ndarray:
    """A potential that no input can exceed [N]; 100 times what calibration shows is beyond it too."""
    total = np.abs(np.broadcast_to(p.bias, p.shape)).reshape(-1).astype(np.float64)
    for projection in graph.into(p.name):
        s = synapses(graph, projection)
        total = total + np.bincount(s.target, np.abs(s.weight), p.size) * (
            255 if use.graded is not False else 1
        )
    with np.errstate(divide="ignore"):
        bound = total * gain / ((1 - keep_u) * (1 - keep_v))
    peak = use.peak.get(p.name)
    return bound if peak is None else np.minimum(bound, 100 * peak + total * gain)


def _scaled(
    graph: Graph,
    cell: _Cell,
    use: _Use,
    bits: dict[str, int],
    exponents: bool,
    bias_exponent: int | None,
    settled_bias: bool,
    chip: Chip,
    report: Report,
) -> tuple[Population, list[Projection]]:
    """The population and the projections into it, in integers; delays still the float network's."""
    incoming = graph.into(cell.name)
    parts = [_Part.of(graph, p, cell, use, bits[p.name]) for p in incoming]
    du, error_u = _decay(cell.keep_u, 4095)
    dv, error_v = _decay(cell.keep_v, 4096)
    on_grid = bool((du == 4095).all()) and bool(np.isin(dv, (0, 4096)).all())
    bias = cell.bias * cell.row
    if cell.keep_u.any():
        bias = bias / (1 - cell.keep_u)
    limit = _limit(cell, use, bias, bias_exponent, chip, report)
    k, vth = _search(cell, parts, bias, on_grid and bias_exponent == 6, limit, exponents, chip)
    made, layers = [], {}
    for p, part in zip(incoming, parts, strict=True):
        q, e, clipped = part.rounded(k, exponents)
        weight = (q << e).reshape(p.weight.shape)
        options = dict(p.options) | {"bits": part.bits, "exponent": e}
        made.append(replace(p, weight=weight, options=options))
        change = part.weight * k - (q << e)
        rms = float(np.sqrt(np.mean(np.square(part.weight * k)))) or 1.0
        layers[p.name] = LayerReport(
            part.bits,
            e,
            float(k * np.mean(cell.row)),
            clipped,
            part.weight.size,
            float(np.sqrt(np.mean(np.square(change)))) / rms,
        )
    exponent = bias_exponent
    if exponent is None:
        exponent = next(x for x in range(8) if np.abs(bias).max() * ONE * k <= _top(chip) << x or x == 7)
    mantissa = np.round(bias * ONE * k / (1 << exponent)).astype(np.int64)
    if np.abs(mantissa).max(initial=0) > _top(chip):
        worst = int(np.abs(mantissa).argmax())
        raise ExportError(
            f"population {cell.name!r}, neuron {worst}: bias {cell.bias[worst]:g} is {mantissa[worst]} · "
            f"2^{exponent}, beyond the chip's {chip.bias_bits} bits. Pass bias_exponent=None."
        )
    u = np.round(cell.start_u * ONE * k).astype(np.int64)
    v = np.round(cell.start_v * ONE * k).astype(np.int64)
    if cell.keep_u.any() and bias.any() and not settled_bias:
        u = u - np.round(bias * ONE * k).astype(np.int64)
        if np.abs(u).max() >= FULL:
            raise ExportError(f"population {cell.name!r}: the bias needs u = {u.min()}, beyond 24 bits.")
        report.warnings.append(
            f"population {cell.name!r}: its bias acts on the current; u starts at minus the settled value. "
            "settled_bias=True starts settled instead, which a NetX file can hold."
        )
    report.layers |= layers
    spread = np.abs(mantissa * (1 << exponent) - bias * ONE * k)
    report.populations[cell.name] = PopulationReport(
        float(k),
        np.unique(du).tolist(),
        np.unique(dv).tolist(),
        vth,
        float(max(error_u, error_v)),
        float(spread.max(initial=0) / (ONE * k)),
        0,
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
    return population, made


def _top(chip: Chip) -> int:
    return (1 << (chip.bias_bits - 1)) - 1


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


@dataclass
class _Part:
    """One projection's weights in thresholds of their targets, and how much each is used."""

    name: str
    weight: np.ndarray
    use: np.ndarray
    bits: int
    low: int
    high: int

    @classmethod
    def of(cls, graph: Graph, p: Projection, cell: _Cell, use: _Use, bits: int) -> _Part:
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
        return cls(p.name, weight, used, bits, low, high)

    @property
    def fits(self) -> float:
        """The largest K at which nothing is clipped."""
        high, low = self.weight.max(initial=0), self.weight.min(initial=0)
        return min(self.high / high if high > 0 else np.inf, self.low / low if low < 0 else np.inf)

    def rounded(self, k: float, exponents: bool) -> tuple[np.ndarray, int, int]:
        """Integers, exponent, number of clipped weights."""
        e = max(math.ceil(math.log2(k / self.fits) - 0.5), 0) if exponents and np.isfinite(self.fits) else 0
        q = np.round(self.weight * k / (1 << e))
        clipped = int(((q > self.high) | (q < self.low)).sum())
        q = q.clip(self.low, self.high).astype(np.int64)
        if self.high == 0 and q.any():
            while (lowest := -int(q.min())) & (lowest - 1) == 0:  # nor may −2^k be the lowest
                q[q == -lowest] = -3 if lowest < 3 else 1 - lowest
        return q, e, clipped

    def error(self, k: float, exponents: bool) -> float:
        q, e, _ = self.rounded(k, exponents)
        return float((self.use * np.square((q << e) / k - self.weight)).sum())


def _limit(
    cell: _Cell, use: _Use, bias: np.ndarray, bias_exponent: int | None, chip: Chip, report: Report
) -> float:
    """The largest K at which threshold, biases and potentials stay within the chip's registers."""
    limit = float((1 << chip.vth_bits) - 1)
    exponent = chip.bias_exponent if bias_exponent is None else bias_exponent
    if bias.any():
        limit = min(limit, (_top(chip) << exponent) / (ONE * np.abs(bias).max()))
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
    cell: _Cell,
    parts: Sequence[_Part],
    bias: np.ndarray,
    on_grid: bool,
    limit: float,
    exponents: bool,
    chip: Chip,
) -> tuple[float, int]:
    """K and vth."""
    fits = [part.fits for part in parts if np.isfinite(part.fits)]
    if not fits:
        base = min(limit, 255.0)
        if not cell.spikes:
            return base, loihi.SILENT
        return float(max(int(base), 1)), max(int(base) - 1, 0)
    base = max(fits) if exponents else min(fits)
    if cell.spikes and (n := _exact(parts, bias, min(min(fits), limit))):
        return float(n), n - 1
    if exponents:
        while base < 1024 and base * 2 <= limit:  # a threshold of more units, held by the exponent
            base *= 2

    def cost(option: tuple[float, int]) -> float:
        return _error(parts, bias, option[0], exponents)

    def options_at(candidates: np.ndarray) -> list[tuple[float, int]]:
        if not cell.spikes:
            return [(float(k), loihi.SILENT) for k in candidates]
        whole = np.unique([np.floor(candidates), np.round(candidates)])
        found = [(n - 0.5, n - 1) if on_grid else (n + 1 / ONE, n) for n in whole]
        return [
            (float(k), int(vth))
            for k, vth in found
            if 1 <= vth < 1 << chip.vth_bits and k <= limit * (1 + 1e-9)
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


def _exact(parts: Sequence[_Part], bias: np.ndarray, limit: float) -> int:
    """The largest K at which all weights and biases are whole numbers, or 0.

    Such networks are made by hand: there h = v_th happens, and must spike, so vth is K − 1.
    """
    k = np.arange(1, int(min(limit * (1 + 1e-9), 4096)) + 1)
    values = np.unique(np.concatenate([bias, *(part.weight.reshape(-1) for part in parts)]))

    def whole(values: np.ndarray, k: np.ndarray) -> np.ndarray:
        scaled = k[:, None] * values[None]
        return np.abs(scaled - np.round(scaled)).max(1, initial=0) < 1e-5

    k = k[whole(values[:: max(len(values) // 64, 1)], k)]
    return max((int(n) for n in k if whole(values, np.array([n]))[0]), default=0)


def _error(parts: Sequence[_Part], bias: np.ndarray, k: float, exponents: bool) -> float:
    """What rounding adds to the potentials' mean square, in thresholds."""
    change = np.round(bias * k) / k - bias
    return sum(part.error(k, exponents) for part in parts) + float(np.square(change).sum())


def _aligned(p: Population, latency: int) -> Population:
    params = p.params | {
        "refractory": p.params.get("refractory", np.asarray(0)),
        "reset_interval": np.asarray(NEVER),
        "reset_offset": np.asarray(latency + 1),
    }
    return replace(p, params=params, options={"timed": True})


def latencies(graph: Graph) -> dict[str, int]:
    """Population → steps by which it lags behind the float network.

    A projection between layers adds one step; one that leads back (within a loop) may use up its own
    delay for that. Raises `ExportError` for a loop whose delays are shorter than its synapses.
    """
    loop = _loops(graph)
    names = list(graph.populations)
    latency = dict.fromkeys(names, 0)
    changed: Projection | None = None
    for _ in range(len(names) + 1):
        changed = None
        for p in graph.projections:
            back = loop[p.source] == loop[p.target]
            need = (
                latency[p.source] + 1 - (int(p.delays.min(initial=1 << 30)) if back and p.weight.size else 0)
            )
            if p.weight.size and need > latency[p.target]:
                latency[p.target], changed = need, p
        if changed is None:
            return latency
    where = changed.name if changed else ""
    raise ExportError(
        f"projection {where!r}: a loop of delays that are too short; on Loihi each synapse of a loop "
        "takes at least 1 step. Train with longer recurrent delays."
    )


def _loops(graph: Graph) -> dict[str, int]:
    """Population → number of its strongly connected part."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    index = {name: i for i, name in enumerate(graph.populations)}
    pairs = [(index[p.source], index[p.target]) for p in graph.projections]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    matrix = csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(index), len(index)))
    _, part = connected_components(matrix, connection="strong")
    return {name: int(part[i]) for name, i in index.items()}


def _delayed(
    graph: Graph,
    projections: list[Projection],
    populations: dict[str, Population],
    latency: dict[str, int],
    chip: Chip,
    clip: bool,
    relay: bool,
    graded: bool | None,
    report: Report,
) -> list[Projection]:
    """Delays on the chip, plus one; long ones clipped or relayed."""
    done: list[Projection] = []
    for p in projections:
        delay = p.delays.astype(np.int64) + latency[p.target] - latency[p.source]
        used = p.weight != 0
        long = used & (delay - 1 > chip.max_delay)
        delay = np.where(used, delay, delay.clip(1, chip.max_delay + 1))
        if not long.any():
            done.append(replace(p, delay=_plain_delay(delay)))
        elif clip:
            report.delays_clipped += int(long.sum())
            done.append(replace(p, delay=_plain_delay(delay.clip(1, chip.max_delay + 1))))
        elif relay:
            if graph.populations[p.source].neuron == INPUT and graded:
                raise ExportError(
                    f"projection {p.name!r}: its spikes carry counts, which a relay neuron cannot pass on. "
                    "Use binary input, or clip_delays=True or rescale_time=True."
                )
            done += _relayed(graph, replace(p, delay=delay.astype(np.int32)), populations, chip, report)
        else:
            index = np.unravel_index(int((delay * long).argmax()), delay.shape)
            raise ExportError(
                f"projection {p.name!r}: delay {delay[index] - 1} at {[int(i) for i in index]} is beyond "
                f"{chip.name}'s {chip.max_delay} steps ({int(long.sum())} of {int(used.sum())} are). Train "
                f"with max_delay={chip.max_delay}, or pass clip_delays=True, relay_delays=True or "
                "rescale_time=True."
            )
    return done


def _plain_delay(delay: np.ndarray) -> np.ndarray:
    if delay.size and (delay == delay.flat[0]).all():
        return np.asarray(delay.flat[0], np.int32)
    return delay.astype(np.int32)


def _relayed(
    graph: Graph, p: Projection, populations: dict[str, Population], chip: Chip, report: Report
) -> list[Projection]:
    """A projection with long delays as a chain: relay neurons hold each spike back and send it on.

    A relay takes the chip's longest delay and one step; a synapse hangs on the last relay before it.
    """
    s = synapses(graph, p)
    used = s.weight != 0
    source, target, weight, delay = s.source[used], s.target[used], s.weight[used], s.delay[used]
    hop = chip.max_delay + 1
    relays = (delay - 1) // hop
    size = graph.populations[p.source].size
    made, before, before_index = [], p.source, np.arange(size)
    for stage in range(int(relays.max()) + 1):
        here = relays == stage
        if stage:
            senders = np.unique(source[relays >= stage])
            name = f"{p.name}~relay{stage}"
            populations[name] = loihi.population(name, len(senders), du=4095, dv=4096, vth=1)
            made.append(
                _sparse(
                    name,
                    before,
                    name,
                    before_index[senders],
                    np.arange(len(senders)),
                    np.full(len(senders), 2),
                    np.full(len(senders), hop),
                    populations[before].size if stage > 1 else size,
                    {"bits": 8, "exponent": 0},
                )
            )
            report.relays += len(senders)
            before, before_index = name, np.zeros(size, np.int64)
            before_index[senders] = np.arange(len(senders))
        if here.any():
            options = {k: v for k, v in p.options.items() if k in ("bits", "exponent")}
            made.append(
                _sparse(
                    p.name if not stage else f"{p.name}~{stage}",
                    before,
                    p.target,
                    before_index[source[here]],
                    target[here],
                    weight[here],
                    delay[here] - stage * hop,
                    populations[before].size,
                    options,
                )
            )
    return made


def _sparse(
    name: str,
    source: str,
    target: str,
    i: np.ndarray,
    o: np.ndarray,
    weight: np.ndarray,
    delay: np.ndarray,
    size: int,
    options: dict[str, Any],
) -> Projection:
    order = np.argsort(i, kind="stable")
    indptr = np.searchsorted(i[order], np.arange(size + 1))
    return Projection(
        name,
        source,
        target,
        weight[order].astype(np.int64),
        delay[order].astype(np.int32),
        "sparse",
        indptr,
        o[order],
        options,
    )


def _factor(graph: Graph, chip: Chip) -> int:
    latency = latencies(graph)
    for factor in range(1, 1025):
        longest = max(
            (
                round(p.max_delay / factor) + latency[p.target] - latency[p.source] - 1
                for p in graph.projections
            ),
            default=0,
        )
        if longest <= chip.max_delay:
            return factor
    raise ExportError(
        f"delays of {max(p.max_delay for p in graph.projections)} steps fit with no coarser step."
    )


def coarser(graph: Graph, factor: int) -> Graph:
    """The network with steps `factor` times as long.

    decay → decay^f; gain → gain · (1 − decay^f) / (f · (1 − decay)), so that a steady input has the
    same effect; bias → f · bias; delays → round(delay / f), at least 1 where they were and lead back.
    An approximation: two spikes of one new step are one event of value 2.
    """
    if factor < 1:
        raise ParameterError(f"factor must be at least 1, got {factor}.")
    loop = _loops(graph)
    populations = {}
    for name, p in graph.populations.items():
        params = dict(p.params)
        for key in ("decay", "decay_syn", "decay_mem"):
            if key in params:
                params[key] = params[key] ** factor
        if "gain" in params:
            old = np.asarray(p.params["decay"], np.float64)
            left = np.where(old < 1, (1 - old**factor) / np.where(old < 1, factor * (1 - old), 1), 1)
            params["gain"] = params["gain"] * left
        if "refractory" in params:
            params["refractory"] = np.round(params["refractory"] / factor)
        populations[name] = replace(p, params=params, bias=p.bias * factor)
    projections = []
    for s in graph.projections:
        delay = np.round(s.delay / factor).astype(np.int32)
        if loop[s.source] == loop[s.target]:
            delay = delay.clip(1)
        projections.append(replace(s, delay=delay))
    metadata = dict(graph.metadata)
    metadata["steps_tail"] = -(-int(metadata.get("steps_tail", 0)) // factor)
    return Graph(populations, projections, graph.dt * factor, list(graph.outputs), metadata)


def coarser_events(events: EventBatch, factor: int) -> EventBatch:
    """The events in steps `factor` times as long; spikes that fall together add up."""
    sample = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    values = np.ones(len(events.times)) if events.values is None else events.values.astype(np.float64)
    steps = -(-events.lengths // factor)
    keys = (
        sample * max(int(steps.max(initial=1)), 1) + events.times // factor
    ) * events.size + events.neurons
    unique, position = np.unique(keys, return_inverse=True)
    total = np.bincount(position, values, len(unique))
    neuron, time = unique % events.size, unique // events.size
    longest = max(int(steps.max(initial=1)), 1)
    counts = np.bincount((time // longest).astype(np.int64), minlength=len(events))
    return EventBatch(
        time % longest,
        neuron,
        np.concatenate([[0], np.cumsum(counts)]),
        steps,
        events.size,
        None if (total == 1).all() else total,
    )
