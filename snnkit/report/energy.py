"""The energy report: what a network costs, every assumption on the page."""

from __future__ import annotations

import numpy as np

from ..energy import (
    Estimate,
    Price,
    compare_delays,
    compare_dense,
    crossover,
    human,
    human_time,
    sensitivity,
    uncertainty,
)
from ..energy.baseline import BREAK_EVENS, equivalent_bits
from ..energy.models import MODELS
from ..files import PathLike
from . import figures, html


def energy_page(
    estimate: Estimate, path: PathLike, title: str = "Energy and latency of a spiking network"
) -> None:
    """Write the report of an `Estimate` as one self-contained HTML page."""
    counts = next(iter(estimate.counts.values()))
    prices = list(estimate.prices.values())
    rates = {n.name: _rate(n.spikes, n.steps, n.size) for n in counts.neurons}
    samples = f"{len(counts)} sample" + "s" * (len(counts) != 1)
    parts = [
        html.tiles(
            [
                (f"{counts.steps.mean():.4g}", "steps an inference"),
                (f"{counts.spikes.mean():,.0f}", "spikes an inference"),
                (f"{counts.synops.mean():,.0f}", "SynOps an inference"),
                (f"{counts.spikes_per_synapse.mean():.3g}", "SynOps per synapse"),
                (f"{100 * counts.rate:.2g} %", "spikes per neuron and step"),
            ]
        ),
        "<h2>Energy under every profile</h2>",
        "<p>The bar spans the constants from low to high. Orange: an estimate for which no published figure "
        "exists. Profiles differ in what they charge, so compare networks within a row, not rows of one "
        "network.</p>",
        html.picture(figures.overview(prices), "energy of every profile"),
        f'<div class="card">{_summary(estimate)}</div>',
    ]
    parts += [f"<p><b>{html.escape(note)}</b></p>" for note in counts.notes()]
    if estimate.skipped:
        left_out = [f"{name}: {why}" for name, why in estimate.skipped.items()]
        parts.append(f"<p><b>Not priced.</b> {html.escape('; '.join(left_out))}</p>")
    parts.append("<h2>Where it goes: layer and operation</h2>")
    parts.append('<div class="row">')
    parts += [html.picture(figures.bars(p), f"energy per layer, {p.profile.name}") for p in prices]
    parts.append("</div>")
    parts += _does_it_pay(estimate)
    parts += _delays(estimate)
    parts.append("<h2>What the result hangs on</h2>")
    parts.append('<div class="row">')
    for name, p in estimate.prices.items():
        found = sensitivity(estimate.counts[name], p.profile)
        if len(found["constant"]) > 1:
            parts.append(
                html.picture(
                    figures.tornado(found, p.total_pj), f"sensitivity, {name}", f"{p.profile.title} ({name})"
                )
            )
    parts.append("</div>")
    if len(counts) > 1:
        parts.append(html.picture(figures.distribution(prices[0]), "distribution over samples"))
    parts.append("<h2>Counts</h2>")
    parts.append(f'<div class="card">{_counts(estimate, rates)}</div>')
    parts.append("<h2>Assumptions</h2>")
    parts += [f"<p>{html.escape(note)}</p>" for note in dict.fromkeys(estimate.notes)]
    parts += [html.details(f"{p.profile.title} ({p.profile.name})", _constants(p)) for p in prices]
    html.write(path, title, f"{samples}; mean of an inference; ranges from constants and samples", parts)


def _rate(spikes: np.ndarray, steps: np.ndarray, size: int) -> float:
    places = float(steps.sum()) * size
    return float(spikes.sum()) / places if places else 0.0


def _summary(estimate: Estimate) -> str:
    rows = []
    for name, p in estimate.prices.items():
        latency = "–"
        if p.latency_us is not None and p.latency_low_us is not None and p.latency_high_us is not None:
            latency = human_time(
                *(float(x.mean()) for x in (p.latency_us, p.latency_low_us, p.latency_high_us))
            )
        rows.append((p.profile.title, name, str(uncertainty(p)), latency, _mark(p), p.profile.quality))
    return html.table(
        ["machine", "profile", "energy an inference", "latency", "", "how far to trust it"],
        rows,
        numbers=(2, 3),
        raw=(4,),
    )


def _mark(price: Price) -> str:
    """The weakest quality among the constants that matter for the energy."""
    order = ("estimate", "second-hand", "derived", "simulated", "published", "fitted", "measured")
    found = {c.quality for c in price.profile.constants.values() if c.unit in ("pJ", "pJ/bit")}
    worst = next(q for q in order if q in found)
    return f'<span class="mark {worst}">{worst}</span>'


