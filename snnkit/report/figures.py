"""Figures of the energy report, as SVG text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..energy import BREAK_EVENS, Counts, Crossover, Price, human
from .style import COLOURS, INK, decades, figure, no_ticks, svg, unit_of

MAX_OPERATIONS = 8
"""Operations that have a colour of their own; the rest are one."""


def overview(prices: Sequence[Price]) -> str:
    """Total of every profile with its range, on a logarithmic axis."""
    ordered = sorted(prices, key=lambda p: p.total_pj)
    with figure(8.6, 0.9 + 0.36 * len(ordered)) as (drawing, axes):
        for y, p in enumerate(ordered):
            doubtful = "estimate" in p.profile.quality.lower()
            colour = COLOURS[1] if doubtful else COLOURS[0]
            low, value, high = (max(e, 1e-9) for e in (p.low_pj, p.total_pj, p.high_pj))
            axes.plot([low, high], [y, y], color=colour, lw=6, alpha=0.3, solid_capstyle="round")
            axes.plot(value, y, "o", color=colour, ms=7)
            axes.annotate(
                human(p.total_pj, p.low_pj, p.high_pj),
                (max(high, value), y),
                (9, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=INK,
            )
        axes.set_xscale("log")
        axes.set_yticks(range(len(ordered)), [p.profile.name for p in ordered])
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set_ylim(-0.6, len(ordered) - 0.4)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right * (right / left) ** 0.2)
        axes.set_xlabel("energy of an inference")
        axes.xaxis.set_major_formatter(decades)
        axes.xaxis.set_minor_locator(no_ticks())
        axes.grid(axis="y", visible=False)
        return svg(drawing)


def bars(price: Price) -> str:
    """Energy per layer, stacked by operation; the range of the total of each layer as a whisker."""
    t = price.table
    layers = list(dict.fromkeys(t["layer"].tolist()))
    operations = sorted(price.by("operation").items(), key=lambda item: -item[1])
    operations = [(name, e) for name, e in operations if e > 0]
    shown = [name for name, _ in operations[:MAX_OPERATIONS]]
    rest = [name for name, _ in operations[MAX_OPERATIONS:]]
    totals = np.array([t["energy_pj"][t["layer"] == layer].sum() for layer in layers])
    highs = np.array([t["energy_pj_high"][t["layer"] == layer].sum() for layer in layers])
    lows = np.array([t["energy_pj_low"][t["layer"] == layer].sum() for layer in layers])
    unit, size = unit_of(float(max(highs.max(initial=0), 1e-9)))
    with figure(5.8, 1.5 + 0.45 * len(layers) + 0.12 * len(shown)) as (drawing, axes):
        left = np.zeros(len(layers))
        groups = [([name], name) for name in shown] + ([(rest, "other")] if rest else [])
        for i, (names, label) in enumerate(groups):
            chosen = np.isin(t["operation"], names)
            width = (
                np.array([t["energy_pj"][chosen & (t["layer"] == layer)].sum() for layer in layers]) / size
            )
            axes.barh(range(len(layers)), width, left=left, height=0.62, color=COLOURS[i % 10], label=label)
            left += width
        axes.errorbar(
            totals / size,
            range(len(layers)),
            xerr=np.maximum(np.array([totals - lows, highs - totals]) / size, 0),
            fmt="none",
            ecolor=INK,
            elinewidth=1,
            capsize=3,
        )
        axes.set_yticks(range(len(layers)), layers)
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.invert_yaxis()
        axes.set_xlim(0)
        axes.set_xlabel(f"{unit} an inference")
        axes.set_title(price.profile.title)
        axes.grid(axis="y", visible=False)
        if groups:
            columns = 2 if len(groups) > 6 else 3
            drawing.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=columns)
        return svg(drawing)


def crossover(crossings: Sequence[Crossover]) -> str:
    """Energy against spike rate, with dense networks as level lines and the network's own rate."""
    first = crossings[0]
    known = [c.rate for c in crossings if c.rate]
    measured = first.measured or 1e-3
    low = min([measured, *known]) / 8
    high = min(max([measured, *known]) * 4, max(1.0, measured))
    rates = np.geomspace(max(low, 1e-6), max(high, low * 10), 200)
    with figure(5.8, 4.2) as (drawing, axes):
        axes.plot(rates, first.energy_pj(rates), color=COLOURS[0], lw=2.4, label="spiking network")
        own = first.fixed_pj + first.spikes_pj
        axes.plot(measured, own, "o", color=COLOURS[0], ms=8, label=f"measured rate {measured:.3g}")
        for i, c in enumerate(crossings):
            colour = COLOURS[1 + i % 9]
            name = "dense ANN, 32 bit" if c.bits == 32 else f"{c.bits}-bit QNN"
            axes.axhline(c.dense_pj, color=colour, lw=1.6, ls="--" if c.passes == "once" else ":")
            axes.plot(
                [],
                [],
                color=colour,
                lw=1.6,
                ls="--" if c.passes == "once" else ":",
                label=f"{name}, {c.passes}",
            )
            if c.rate and rates[0] <= c.rate <= rates[-1]:
                axes.plot(c.rate, c.dense_pj, "D", color=colour, ms=6)
                axes.annotate(
                    f"{c.rate:.2g}",
                    (c.rate, c.dense_pj),
                    (6, 5 if i % 2 else -11),
                    textcoords="offset points",
                    fontsize=9,
                    color=INK,
                )
        axes.set(xscale="log", yscale="log", xlim=(rates[0], rates[-1]))
        axes.set_xlabel("spikes per neuron and step")
        axes.set_ylabel("energy of an inference")
        axes.yaxis.set_major_formatter(decades)
        axes.yaxis.set_minor_locator(no_ticks())
        axes.set_title(f"Where spiking pays: {first.profile}")
        drawing.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)
        return svg(drawing)


