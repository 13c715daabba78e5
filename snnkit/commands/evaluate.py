"""`snnkit evaluate`: how good a checkpoint is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..errors import listed
from ..files import PathLike
from ..training.checkpoint import facts_of, load_network
from ..training.evaluation import evaluate
from ..training.facts import unnamed
from ..training.own import scores
from ..training.run import load_data, on_machine, other_data
from .data import parse_pairs

_log = logging.getLogger("snnkit.commands")


def evaluate_run(
    checkpoint: PathLike, split: str = "valid", settings: Sequence[str] = (), data: Sequence[str] = ()
) -> dict[str, Any]:
    """Accuracy and rates of a checkpoint's best epoch on a split of the data it was trained on.

    checkpoint  of a run, or its folder
    settings    ``"root=NEW"`` or ``"data.root=NEW"`` where the data moved: only
                `snnkit.training.config.MACHINE` may change
    data        a name, or key=value of [data], for other data that the network fits

    Raises `DataError` naming both sides if the data are not those of the run, or can't be run on.
    """
    network, config, content = load_network(checkpoint)
    known = facts_of(content)
    if data:
        name = config.data.name if known is None or known.named else None
        section = other_data(config.data.model_dump(mode="json"), known, parse_pairs(data, name))
    elif known is not None and not known.named:
        raise unnamed(known)
    else:
        section = on_machine(config, [_of_data(pair) for pair in settings]).data
    chosen = getattr(load_data(config.model_copy(update={"data": section})), split)
    if known is not None:
        known.checked(chosen, section.name, None if data else split)
    how = {"model": config.model, "count_padding": config.train.protocol == "paper", **scores(config)}
    result = evaluate(network, chosen, config.train.batch, **how)
    if result.silent:
        _log.warning(
            "hidden layers %s of %d (from 0) gave no spike on %s: what follows them hears nothing.",
            listed(map(str, result.silent)), len(result.rates), split,
        )  # fmt: skip
    if result.metric is not None:
        return {"split": split, **result.summary()}
    return {"split": split, **result.summary(), "most_confused": result.most_confused}


def _of_data(setting: str) -> str:
    """A setting that names no section is one of [data], as for the commands that take a Graph."""
    key, _, _ = setting.partition("=")
    return setting if "." in key else f"data.{setting}"
