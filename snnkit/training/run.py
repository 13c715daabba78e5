"""Whole runs: train and lower, evaluate a checkpoint, and hold a Graph against its network."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import datasets
from ..datasets.splits import Data, Splits
from ..engine import simulate
from ..engine.readout import classify, recorded
from ..errors import DataError
from ..files import PathLike
from ..graph import Graph
from ..metadata import Readout
from .checkpoint import load_network
from .config import Config, parse_config
from .evaluation import as_tensors, evaluate
from .lowering import lower
from .network import SpikingClassifier
from .trainer import Trainer

_log = logging.getLogger("snnkit.training")


def validation_of(config: Config) -> str:
    """What the epoch is chosen on, as `snnkit.datasets.load` names it."""
    if config.train.protocol == "paper" and config.data.validation == "auto":
        return "official" if config.data.name in ("ssc", "gsc") else "test"
    return config.data.validation


def load_data(config: Config, progress: bool = True) -> Splits:
    """The data set of a configuration.

    Under the paper's protocol the whole training part is trained on and, where there is no official
    validation part (SHD), the epoch is chosen on the test part, as published. Where the recordings of
    ``spoken_digits`` can't be reached, synthetic voices stand in, with a warning.
    """
    options = config.data.model_dump()
    options["validation"] = validation_of(config)
    if options["name"] == "spoken_digits":
        found = datasets.resolve_spoken_digits(options["root"])
        if found.synthetic:
            _log.warning("SYNTHETIC VOICES stand in for spoken digits: %s", found.where)
            options |= {"name": found.name, "root": None, "held_out": None}
    return datasets.load(**options, progress=progress)


def describe_data(config: Config) -> dict[str, Any]:
    """Sizes, speakers and input statistics of a data set; encodes it if that was not done yet."""
    splits = load_data(config)
    about: dict[str, Any] = {
        "dataset": splits.name,
        "synthetic": splits.synthetic,
        "classes": splits.classes,
        "dt_ms": splits.dt,
        "channels": splits.channels,
    }
    for part in ("train", "valid", "test"):
        data = getattr(splits, part)
        about[part] = {
            "clips": len(data),
            "speakers": [splits.speaker_names.get(s, s) for s in splits.speakers.get(part, [])],
            "mean_steps": round(float(np.mean(data.lengths)), 1),
        }
    if isinstance(splits.train, datasets.Binned):
        about["occupancy"] = splits.train.occupancy
    return about | ({"attribution": splits.attribution} if splits.attribution else {})


def train_run(
    config: Config, folder: PathLike, *, resume: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Train into `folder` and write the best epoch's Graph there (graph.h5); a summary."""
    folder = Path(folder)
    data = load_data(config, progress)
    trainer = Trainer(config, data, folder, progress=progress)
    network = trainer.fit(resume=resume)
    graph = lower(
        network,
        metadata={
            "classes": data.classes,
            "data": config.data.model_dump(mode="json"),
            "synthetic": data.synthetic,
            "trained": trainer.record["started"],
            "revision": trainer.record["revision"],
        },
    )
    graph.save(folder / "graph.h5")
    return {
        "dataset": data.name,
        "synthetic": data.synthetic,
        "train_clips": len(data.train),
        "valid_clips": len(data.valid),
        "chosen_on": "test" if validation_of(config) == "test" else "validation",
        "epochs": trainer.epoch,
        "best_epoch": trainer.best_epoch + 1,
        "valid_accuracy": trainer.best_accuracy,
        "parameters": trainer.record["parameters"],
        "seconds": round(trainer.seconds, 1),
        "checkpoint": str(folder / "last.pt"),
        "graph": str(folder / "graph.h5"),
    }


def evaluate_run(checkpoint: PathLike, split: str = "valid") -> dict[str, Any]:
    """Accuracy and rates of a checkpoint's best epoch on a split of the data it was trained on."""
    network, config, _ = load_network(checkpoint)
    data = getattr(load_data(config), split)
    paper = config.train.protocol == "paper"
    result = evaluate(network, data, config.train.batch, count_padding=paper)
    worst = result.confusion.copy()
    np.fill_diagonal(worst, 0)
    label, guess = np.unravel_index(worst.argmax(), worst.shape)
    confused = f"{result.classes[label]} taken for {result.classes[guess]} {worst.max()} times"
    return {"split": split, **result.summary(), "most_confused": confused}


def graph_data(graph: Graph, split: str, settings: dict[str, Any] | None = None) -> Data:
    """The split of the data that a Graph was trained on, as its metadata says; `settings` override."""
    known = graph.metadata.get("data")
    if known is None and not settings:
        raise DataError(
            "the Graph does not say what data it was trained on; name it, e.g. --data spoken_digits."
        )
    settings = settings or {}
    if known is not None and settings.get("name", known["name"]) != known["name"]:
        known = {k: known[k] for k in ("dt", "channels", "binary", "features") if k in known}
    config = parse_config({"data": {**(known or {}), **settings}}, "the Graph's metadata")
    data: Data = getattr(load_data(config), split)
    classes = Readout.of(graph.metadata).classes
    if classes is not None and list(classes) != list(data.classes):
        raise DataError(
            f"the network was trained on the classes {list(classes)[:4]}… ({len(classes)}), "
            f"{config.data.name} has {list(data.classes)[:4]}… ({len(data.classes)}); give data with the "
            "same classes."
        )
    return data


@torch.no_grad()
def compare(network: SpikingClassifier, graph: Graph, data: Data, dtype: str = "float32") -> dict[str, Any]:
    """Hold the engine's spikes and predictions on `data` against the trained network's own.

    With ``padding="grow"`` the network is run over all steps in every layer, as the Graph is.

    Returns how many spikes of hidden neurons at least one of the two has, the share of them that both
    have, the share of (step, neuron) cells that agree, and both accuracies.
    """
    network = network.eval()
    was = next(network.parameters()).dtype
    network = network.double() if dtype == "float64" else network
    names = [name for name in graph.populations if name not in (*graph.inputs, *graph.outputs)]
    cells = same = either = both = 0
    right = {"network": 0, "graph": 0}
    for start in range(0, len(data), 64):
        indices = np.arange(start, min(start + 64, len(data)))
        x, lengths, labels = as_tensors(data.batch(indices), network)
        out = network(x, lengths, whole=True)
        events = data.subset(indices).events
        result = simulate(graph, events, record=recorded(graph), dtype=dtype, progress=False)
        scores = classify(result, graph, events.lengths)
        right["network"] += int((out.scores.argmax(1) == labels).sum())
        right["graph"] += int((scores.argmax(1) == labels.numpy()).sum())
        for name, s in zip(names, out.spikes, strict=True):
            ours = result.spikes[name].to_dense(s.shape[0], bool)
            theirs = (s != 0).numpy() & out.mask[: s.shape[0], :, None].numpy()
            cells += int(out.mask[: s.shape[0]].sum()) * s.shape[2]
            same += int(out.mask[: s.shape[0]].sum()) * s.shape[2] - int((ours != theirs).sum())
            either += int((ours | theirs).sum())
            both += int((ours & theirs).sum())
    network.to(was)
    return {
        "dtype": dtype,
        "spikes": either,
        "equal_spikes": both / either if either else 1.0,
        "equal_cells": same / max(cells, 1),
        "network_accuracy": right["network"] / len(data),
        "graph_accuracy": right["graph"] / len(data),
    }
