"""The page of a search: its Pareto front."""

from __future__ import annotations

import numpy as np

from ..energy import Study, human
from ..files import PathLike
from . import html
from .style import INK, decades, figure, svg


def tune_page(study: Study, path: PathLike, title: str = "Accuracy, energy and latency") -> None:
    """Write the Pareto front of a search as one self-contained HTML page."""
    best = study.front()
    names = [*study.parameters, *(n for n, _ in study.objectives)]
    rows = [[_plain(best[n][i], n) for n in names] for i in range(len(best["trial"]))]
    objectives = [n for n, _ in study.objectives]
    x = "energy_pj" if "energy_pj" in objectives else objectives[-1]
    y = next(n for n in objectives if n != x) if len(objectives) > 1 else objectives[0]
    parts = [
        html.picture(front(study, x, y), "Pareto front"),
        "<h2>Networks on the front</h2>",
        f'<div class="card">{html.table(names, rows, numbers=range(len(names)))}</div>',
    ]
    if study.failed:
        failed = ((n, why) for n, why in study.failed.items())
        parts.append(
            html.details(f"{len(study.failed)} trials gave no figures", html.table(["trial", "why"], failed))
        )
    html.write(path, title, f"{len(study.table['trial'])} networks tried", parts)


def front(study: Study, x: str = "energy_pj", y: str = "accuracy") -> str:
    """All trials of a search and their Pareto front in two of its objectives; colour is the third."""
    t = study.table
    third = next((name for name, _ in study.objectives if name not in (x, y)), None)
    with figure(7.2, 4.2) as (drawing, axes):
        colour = t[third] if third else None
        dots = axes.scatter(
            t[x], t[y], c=colour, s=30, cmap="viridis", alpha=0.55, edgecolors="none", label="trials"
        )
        chosen = t["front"]
        axes.scatter(
            t[x][chosen],
            t[y][chosen],
            c=None if colour is None else colour[chosen],
            s=80,
            cmap="viridis",
            vmin=None if colour is None else colour.min(),
            vmax=None if colour is None else colour.max(),
            edgecolors=INK,
            linewidths=1.2,
            label="Pareto front",
        )
        if (t[x] > 0).all() and t[x].max() > 5 * t[x].min():
            axes.set_xscale("log")
        if x == "energy_pj":
            axes.xaxis.set_major_formatter(decades)
            axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("energy of an inference" if x == "energy_pj" else x.replace("_", " "))
        axes.set_ylabel(y.replace("_", " "))
        if third:
            drawing.colorbar(dots, ax=axes, label=third.replace("_", " "))
        axes.legend(loc="lower right")
        axes.set_title(f"{len(t['trial'])} trials, {int(chosen.sum())} on the front")
        return svg(drawing)


def _plain(value: object, name: str) -> str:
    if name.endswith("_pj"):
        return human(float(str(value)))
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
