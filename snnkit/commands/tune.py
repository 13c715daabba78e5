"""`snnkit tune`: networks trained, quantised and priced around a configuration, and the best of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.splits import Splits
from ..energy import Study, estimate, tune
from ..engine.readout import accuracy
from ..errors import ParameterError
from ..files import PathLike
from ..hardware.quantise import quantise
from ..metadata import Timing
from ..report import tune_page
from ..training import Trainer, lower
from ..training.config import Config, load_config, parse_config
from ..training.run import load_data


def point(
    config: Config, parameters: dict[str, Any], profile: str, splits: Splits, samples: int = 100
) -> dict[str, float]:
    """Accuracy of the integer network on validation, energy (pJ) and latency (µs) of an inference.

    parameters  of `snnkit.energy.tune.SPACE`: rate_regularisation, hidden, bits, max_delay,
                bin_width_ms
    splits      the data in steps of the chosen bin width
    """
    with tempfile.TemporaryDirectory() as folder:
        network = Trainer(changed(config, parameters), splits, folder, progress=False).fit()
    graph = lower(network)
    some = splits.train.subset(np.linspace(0, len(splits.train) - 1, 64).astype(int)).events
    # a long delay in short steps may be more of them than the chip has; relays lose nothing
    integer = quantise(graph, bits=int(parameters.get("bits", 8)), calibration=some, long_delays="relay")
    chosen = splits.valid.subset(np.linspace(0, len(splits.valid) - 1, samples).astype(int))
    priced = estimate(graph, chosen.events, profile)
    latency = priced.latency_us[profile]
    if latency is None:
        latency = float(graph.dt * 1e3 * Timing.of(graph.metadata).steps_tail)
    return {
        "accuracy": accuracy(integer, splits.valid.events, splits.valid.labels),
        "energy_pj": priced.total_pj[profile],
        "latency_us": latency,
    }


def changed(config: Config, parameters: dict[str, Any]) -> Config:
    """The configuration with the parameters of a trial; delays keep their length in ms."""
    tree = config.model_dump()
    dt = float(parameters.get("bin_width_ms", config.data.dt))
    ratio = config.data.dt / dt
    tree["data"]["dt"] = dt
    if config.data.steps is not None:
        tree["data"]["steps"] = max(round(config.data.steps * ratio), 1)
    if config.model.tail is not None:
        tree["model"]["tail"] = round(config.model.tail * ratio)
    if config.train.sigma is not None:
        tree["train"]["sigma"] = config.train.sigma * ratio
    tree["model"]["tau_mem"] = max(config.model.tau_mem, dt * 1.005)
    for key, there in (("[[model.layers]]", config.model.layers), ("model.network", config.model.network)):
        if there:
            raise ParameterError(f"a search changes hidden and max_delay, and this run has {key}.")
    if "hidden" in parameters:
        tree["model"]["hidden"] = (int(parameters["hidden"]),) * len(config.model.hidden)
    delay = round(int(parameters.get("max_delay", config.model.max_delay)) * ratio)
    tree["model"]["max_delay"] = delay
    if delay == 0:
        tree["model"]["delays"] = "none"
    if "rate_regularisation" in parameters:
        tree["train"] |= {"rate_strength": float(parameters["rate_regularisation"]), "rate_target": 0.01}
    return parse_config(tree)


def search(
    config: Config,
    *,
    trials: int = 20,
    profile: str = "loihi1_sanafe",
    space: dict[str, Any] | None = None,
    storage: str | None = None,
    progress: Callable[[int, dict[str, Any], Any], None] | None = None,
) -> Study:
    """The Pareto front of accuracy, energy and latency around a configuration."""
    loaded: dict[float, Splits] = {}

    def evaluate(parameters: dict[str, Any]) -> dict[str, float]:
        dt = float(parameters.get("bin_width_ms", config.data.dt))
        if dt not in loaded:
            loaded[dt] = load_data(changed(config, parameters))
        return point(config, parameters, profile, loaded[dt])

    return tune(evaluate, space, trials, config.train.seed, storage=storage, progress=progress)


def tune_run(
    config: PathLike,
    folder: PathLike,
    overrides: Sequence[str] = (),
    *,
    trials: int = 20,
    profile: str = "loihi1_sanafe",
    progress: Callable[[int, dict[str, Any], Any], None] | None = None,
) -> Study:
    """Search around the TOML file `config`, going on from what `folder` holds.

    Writes study.db, study.json and front.html there.
    """
    plan, folder = load_config(config, list(overrides)), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    study = search(
        plan,
        trials=trials,
        profile=profile,
        storage=f"sqlite:///{(folder / 'study.db').resolve()}",
        progress=progress,
    )
    study.save(folder / "study.json")
    tune_page(study, folder / "front.html")
    return study


def tune_summary(study: Study) -> dict[str, int]:
    """How many networks were tried, how many of them gave no figures, how many are on the front."""
    return {
        "trials": len(study.table["trial"]),
        "failed": len(study.failed),
        "front": len(study.front()["trial"]),
    }
