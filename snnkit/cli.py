"""The `snnkit` command. Each subcommand parses its arguments and makes one call into the library.

Exit codes: 0 done; 1 a check failed (`verify`); 2 wrong input, with one line that says what would be
right; 130 interrupted, after what was done so far was saved.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import __version__
from .errors import SnnkitError

app = typer.Typer(
    help="Spiking neural networks with learned delays, from training to a neuromorphic chip.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="Override, e.g. -s train.epochs=10. May be repeated.")
]


class Split(StrEnum):
    """Part of a data set."""

    train = "train"
    valid = "valid"
    test = "test"


SplitOption = Annotated[Split, typer.Option(help="Part of the data; touch test once, at the end.")]


def show(result: dict[str, Any], title: str, as_json: bool) -> None:
    """One result, as JSON or as a two-column table."""
    if as_json:
        print(json.dumps(result))
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for key, value in result.items():
        if isinstance(value, float):
            value = f"{value:.4g}"
        elif isinstance(value, (dict, list)):
            value = json.dumps(value)
        table.add_row(key.replace("_", " "), str(value))
    out.print(table)


def version(value: bool) -> None:
    if value:
        print(f"snnkit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What every command has."""


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="shd, ssc, gsc, spoken_digits, spoken_words, synthetic_digits")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the recordings (default: SNNKIT_DATA).")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Option of [data], e.g. -s held_out=jackson.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find or fetch recordings, turn them into spikes, and describe them."""
    from .training.config import parse_overrides
    from .training.run import describe_data

    root_setting = [] if root is None else [f"data.root={str(root)!r}"]
    config = parse_overrides(
        [f"data.name={name!r}", *root_setting, *(f"data.{setting}" for setting in settings or [])]
    )
    show(describe_data(config), name, as_json)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML configuration; see experiments/.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for checkpoints, logs and the Graph.")],
    settings: Set = None,
    resume: Annotated[bool, typer.Option(help="Go on from the folder's last checkpoint.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network and lower it to a Graph (graph.h5)."""
    from .training.config import load_config
    from .training.run import train_run

    result = train_run(load_config(config, settings or []), folder, resume=resume)
    show(result, str(folder), as_json)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="last.pt of a run.")],
    split: SplitOption = Split.valid,
    as_json: Json = False,
) -> None:
    """Accuracy and spike rates of a trained network."""
    from .training.run import evaluate_run

    show(evaluate_run(checkpoint, split.value), f"{checkpoint}, {split.value}", as_json)
