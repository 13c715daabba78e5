"""A picture of a network at work: one sample through every layer, and the delays it learned."""

from __future__ import annotations

import numpy as np

from .. import engine
from ..engine.readout import classify, output_of, rule_of
from ..errors import ParameterError
from ..events import EventBatch
from ..files import PathLike, atomic
from ..graph import INPUT, Graph
from ..metadata import Readout

INK, ACCENT, PALE = "#1f2933", "#c2410c", "#94a3b8"


def draw_activity(graph: Graph, events: EventBatch, path: PathLike, title: str = "") -> None:
    """Write a PNG: a raster of every population, the read-out's scores over time, delay histograms.

    events  one sample, else `ParameterError`
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(events) != 1:
        raise ParameterError(f"draw_activity shows one sample, got {len(events)}.")
    out = output_of(graph)
    shows_v = not rule_of(graph).of_spikes
    result = engine.simulate(graph, events, record=[(out, "v")] if shows_v else [], progress=False)
    layers = [n for n in graph.order() if n != out]
    delayed = [p for p in graph.projections if p.delays.size > 1 and p.max_delay > 0]
    heights = [1.4 if graph.populations[n].neuron == INPUT else 1.0 for n in layers] + [1.0]
    figure = Figure(figsize=(11, 2.0 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), 2, width_ratios=[2.6, 1], height_ratios=heights)
    steps = int(result.steps[0])
    clock = np.arange(steps) * graph.dt
    first = None
    for row, name in enumerate(layers):
        axis = figure.add_subplot(grid[row, 0], sharex=first)
        first = first or axis
        spikes = events if graph.populations[name].neuron == INPUT else result.spikes[name]
        size = graph.populations[name].size
        value = np.ones(len(spikes.times)) if spikes.values is None else spikes.values
        marker = "|" if len(spikes.times) < 400 else "."
        axis.scatter(
            spikes.times * graph.dt, spikes.neurons, s=2.5 + 2 * np.sqrt(value), c=INK, lw=0, marker=marker
        )
        axis.set_ylim(-0.5, size - 0.5)
        axis.set_ylabel(f"{name}\n{size} neurons")
        axis.set_title(f"{len(spikes.times)} spikes", loc="right", fontsize=8, color=PALE)
        axis.tick_params(labelbottom=False)
    axis = figure.add_subplot(grid[len(layers), 0], sharex=first)
    guess = int(classify(result, graph, events.lengths)[0].argmax())
    classes = Readout.of(graph.metadata).classes or [str(i) for i in range(graph.populations[out].size)]
    if shows_v:
        v = result.recorded[out, "v"][:, 0]
        odds = np.exp(v - v.max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        for c in range(odds.shape[1]):
            axis.plot(
                clock, odds[:, c], c=ACCENT if c == guess else PALE, lw=2 if c == guess else 0.8,
                zorder=2 + (c == guess), label=str(classes[c]) if c == guess else None,
            )  # fmt: skip
        axis.set_ylabel(f"{out}\nsoftmax(v)")
    else:
        counts = result.spikes[out].to_dense(steps)[:, 0].cumsum(0)
        axis.plot(clock, counts, c=PALE, lw=0.8)
        axis.plot(clock, counts[:, guess], c=ACCENT, lw=2, label=str(classes[guess]))
        axis.set_ylabel(f"{out}\nspikes so far")
    axis.legend(loc="upper left", frameon=False)
    axis.set_xlabel("time (ms)")
    axis.axvline(events.lengths[0] * graph.dt, c=PALE, lw=0.8, ls=":")
    for row, projection in enumerate(delayed[: len(heights)]):
        axis = figure.add_subplot(grid[row, 1])
        places = ((np.arange(projection.max_delay + 2) - 0.5) * graph.dt).tolist()
        delays = projection.delays * graph.dt
        axis.hist(delays.ravel(), places, color=PALE, label="all synapses", density=True)
        strong = np.abs(projection.weight) >= np.quantile(np.abs(projection.weight), 0.9)
        axis.hist(
            delays[strong], places, histtype="step", color=ACCENT, lw=1.5,
            label="strongest tenth", density=True,
        )  # fmt: skip
        axis.set_title(f"delays {projection.source} → {projection.target}", fontsize=9)
        axis.set_yticks([])
        if row == 0:
            axis.legend(loc="lower center", facecolor="white", framealpha=0.9, edgecolor="none", fontsize=8)
        if row == len(delayed) - 1:
            axis.set_xlabel("delay (ms)")
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
