"""`snnkit compress`: a compression of time steps, every stage priced with memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..compression.lowering import dense_graph, encode, lower_spiking
from ..compression.run import compress_run, load_compression
from ..compression.spiking import SpikingNet
from ..files import PathLike
from ..hardware.energy import load_profile, measure, price
from ..hardware.energy.baseline import dense_pj


def stage_cost(images: int = 8, dense: str = "lemaire45", chip: str | None = None) -> Callable[..., Any]:
    """A callable for `compress_timesteps`: energy with memory, and the chip's energy and latency.

    energy_pj_memory     of an inference, by the memory-inclusive profile `dense`
    energy_ratio_memory  energy of the 32-bit ANN of the same layers over it, by the same profile
    synops               synaptic operations of an inference

    images  so many of the images given are run by the engine, spread over them
    chip    also ``energy_pj_<chip>`` and ``latency_us_<chip>`` by this profile
    """

    def cost(network: SpikingNet, x: np.ndarray) -> dict[str, float]:
        from ..hardware.energy import place

        shape = tuple(x.shape[1:])
        chosen = x[np.linspace(0, len(x) - 1, min(images, len(x))).astype(np.int64)]
        graph = lower_spiking(network, shape)
        counts = measure(graph, encode(chosen, network.steps))
        whole = measure(dense_graph(network, shape), encode(np.zeros((1, *shape), np.float32), 1))
        ours = price(counts, load_profile(dense)).total_pj
        figures = {
            "energy_pj_memory": float(ours),
            "energy_ratio_memory": float(dense_pj(whole, dense, 32, "once")[1] / ours),
            "synops": float(counts.synops.mean()),
        }
        if chip is not None:
            profile = load_profile(chip)
            assert profile.mesh is not None
            placed = measure(graph, encode(chosen, network.steps), mapping=place(graph, profile.mesh))
            on_chip = price(placed, profile)
            figures[f"energy_pj_{chip}"] = float(on_chip.total_pj)
            if on_chip.latency_us is not None:
                figures[f"latency_us_{chip}"] = float(on_chip.latency_us.mean())
        return figures

    return cost


def compress(
    config: PathLike,
    folder: PathLike,
    overrides: list[str],
    *,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run the TOML file `config` into `folder`; see `compress_run`."""
    return compress_run(load_compression(config, overrides), folder, resume, cost=stage_cost(), report=report)
