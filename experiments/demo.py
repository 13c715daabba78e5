"""The whole way in ten minutes: train on spoken digits, simulate, export to Loihi, price.

    make demo            (or: python experiments/demo.py [--quick])

Runs the `snnkit` commands one after another, prints each, and leaves everything in ``build/demo``:
checkpoint, Graph, Loihi files, energy report, a picture, and ``summary.json``. Recordings are found
through ``SNNKIT_DATA`` or downloaded; without either, synthetic voices stand in.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from snnkit import datasets
from snnkit.commands.data import data_of
from snnkit.files import atomic
from snnkit.graph import Graph
from snnkit.report.activity import draw_activity

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "demo"
console = Console()


class Stages:
    """Runs commands, keeps what they print as JSON and how long they took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, *arguments: str) -> dict[str, Any]:
        shown = " ".join(a.replace(str(ROOT) + os.sep, "") for a in arguments)
        console.print(f"\n[bold]{stage}[/bold]  [cyan]snnkit {shown}[/cyan]", highlight=False, soft_wrap=True)
        started = time.perf_counter()
        command = [sys.executable, "-m", "snnkit", *arguments, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        self.seconds[stage] = round(time.perf_counter() - started, 1)
        if done.returncode != 0 and stage != "verify":
            sys.exit(done.returncode)
        result = json.loads(done.stdout.strip().splitlines()[-1])
        facts = {k: v for k, v in result.items() if isinstance(v, (int, float, str)) and k != "attribution"}
        shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        console.print(f"  {shown}  [dim]({self.seconds[stage]} s)[/dim]", highlight=False, soft_wrap=True)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few clips and epochs: does it run at all?")
    quick = parser.parse_args().quick
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)

    source = datasets.resolve("spoken_digits")
    settings = []
    if source.synthetic:
        console.rule("[bold yellow]SYNTHETIC VOICES")
        console.print(
            "[yellow]No recordings can be reached: these are eSpeak NG voices, made here. Set SNNKIT_DATA "
            "to a folder with the Free Spoken Digit Dataset for real speech.[/yellow]"
        )
        settings = ["data.name=synthetic_digits", "data.held_out=", "model.hidden=[128, 128]"]
    if quick:
        settings += ["data.limit=4", "train.epochs=4"]
    of_data = [] if source.synthetic else ["held_out=jackson"]
    of_data += ["limit=4"] if quick else []
    config = ROOT / "experiments" / "spoken_digits.toml"
    run = Stages()
    said = run("data", "data", source.name, *options(of_data))
    run("train", "train", str(config), "--out", str(OUT), *options(settings))
    checkpoint, net = str(OUT / "last.pt"), str(OUT / "graph.h5")
    valid = run("evaluate", "evaluate", checkpoint, "--split", "valid")
    test = run("evaluate_test", "evaluate", checkpoint, "--split", "test")
    simulated = run("simulate", "simulate", net, "--split", "test", "--against", checkpoint)
    netx, integer = OUT / "loihi.net", OUT / "loihi.h5"
    run("export_netx", "export", net, "--to", "netx", "-o", str(netx))
    run("export_graph", "export", net, "--to", "graph", "-o", str(integer))
    ladder = run("verify", "verify", str(netx), "--against", net, "--split", "test")
    priced = run(
        "energy", "energy", net, "--profile", "all", "--split", "test", "--html", str(OUT / "energy.html")
    )

    started = time.perf_counter()
    graph = Graph.load(net)
    clip = data_of(graph, "test", [], limit=1)
    word = clip.classes[int(clip.labels[0])]
    draw_activity(graph, clip.events, OUT / "activity.png", f"“{word}”, a speaker never heard in training")
    run.seconds["picture"] = round(time.perf_counter() - started, 1)

    integer_accuracy = ladder["rungs"][-1]["accuracy"]
    summary = {
        "dataset": said["dataset"],
        "synthetic": source.synthetic,
        "validation_accuracy": valid["accuracy"],
        "test_accuracy": test["accuracy"],
        "graph_accuracy": simulated["accuracy"],
        "integer_accuracy": integer_accuracy,
        "equal_spikes": simulated["equal_spikes"],
        "spikes_per_inference": simulated["spikes_per_inference"],
        "synops_per_inference": simulated["synops_per_inference"],
        "energy_pj": priced["energy_pj"],
        "seconds": run.seconds,
    }
    with atomic(OUT / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n")
    console.print()
    console.print(table(summary))
    files = {f.name: f.stat().st_size for f in sorted(OUT.iterdir()) if f.is_file()}
    sizes = "  ".join(f"{name} {size / 1024:.0f} KiB" for name, size in files.items())
    console.print(f"in {OUT.relative_to(ROOT)}: {sizes}", highlight=False, soft_wrap=True)


def options(settings: list[str]) -> list[str]:
    """``-s`` before each."""
    return [part for s in settings for part in ("-s", s)]


def table(summary: dict[str, Any]) -> Table:
    """The summary as people read it."""
    kind = "synthetic voices" if summary["synthetic"] else "recordings"
    shown = Table(title=f"{summary['dataset']} ({kind})", title_justify="left", show_header=False)
    drop = 100 * (summary["graph_accuracy"] - summary["integer_accuracy"])
    energy = summary["energy_pj"]
    rows = {
        "validation accuracy": f"{summary['validation_accuracy']:.3f}",
        "accuracy on speakers never heard": f"{summary['test_accuracy']:.3f}",
        "the same, event by event": f"{summary['graph_accuracy']:.3f}",
        "spikes equal to the trained network's": f"{100 * summary['equal_spikes']:.3f} %",
        "8-bit Loihi integers": f"{summary['integer_accuracy']:.3f} ({drop:+.2f} points lost)",
        "spikes per inference": f"{summary['spikes_per_inference']:,.0f}",
        "synaptic operations per inference": f"{summary['synops_per_inference']:,.0f}",
        **{f"energy, {name}": f"{value / 1e6:.3g} µJ" for name, value in energy.items()},
        "time": f"{sum(summary['seconds'].values()):.0f} s",
    }
    for name, value in rows.items():
        shown.add_row(name, value)
    return shown


if __name__ == "__main__":
    main()
