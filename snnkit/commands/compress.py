"""`snnkit compress`: a compression of time steps, every stage priced with memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from rich.table import Table

from ..compression import run as runs
from ..compression.lowering import dense_graph, encode, lower_spiking
from ..compression.spiking import SpikingNet
from ..energy import load_profile, measure, place, price
from ..energy.baseline import dense_pj
from ..errors import ExportError
from ..files import PathLike


def stage_cost(images: int = 8, dense: str = "lemaire45", chip: str | None = None) -> Callable[..., Any]:
    """A callable for `compress_timesteps`: energy with memory, and the chip's energy and latency.

    energy_pj_memory     of an inference, by the memory-inclusive profile `dense`
    energy_ratio_memory  energy of the 32-bit ANN of the same layers over it, by the same profile
    synops               synaptic operations of an inference

    images  so many of the images given are run by the engine, spread over them
    chip    also ``energy_pj_<chip>`` and ``latency_us_<chip>`` by this profile, if the network fits
    """

    def cost(network: SpikingNet, x: np.ndarray) -> dict[str, float]:
        shape = tuple(x.shape[1:])
        chosen = x[np.linspace(0, len(x) - 1, min(images, len(x))).astype(np.int64)]
        graph = lower_spiking(network, shape)
        profile = None if chip is None else load_profile(chip)
        cores = None
        if profile is not None and profile.chip is not None:
            with suppress(ExportError):  # larger than the chip: no price on it
                cores = place(graph, profile.chip, "neurons_only")
        counts = measure(graph, encode(chosen, network.steps), mapping=cores)
        whole = measure(dense_graph(network, shape), encode(np.zeros((1, *shape), np.float32), 1))
        ours = price(counts, load_profile(dense)).total_pj
        figures = {
            "energy_pj_memory": float(ours),
            "energy_ratio_memory": float(dense_pj(whole, dense, 32, "once")[1] / ours),
            "synops": float(counts.synops.mean()),
        }
        if profile is not None and (profile.chip is None or cores is not None):
            on_chip = price(counts, profile)
            figures[f"energy_pj_{chip}"] = float(on_chip.total_pj)
            if on_chip.latency_us is not None:
                figures[f"latency_us_{chip}"] = float(on_chip.latency_us.mean())
        return figures

    return cost


def stage_table(result: dict[str, Any]) -> Table:
    """What `compress_run` gives, a row a stage."""
    rows = result["stages"]
    priced = {key.removeprefix("energy_pj_") for row in rows for key in row if key.startswith("energy_pj_")}
    chips = sorted(priced - {"paper", "memory"})
    table = Table(title=f"{rows[0]['case']}: ANN {result['ann_accuracy']:.4f} on test", title_justify="left")
    heads = ["T", "from", "valid", "test", "spikes", "paper", "memory"]
    for head in [*heads, *(f"{chip.replace('_', ' ')} {unit}" for chip in chips for unit in ("µJ", "µs"))]:
        table.add_column(head, justify="left" if head == "from" else "right")
    for row in rows:
        keys = [
            "energy_ratio_memory",
            *(k for chip in chips for k in (f"energy_pj_{chip}", f"latency_us_{chip}")),
        ]
        numbers = [row[k] / (1e6 if "pj" in k else 1) if k in row else None for k in keys]
        table.add_row(
            str(row["T"]), row["stage_from"], f"{row['valid_accuracy']:.4f}", f"{row['accuracy']:.4f}",
            f"{row['spikes_per_neuron']:.3f}", f"{row['energy_ratio_paper']:.3g}",
            *("" if number is None else f"{number:.4g}" for number in numbers),
        )  # fmt: skip
    notes = [
        "spikes: of a neuron, all steps; paper, memory: energy of the ANN over that of the network, by the "
        "paper's formula and by a profile with memory"
    ]
    table.caption = "\n".join([*notes, *[result["stopped"]] * bool(result["stopped"])])
    table.caption_justify = "left"
    return table


def compress_run(
    config: PathLike,
    folder: PathLike,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run the TOML file `config` into `folder`; see `snnkit.compression.run.compress_run`."""
    plan = runs.load_compression(config, list(overrides))
    if plan.run.chip is not None:
        load_profile(plan.run.chip)  # a wrong name is said before anything is trained
    cost = stage_cost(chip=plan.run.chip)
    return runs.compress_run(plan, folder, resume, cost=cost, report=report, progress=progress)
