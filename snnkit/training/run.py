"""The data that a configuration names, and that a Graph was trained on."""

from __future__ import annotations

import logging
from typing import Any

from .. import datasets
from ..datasets.splits import Data, Splits
from ..errors import DataError
from ..graph import Graph
from ..metadata import Readout
from .config import Config, parse_config

_log = logging.getLogger("snnkit.training")


def validation_of(config: Config) -> str:
    """What the epoch is chosen on, as `snnkit.datasets.load` names it."""
    if config.train.protocol == "paper" and config.data.validation == "auto":
        return datasets.dataset(config.data.name).paper
    return config.data.validation


def load_data(config: Config, progress: bool = True) -> Splits:
    """The data set of a configuration.

    Under the paper's protocol the whole training part is trained on and, where there is no official
    validation part (SHD), the epoch is chosen on the test part, as published. Where recordings can't be
    reached and the data set's row names another that stands in, that one is taken, with a warning.

    Raises `ParameterError` for an unknown data set, with the nearest, and what `snnkit.datasets.load` raises.
    """
    row = datasets.dataset(config.data.name)
    options = config.data.model_dump() | {"validation": validation_of(config)}
    own = {key: options.pop(key) for key in row.options() if key in options}
    found = datasets.resolve(row.name, config.data.root, **own)
    if found.name != row.name:
        title = datasets.dataset(found.name).title
        _log.warning("%s stand in for %s: %s", title.upper(), row.name.replace("_", " "), found.where)
        own, options = {}, options | {"name": found.name, "root": None, "held_out": None}
    return datasets.load(**options, **own, progress=progress)


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
