"""The `snnkit` command. Each subcommand parses its arguments and makes one call into the library.

Exit codes: 0 done; 1 a check failed (`verify`); 2 wrong input, with one line that says what would be
right; 130 interrupted, after what was done so far was saved.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import __version__
from .commands.formats import FORMATS, Reading
from .datasets import DATASETS
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
            value = f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        elif isinstance(value, (dict, list)):
            value = json.dumps(value)
        table.add_row(key.replace("_", " "), escape(str(value)))
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
    name: Annotated[str, typer.Argument(help=", ".join(DATASETS))],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the recordings (default: SNNKIT_DATA).")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Option of \\[data], e.g. -s held_out=jackson.")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="HDF5 file to write all parts to; name = 'events' reads it.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Image of three samples a class to draw: .png, .svg, .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find or fetch recordings, turn them into spikes, and describe them."""
    from .commands.data import describe_data

    about = describe_data(name, root, settings or [], write=write, picture=picture)
    show(about, name, as_json)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML configuration; see experiments/.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for checkpoints, logs and the Graph.")],
    settings: Set = None,
    resume: Annotated[bool, typer.Option(help="Go on from the folder's last checkpoint.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network and lower it to a Graph (graph.h5)."""
    from .commands.train import train_run
    from .training.loop import Interrupted

    try:
        result = train_run(config, folder, settings or [], resume=resume)
    except Interrupted as stop:
        err.print(f"interrupted: {escape(str(stop))}; go on with --resume", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    show(result, str(folder), as_json)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a run, or its last.pt.")],
    split: SplitOption = Split.valid,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", "-d", help="Other data that the network fits: a name, or key=value of \\[data]."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Where the run's data are now: root=FOLDER.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Accuracy and spike rates of a trained network."""
    from .commands.evaluate import evaluate_run

    show(
        evaluate_run(checkpoint, split.value, settings or [], data or []),
        f"{checkpoint}, {split.value}",
        as_json,
    )


@app.command()
def compress(
    config: Annotated[Path, typer.Argument(help="TOML configuration; see experiments/iir_digits.toml.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for checkpoints, result.json and the Graph.")],
    settings: Set = None,
    resume: Annotated[bool, typer.Option(help="Go on from what the folder holds.")] = False,
    as_json: Json = False,
) -> None:
    """Turn an ANN into a spiking network and train it at fewer and fewer time steps (T = 5 to 1)."""
    from .commands.compress import compress_run, stage_table

    def line(row: dict[str, Any]) -> None:
        name = f"T={row['T']} from {row['stage_from']}" if row["T"] else "ANN"
        err.print(
            f"{name}, epoch {row['epoch'] + 1} of {row['epochs']}: loss {row['loss']:.4f}, valid "
            f"{row['valid_accuracy']:.4f}", highlight=False,
        )  # fmt: skip

    try:
        result = compress_run(
            config, folder, settings or [], resume=resume, report=line, progress=err.is_terminal
        )
    except KeyboardInterrupt as stop:
        kept = str(stop) or f"{folder} has all finished epochs"
        err.print(f"interrupted: {escape(kept)}; go on with --resume", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(result))
        return
    out.print(stage_table(result))
    out.print(f"wrote {folder / 'result.json'} and {result['graph']}", highlight=False, soft_wrap=True)


Net = Annotated[
    Path, typer.Argument(help="The network's file: a Graph (runs/x/graph.h5), NIR (.nir) or NetX (.net).")
]
Convention = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:MS]",
        help="Of a .nir file: the framework that wrote it, e.g. norse, snntorch, spikingjelly, sinabs, "
        "rockpool, and if need be how many ms a step has, e.g. norse:0.5. Default: nir, as NIR's "
        "paper steps it (Euler, 0.1 ms, a hard reset).",
    ),
]
ReadOut = Annotated[
    str | None,
    typer.Option(
        "--readout",
        help="How classes are read, e.g. spike_count. Default: as the file says, else spike_count of an "
        "output that spikes and softmax_sum of one that does not.",
    ),
]
DataSet = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        "-d",
        "--set",
        "-s",
        help="Data if not the network's own: a name, or key=value of \\[data]; root=FOLDER where they moved. "
        "May be repeated.",
    ),
]
Limit = Annotated[int | None, typer.Option(help="Only so many samples, spread over the split.")]


@app.command()
def simulate(
    net: Net,
    split: SplitOption = Split.valid,
    data: DataSet = None,
    limit: Limit = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float64 or int32; default: the neurons'.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Checkpoint to hold the spikes against (folder or last.pt of the run)."),
    ] = None,
    engine: Annotated[str, typer.Option(help="snnkit, or nest where PyNEST is installed.")] = "snnkit",
    convention: Convention = None,
    readout: ReadOut = None,
    as_json: Json = False,
) -> None:
    """Run a network event by event on real inputs: accuracy, spikes, synaptic events, time."""
    from .commands.simulate import simulate_on_data

    result = simulate_on_data(
        net,
        split.value,
        data or [],
        limit=limit,
        dtype=dtype,
        against=against,
        engine=engine,
        reading=Reading.said(convention, readout),
    )
    show(result, f"{net}, {split.value}", as_json)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run, its last.pt, or a file of the network.")],
    files: Annotated[list[Path], typer.Argument(help="Recordings: .h5 of SHD's layout, .npz, .wav.")],
    path: Annotated[Path | None, typer.Option("--csv", help="Also write the answers to this file.")] = None,
    convention: Convention = None,
    readout: ReadOut = None,
    as_json: Json = False,
) -> None:
    """Classes, scores and the latency of the decision for recordings without labels."""
    from .commands.predict import predict as predictions
    from .commands.predict import prediction_table, write_csv

    found = list(predictions(run, files, Reading.said(convention, readout)))
    if path is not None:
        write_csv(path, found)
    if as_json:
        print(json.dumps([p.row() for p in found]))
        return
    out.print(prediction_table(found))


