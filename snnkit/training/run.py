"""The data that a configuration names, and that a Graph was trained on."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from .. import datasets
from ..datasets.splits import Data, Splits
from ..errors import ConfigError, DataError
from ..graph import Graph
from ..metadata import Readout
from .config import MACHINE, Config, DataSection, overridden, parse_config
from .facts import KEY, Facts, other_classes, other_inputs, shape_of, unnamed

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


def on_machine(config: Config, settings: Sequence[str]) -> Config:
    """The configuration with ``"data.root=NEW"`` and other settings of the machine.

    Raises `ConfigError` for a setting that would make it another run.
    """
    for setting in settings:
        section, _, key = setting.partition("=")[0].strip().partition(".")
        if (section, key) not in MACHINE:
            may = ", ".join(sorted(".".join(pair) for pair in MACHINE))
            raise ConfigError(
                f"{setting!r} would make it another run; here only settings of the machine may change "
                f"({may}). Other data are named by --data."
            )
    return overridden(config, list(settings))


def other_data(
    known: dict[str, Any] | None,
    facts: Facts | None,
    settings: dict[str, Any],
    call: str = "evaluate(network, data)",
) -> DataSection:
    """The [data] that `settings` ask for, where a network was trained on `known` or on data of these `facts`.

    call  what does from Python what is asked, for messages

    Of another data set the settings that a network depends on stay as they were. Raises `DataError` where
    nothing says which data are meant.
    """
    handed = facts is not None and not facts.named
    if handed or known is None:
        if "name" not in settings:
            raise (
                unnamed(facts, call)
                if facts is not None
                else DataError(
                    "the Graph does not say what data it was trained on; name it, e.g. --data spoken_digits."
                )
            )
        known = {} if facts is None else {"dt": facts.dt, "channels": math.prod(facts.shape)}
    elif settings.get("name", known["name"]) != known["name"]:
        known = {k: known[k] for k in ("dt", "channels", "binary", "features") if k in known}
    return parse_config({"data": {**known, **settings}}, "the data asked for").data


def graph_data(
    graph: Graph,
    split: str,
    settings: dict[str, Any] | None = None,
    call: str = "simulate(graph, data.valid.events)",
) -> Data:
    """The split of the data that a Graph was trained on, as its metadata says; `settings` override.

    call  what does from Python what is asked, for messages

    Raises `DataError` where the metadata names no data, or naming both sides if those asked for do not fit
    the Graph: other classes, steps or inputs, or not the recordings that it was trained on.
    """
    settings = settings or {}
    facts = Facts.from_json(graph.metadata.get(KEY))
    section = other_data(graph.metadata.get("data"), facts, settings, call)
    if graph.inputs and settings.get("dt", graph.dt) != graph.dt:
        raise DataError(
            f"the Graph runs in steps of {graph.dt:g} ms, and dt={settings['dt']:g} asks for data in steps "
            f"of {settings['dt']:g} ms; leave dt out, or train in such steps."
        )
    data: Data = getattr(load_data(Config(data=section)), split)
    classes = Readout.of(graph.metadata).classes
    if classes is not None and list(classes) != list(data.classes):
        raise DataError(
            f"{other_classes(classes, section.name, data.classes)}; give data with the same classes."
        )
    if len(graph.outputs) == 1 and len(data.classes) > (room := graph.populations[graph.outputs[0]].size):
        raise DataError(
            f"the Graph's output {graph.outputs[0]!r} has {room} neurons, and {section.name} has "
            f"{len(data.classes)} classes; give data of at most as many."
        )
    if graph.inputs:
        size = sum(graph.populations[name].size for name in graph.inputs)
        if graph.dt != data.dt:
            raise DataError(
                f"the Graph runs in steps of {graph.dt:g} ms, {section.name} has steps of {data.dt:g} ms; "
                f"name data in the Graph's steps (--data dt={graph.dt:g})."
            )
        if size != math.prod(shape_of(data)):
            if facts is not None and max(len(facts.shape), len(data.shape)) > 1:
                raise other_inputs(facts, section.name, data)
            raise DataError(
                f"the Graph has {size} inputs, {section.name} has {data.channels} channels; name data of as "
                f"many (--data channels={size})."
            )
    if facts is not None and settings.keys() <= {key for _, key in MACHINE}:
        facts.checked(data, section.name, split)
    return data