def break_even(counts: Counts) -> str:
    """SynOps per synapse and inference, beside what the literature calls break-even."""
    own = counts.spikes_per_synapse
    with figure(5.8, 2.6) as (drawing, axes):
        for i, line in enumerate(BREAK_EVENS):
            y = len(BREAK_EVENS) - i
            axes.plot(
                [line.low, line.high], [y, y], color=COLOURS[1], lw=5, solid_capstyle="round", alpha=0.6
            )
            axes.plot([line.low, line.high], [y, y], "|", color=COLOURS[1], ms=12, mew=2)
        positive = own[own > 0]
        if len(positive):
            jitter = np.random.default_rng(0).uniform(-0.18, 0.18, len(positive))
            axes.plot(positive, jitter, ".", color=COLOURS[0], alpha=min(1.0, 0.25 + 5 / len(positive)), ms=7)
            axes.plot(float(own.mean()), 0, "o", color=COLOURS[0], ms=9, mec="white")
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_locator(no_ticks())
            ends = [*positive, *(b.low for b in BREAK_EVENS), *(b.high for b in BREAK_EVENS)]
            axes.set_xlim(10 ** math.floor(math.log10(min(ends))), 10 ** math.ceil(math.log10(max(ends))))
        names = ["this network", *[line.name for line in reversed(BREAK_EVENS)]]
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.set_ylim(-0.6, len(BREAK_EVENS) + 0.6)
        axes.set_xlabel("SynOps per synapse and inference")
        axes.set_title("Break-even figures")
        return svg(drawing)


def tornado(table: dict[str, np.ndarray], total_pj: float, by: float = 0.2, most: int = 12) -> str:
    """What ±`by` of each constant does to the total, largest on top."""
    names = table["constant"][:most]
    with figure(5.8, 1.2 + 0.32 * max(len(names), 1)) as (drawing, axes):
        for y, i in enumerate(range(len(names))):
            for side, colour in (("energy_pj_minus", COLOURS[2]), ("energy_pj_plus", COLOURS[3])):
                change = 100 * (table[side][i] / total_pj - 1) if total_pj else 0.0
                axes.barh(y, change, color=colour, height=0.6)
        axes.axvline(0, color=INK, lw=1)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.invert_yaxis()
        axes.set_xlabel("change of the total, %")
        axes.set_title(f"Each constant ±{100 * by:.0f} %")
        axes.grid(axis="y", visible=False)
        return svg(drawing)


def delays(table: dict[str, np.ndarray]) -> str:
    """Energy of the network with each implementation of its delays, and the memory they need."""
    unit, size = unit_of(float(max(table["energy_pj"].max(), 1e-9)))
    base = table["energy_pj"][0] / size
    with figure(7.2, 1.1 + 0.42 * len(table["kind"])) as (drawing, axes):
        for y, kind in enumerate(table["kind"]):
            extra = max(table["extra_pj"][y], 0) / size
            axes.barh(y, base, color=COLOURS[8], height=0.6, alpha=0.55)
            axes.barh(
                y, extra, left=base, color=COLOURS[2] if table["cheapest"][y] else COLOURS[1], height=0.6
            )
            share = (
                f"+{100 * table['extra_pj'][y] / table['energy_pj'][0]:.1f} %"
                if table["energy_pj"][0]
                else ""
            )
            kib = table["capacity_bits"][y] / 8192
            text = "delays not priced" if kind == "none" else f"{share}, {kib:.1f} KiB"
            axes.annotate(
                text, (base + extra, y), (6, 0), textcoords="offset points", va="center", fontsize=9
            )
        axes.set_yticks(range(len(table["kind"])), [k.replace("_", " ") for k in table["kind"]])
        axes.tick_params(axis="y", labelcolor=INK, length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, axes.get_xlim()[1] * 1.18)
        axes.set_xlabel(f"{unit} an inference (grey: the same network without delay memory)")
        axes.set_title("What the delays cost")
        axes.grid(axis="y", visible=False)
        return svg(drawing)


def distribution(price: Price) -> str:
    """Energy of the single inferences."""
    unit, size = unit_of(float(max(price.per_inference.max(initial=0), 1e-9)))
    values = price.per_inference / size
    with figure(7.2, 2.6) as (drawing, axes):
        axes.hist(values, bins=max(5, min(40, math.isqrt(len(values)) * 2)), color=COLOURS[0], alpha=0.8)
        axes.axvline(values.mean(), color=INK, lw=1.5)
        axes.annotate(
            "mean",
            (values.mean(), 1),
            (4, -10),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
        )
        axes.set_xlabel(f"{unit} an inference, {price.profile.name}")
        axes.set_ylabel("samples")
        axes.set_title("From sample to sample")
        return svg(drawing)
