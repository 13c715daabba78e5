"""`snnkit data`, and the samples that the commands after training run a network on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..datasets import Binned, write_splits
from ..datasets.splits import Data
from ..errors import ParameterError
from ..files import PathLike
from ..graph import Graph
from ..report.samples import samples_picture
from ..training.config import parse_overrides
from ..training.run import graph_data, load_data


def describe_data(
    name: str,
    root: PathLike | None = None,
    settings: Sequence[str] = (),
    *,
    write: PathLike | None = None,
    picture: PathLike | None = None,
) -> dict[str, Any]:
    """Sizes, classes, speakers, lengths and rates of a data set; encodes it if that was not done yet.

    settings  key=value of the configuration's [data]
    write     HDF5 file that it is written to, see `snnkit.datasets.write_splits`
    picture   image that three samples of train a class are drawn to

    Raises what `snnkit.datasets.load` raises, and `DataError` where it can't be written.
    """
    folder = [] if root is None else [f"data.root={str(root)!r}"]
    config = parse_overrides([f"data.name={name!r}", *folder, *(f"data.{pair}" for pair in settings)])
    splits = load_data(config)
    about: dict[str, Any] = {
        "dataset": splits.name,
        "synthetic": splits.synthetic,
        "classes": splits.classes,
        "dt_ms": splits.dt,
        "channels": splits.channels,
        "shape": list(splits.shape),
    }
    for part in splits.parts:
        data = getattr(splits, part)
        about[part] = {
            "clips": len(data),
            "speakers": [splits.speaker_names.get(s, s) for s in splits.speakers.get(part, [])],
            "mean_steps": round(float(np.mean(data.lengths)), 1),
            "steps": [int(data.lengths.min()), int(data.lengths.max())],
        }
        if data.labels.ndim == 1 and data.labels.dtype.kind in "iu":
            counts = np.bincount(data.labels, minlength=len(data.classes))
            about[part]["of_each_class"] = dict(zip(data.classes, counts.tolist(), strict=True))
    if isinstance(splits.train, Binned):
        about["occupancy"] = splits.train.occupancy
        about |= _rates(splits.train)
    if write is not None:
        write_splits(write, splits)
        about["written"] = str(write)
    if picture is not None:
        samples_picture(splits.train, picture)
        about["picture"] = str(picture)
    return about | ({"attribution": splits.attribution} if splits.attribution else {})


def _rates(train: Binned) -> dict[str, float]:
    """Spikes a recording, and spikes a channel and second."""
    spikes = train.total
    seconds = float(train.lengths.sum()) * train.dt / 1000
    return {
        "spikes_per_recording": round(spikes / len(train), 1),
        "rate_hz": round(spikes / (seconds * train.channels), 3),
    }


def parse_pairs(settings: Sequence[str], known: str | None = None) -> dict[str, Any]:
    """What was asked of the data, checked: each of `settings` a name, or key=value of [data].

    known  name of the data that the keys are of, where `settings` have none
    """
    if not settings:
        return {}
    pairs = [s.removeprefix("data.") if "=" in s else f"name={s!r}" for s in settings]
    named = known is None or any(pair.partition("=")[0].strip() == "name" for pair in pairs)
    told = [] if named else [f"name={known!r}"]
    given = parse_overrides([f"data.{pair}" for pair in (*told, *pairs)]).data
    asked: dict[str, Any] = given.model_dump(mode="json", exclude_unset=True)
    return asked if named else {key: value for key, value in asked.items() if key != "name"}


def data_of(
    graph: Graph,
    split: str,
    settings: Sequence[str],
    limit: int | None = None,
    *,
    call: str = "simulate(graph, data.valid.events)",
) -> Data:
    """A split of the graph's data; `settings` are a name or key=value; `limit` samples spread over it.

    call  what does from Python what is asked, for messages

    Raises `DataError` if nothing says which data, `ParameterError` for a limit below 1.
    """
    chosen = parse_pairs(settings, (graph.metadata.get("data") or {}).get("name"))
    if "images" in graph.metadata and not chosen:
        from ..compression.run import image_data  # seconds, which other networks need not wait for

        data: Data = image_data(graph, split)
    else:
        data = graph_data(graph, split, chosen, call)
    if limit is None or limit >= len(data):
        return data
    if limit < 1:
        raise ParameterError(f"limit must be at least 1 sample, got {limit}.")
    return data.subset(np.linspace(0, len(data) - 1, limit).astype(int))