def format_name(name: str) -> str:
    """`name`, if it is one of `FORMATS`."""
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, FORMATS))}.")
    return name


@app.command()
def export(
    net: Net,
    to: Annotated[
        str,
        typer.Option(
            callback=format_name,
            metavar=f"[{'|'.join(FORMATS)}]",
            help="; ".join(f"{name}: {form.about}" for name, form in FORMATS.items()) + ".",
        ),
    ],
    path: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    bits: Annotated[int | None, typer.Option(min=2, max=8, help="Bits of a weight (default: 8).")] = None,
    clip_delays: Annotated[bool, typer.Option(help="Shorten delays beyond the chip's; counted.")] = False,
    relay_delays: Annotated[bool, typer.Option(help="Pass long delays on by relay neurons.")] = False,
    unroll: Annotated[bool, typer.Option(help="NetX: convolutions with delays as dense layers.")] = False,
    settled_bias: Annotated[
        bool, typer.Option(help="Start a CUBA neuron as if its bias had acted for ever; NetX needs it.")
    ] = False,
    data: DataSet = None,
    calibration: Annotated[int, typer.Option(help="Validation samples that weights are scaled by.")] = 64,
    convention: Convention = None,
    as_json: Json = False,
) -> None:
    """Quantise a network for Loihi 2 and write it (or write it as NIR, in floats)."""
    from .commands.export import export_network

    if clip_delays and relay_delays:
        raise typer.BadParameter("choose one of --clip-delays and --relay-delays.")
    how: dict[str, Any] = {} if bits is None else {"bits": bits}
    if clip_delays or relay_delays:
        how["long_delays"] = "clip" if clip_delays else "relay"
    if settled_bias:
        how["settled_bias"] = True
    result = export_network(
        net,
        to,
        path,
        data or [],
        unroll=unroll,
        calibration=calibration,
        reading=Reading.said(convention),
        **how,
    )
    show(result, str(path), as_json)


@app.command()
def verify(
    exported: Annotated[Path | None, typer.Argument(help="Exported file (netx, nir or graph).")] = None,
    against: Annotated[
        Path | None, typer.Option(help="The float network it came from: a Graph, or a .nir file.")
    ] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="Instead: check the integer model on a folder of Lava's vectors.")
    ] = None,
    split: SplitOption = Split.valid,
    data: DataSet = None,
    limit: Limit = None,
    tolerance: Annotated[float, typer.Option(help="Accuracy that may be lost, 0..1.")] = 0.005,
    convention: Convention = None,
    readout: ReadOut = None,
    as_json: Json = False,
) -> None:
    """Show what an export changed, rung by rung; exit code 1 past the tolerance."""
    from .commands.verify import ladder_json, verify_export, verify_vectors

    if vectors is not None:
        raise typer.Exit(verify_vectors(vectors))
    if exported is None or against is None:
        raise typer.BadParameter("give an exported file and --against net.h5, or --vectors FOLDER.")
    ladder = verify_export(
        exported,
        against,
        split.value,
        data or [],
        limit=limit,
        tolerance=tolerance,
        reading=Reading.said(convention, readout),
    )
    if as_json:
        print(json.dumps(ladder_json(ladder)))
    else:
        print(ladder)
    raise typer.Exit(ladder.status)


@app.command()
def energy(
    net: Net,
    profile: Annotated[
        list[str] | None, typer.Option(help="Name or TOML file, or 'all'. May be repeated.")
    ] = None,
    split: SplitOption = Split.valid,
    data: DataSet = None,
    limit: Limit = 100,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML page.")] = None,
    convention: Convention = None,
    as_json: Json = False,
) -> None:
    """Price a network on real inputs: energy and latency per layer and operation."""
    from .commands.energy import energy_table, estimate_energy

    estimate = estimate_energy(
        net,
        profile or ["all"],
        split.value,
        data or [],
        limit=limit,
        page=html,
        reading=Reading.said(convention),
    )
    if as_json:
        print(json.dumps(estimate.to_json()))
        return
    out.print(energy_table(estimate))
    for note in estimate.notes:
        out.print(f"[dim]{escape(note)}[/dim]", highlight=False)


@app.command()
def tune(
    config: Annotated[Path, typer.Argument(help="TOML configuration to search around.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for study.json, study.db and front.html.")],
    trials: Annotated[int, typer.Option(min=1, help="Networks to train.")] = 20,
    profile: Annotated[str, typer.Option(help="Energy profile to price with.")] = "loihi1_sanafe",
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """Search for networks that trade accuracy, energy and latency (resumes what is in the folder)."""
    from .commands.tune import tune_run, tune_summary

    study = tune_run(
        config,
        folder,
        settings or [],
        trials=trials,
        profile=profile,
        progress=lambda number, parameters, got: err.print(
            f"{number}: {parameters} → {dict(got)}", highlight=False
        ),
    )
    for number, reason in study.failed.items():
        err.print(f"{number} failed: {reason}", highlight=False)
    show(tune_summary(study), str(folder), as_json)


def main() -> None:
    """Entry point: like `app`, with wrong input as one line on standard error and exit code 2."""
    try:
        app()
    except SnnkitError as error:
        err.print(f"[bold red]error:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