def _does_it_pay(estimate: Estimate) -> list[str]:
    name = next(
        (n for n in ("lemaire45", "yan22", "cmos45") if n in estimate.prices), next(iter(estimate.prices))
    )
    counts, price = estimate.counts[name], estimate.prices[name]
    dense = price.profile if MODELS[price.profile.model].dense is not None else "lemaire45"
    bits = sorted({32, 8, equivalent_bits(float(counts.steps.mean()))}, reverse=True)
    crossings = [
        crossover(counts, price.profile, b, passes, dense) for b in bits for passes in ("once", "every step")
    ]
    table = compare_dense(counts, price.profile)
    rows = []
    for i in range(len(table["network"])):
        rate = table["crossover_rate"][i]
        below = (
            ""
            if i == 0
            else "not known (no spikes)"
            if np.isnan(rate)
            else f"{rate:.3g}"
            if rate
            else "never"
        )
        energy = human(table["energy_pj"][i], table["energy_pj_low"][i], table["energy_pj_high"][i])
        ratio = f"{table['ratio'][i]:.3g}" if np.isfinite(table["ratio"][i]) else ""
        rows.append((table["network"][i], table["passes"][i], energy, ratio, below))
    columns = ["network", "runs", "energy", "relative", "break-even rate"]
    lines = "; ".join(f"{b.name}: {b.source}" for b in BREAK_EVENS)
    return [
        "<h2>Does spiking pay?</h2>",
        "<p>The same layers as a dense network: once an inference, as if one frame held the whole input, or "
        "in every step, as a network must that keeps up with a stream. Below the break-even rate the spiking "
        f"network costs less. Priced by {html.escape(price.profile.title)} ({html.escape(name)}).</p>",
        '<div class="row">',
        html.picture(figures.crossover(crossings), "energy against spike rate"),
        html.picture(figures.break_even(counts), "break-even figures", lines),
        "</div>",
        f'<div class="card">{html.table(columns, rows, numbers=(2, 3, 4))}</div>',
    ]


def _delays(estimate: Estimate) -> list[str]:
    counts = next(iter(estimate.counts.values()))
    if not any(s.max_delay for s in counts.synapses):
        return []
    own = next((p.profile for p in estimate.prices.values() if "delay" in p.profile.settings), "lemaire45")
    table = compare_delays(counts, own)
    longest = max(s.max_delay for s in counts.synapses)
    cheapest = str(table["kind"][int(np.argmax(table["cheapest"]))]).replace("_", " ")
    return [
        "<h2>Delays</h2>",
        f"<p>Delays of up to {longest} steps, built in four ways and priced by their memory traffic (no "
        f"published energy model prices them). Cheapest here: {html.escape(cheapest)}.</p>",
        html.picture(figures.delays(table), "cost of delays"),
    ]


def _counts(estimate: Estimate, rates: dict[str, float]) -> str:
    counts = next((c for c in estimate.counts.values() if c.cores is not None), None)
    counts = counts or next(iter(estimate.counts.values()))
    rows = []
    for n in counts.neurons:
        into = counts.into(n.name)
        active = "–" if n.active is None else f"{n.active.mean():,.0f}"
        rows.append(
            (
                n.name,
                n.neuron,
                f"{n.size:,}",
                f"{n.spikes.mean():,.1f}",
                f"{100 * rates[n.name]:.2g} %",
                f"{sum(s.synapses for s in into):,}",
                f"{sum(float(s.synops.mean()) for s in into):,.0f}",
                f"{sum(float(s.synops_effective.mean()) for s in into):,.0f}",
                f"{n.updates.mean():,.0f}",
                active,
                "–" if n.messages is None else f"{n.messages.sum(0).mean():,.0f}",
                max((s.max_delay for s in into), default=0),
            )
        )
    return html.table(
        [
            "layer", "neuron", "size", "spikes", "rate", "synapses", "SynOps", "effective", "updates",
            "active", "messages", "delay ≤",
        ],
        rows,
        numbers=range(2, 12),
    )  # fmt: skip


def _constants(price: Price) -> str:
    profile = price.profile
    rows = [
        (name, f"{c.value:g}", f"{c.at('low'):g}–{c.at('high'):g}", c.unit, c.quality, c.year, c.source)
        for name, c in profile.constants.items()
    ]
    settings = ", ".join(f"{k} = {v}" for k, v in profile.settings.items()) or "none"
    error = ", ".join(f"{k} ±{100 * v:.0f} %" for k, v in profile.error.items())
    text = f"<p>{html.escape(profile.note)}</p><p class='soft'>Settings: {html.escape(settings)}."
    text += f" Published error: {html.escape(error)}." if error else ""
    columns = ["constant", "value", "range", "unit", "quality", "year", "source"]
    return f'{text}</p><div class="card">{html.table(columns, rows, numbers=(1, 2))}</div>'
