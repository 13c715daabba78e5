"""Datasets of the tonic package: one as `EventDataset`, or any by class name, ``name = "tonic:NMNIST"``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, ParameterError, choices, require
from ..events import EVENT_DTYPE
from ..files import PathLike, stamp
from .event_data import EventDataset, Parted, from_events
from .folders import data_folder
from .given import flat_events
from .own_events import Dividing
from .recordings import PARTS
from .stores import OneByOne, View, joined

_TRANSFORMS = ("transform", "target_transform", "transforms")


def from_tonic(dataset: Any, *, name: str | None = None, limit: int | None = None) -> EventDataset:
    """Any tonic dataset as an `EventDataset`, read into memory once.

    A sensor of W×H pixels and P polarities becomes W·H·P channels: channel (p·H + y)·W + x. Labels
    are whole numbers, or names that are numbered in sorted order. The dataset's own transform, if it
    has one, must still give events.

    limit  read only so many recordings, the first ones

    Raises `DataError` naming the first recording that is no structured array with t and x, `ParameterError`
    for a dataset without recordings.
    """
    name = name or type(dataset).__name__
    width, height, polarities = (int(n) for n in dataset.sensor_size)
    events, labels = [], []
    for i in range(len(dataset) if limit is None else min(limit, len(dataset))):
        sample, label = dataset[i]
        fields = getattr(getattr(sample, "dtype", None), "names", None) or ()
        if "t" not in fields or "x" not in fields:
            raise DataError(
                f"{name}, recording {i}: expected a structured array with fields t and x, got "
                f"{type(sample).__name__} {fields}; leave out transforms that make frames."
            )
        flat: np.ndarray = np.empty(len(sample), EVENT_DTYPE)
        x = sample["x"].astype(np.int64)
        if "y" in fields:
            x += width * sample["y"].astype(np.int64)
        if polarities > 1:
            x += width * height * sample["p"].astype(np.int64)
        flat["t"], flat["x"], flat["p"] = sample["t"], x, 1
        events.append(flat)
        labels.append(label)
    if not events:
        raise ParameterError(f"{name} has no recordings.")
    numbers, classes = _numbered(dataset, labels)
    speakers = getattr(dataset, "speaker", None)
    if speakers is not None and len(speakers) >= len(events):
        speakers = np.asarray(speakers, np.int64)[: len(events)]
    else:
        speakers = None
    return from_events(
        events, numbers, width * height * polarities, classes=classes, speakers=speakers, name=name
    )


def _numbered(dataset: Any, labels: list[Any]) -> tuple[np.ndarray, list[str]]:
    """Labels int64 [B] and the names of their classes, from the data set where it has them."""
    if all(isinstance(label, int | np.integer) for label in labels):
        numbers = np.array(labels, np.int64)
        given = getattr(dataset, "classes", None)
        count = int(numbers.max()) + 1
        classes = [str(k) for k in range(count)]
        if given is not None and len(given) >= count:
            classes = [c.decode() if isinstance(c, bytes) else str(c) for c in given]
        return numbers, classes
    classes = sorted({str(label) for label in labels})
    return np.array([classes.index(str(label)) for label in labels]), classes


def reader(class_name: str) -> Callable[..., Parted]:
    """What reads the tonic data set of this class: its options are the class's arguments and those of `View`.

    Raises `MissingExtraError` without tonic, `ParameterError` for a class that it does not have.
    """
    kinds = require("tonic", "tonic").datasets
    known = [key for key, value in vars(kinds).items() if inspect.isclass(value)]
    if class_name not in known:
        raise ParameterError(f"tonic has no data set {class_name!r}{choices(class_name, known)}")
    kind = vars(kinds)[class_name]
    theirs = {
        key: parameter.replace(annotation=Any, kind=inspect.Parameter.KEYWORD_ONLY)
        for key, parameter in inspect.signature(kind.__init__).parameters.items()
        if key not in ("self", "train", "split", "save_to", *_TRANSFORMS)
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }

    def read(root: PathLike | None = None, **options: Any) -> Parted:
        own = {key: options.pop(key) for key in theirs if key in options}
        return _read(kind, class_name, root, own, **options)

    ours = [p for p in inspect.signature(_read).parameters.values() if p.kind is p.KEYWORD_ONLY]
    root = inspect.Parameter("root", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Any)
    parameters = [root, *theirs.values(), *(p for p in ours if p.name not in theirs)]
    read.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    hints = inspect.get_annotations(_read, eval_str=True)
    read.__annotations__ = {p.name: hints.get(p.name, Any) for p in parameters if p.name not in theirs}
    return read


def _read(
    kind: Any,
    name: str,
    root: PathLike | None,
    own: dict[str, Any],
    *,
    save_to: str | None = None,
    complete: bool = True,
    split: str = "auto",
    folds: int = 5,
    fold: int = 0,
    sensor_size: tuple[int, ...] | None = None,
    downsample: int = 1,
    polarity: bool = True,
    events_per_step: int | None = None,
    seed: int = 0,
    dt: float = 10.0,
) -> Parted:
    """The parts of a tonic data set, its recordings read when they are needed.

    own          arguments of the class
    save_to      where tonic keeps and fetches it; None: `root`, else the cache
    complete     False: take the files that are there, though they are fewer than tonic expects
    split        "auto": tonic's parts, where the class has them; else at random; "random",
                 "speakers", "kfold", over all recordings
    sensor_size  (W, H, P), where the class does not say it
    """
    place = Path(save_to if save_to is not None else root if root is not None else data_folder()).absolute()
    if not complete:
        kind = type(kind.__name__, (kind,), {"_check_exists": lambda self: True})

    def make(**part: Any) -> Any:
        try:
            return kind(save_to=str(place), **part, **own)
        except (OSError, RuntimeError) as error:  # what urllib and tonic's check of an archive raise
            raise DataError(
                f"{name} is not whole in {place}, and tonic could not fetch it ({error}); put its files "
                "there, set save_to, or complete = false if they are fewer than tonic's."
            ) from error

    takes = inspect.signature(kind.__init__).parameters
    made: dict[str, Any] = {}
    if "train" in takes:
        made = {part: make(train=part == "train") for part in ("train", "test")}
    elif "split" in takes:
        for part in PARTS:
            try:
                made[part] = make(split=part)
            except (ValueError, AssertionError, KeyError):
                if part != "valid":  # some have no such part
                    raise
    else:
        made = {"all": make()}
    if empty := [part for part, one in made.items() if len(one) == 0]:
        raise DataError(f"{name}: {empty[0]} has no recordings in {place}, where tonic looked; set save_to.")
    parts = {part: _lazy(one, f"{name}: {part}", sensor_size) for part, one in made.items()}
    names = max((data.classes for data in parts.values()), key=len)
    if any(not set(data.classes) <= set(names) for data in parts.values()):
        names = sorted({c for data in parts.values() for c in data.classes})
    whole = joined(list(parts.values()), names, name)
    whole.key = _key(f"tonic|{name}|{place.resolve()}|{sorted(own.items())}", made)
    starts = np.cumsum([0, *(len(data) for data in parts.values())])
    rows = {part: np.arange(starts[k], starts[k + 1]) for k, part in enumerate(parts)}
    rule = Dividing(split=split, folds=folds, fold=fold, seed=seed)
    if "all" in rows or split not in ("auto", "official"):
        rows = rule.rows(whole)
    view = View(downsample=downsample, polarity=polarity, events_per_step=events_per_step, dt=dt)
    return Parted(data=view.of(whole), rows=rows, names={})


def _key(start: str, made: dict[str, Any]) -> str | None:
    """What identifies the content, from the files of the recordings; None where tonic does not say them."""
    files = [Path(str(file)) for one in made.values() for file in getattr(one, "data", ())[: len(one)]]
    if not files or len(files) != sum(map(len, made.values())) or not all(f.is_file() for f in files):
        return None
    return f"{start}|{stamp(files)}"


def _lazy(dataset: Any, name: str, sensor_size: tuple[int, ...] | None) -> EventDataset:
    """A tonic data set whose events are read when asked for; labels from `targets`, else from all items."""
    size = sensor_size or getattr(dataset, "sensor_size", None)
    if size is None or any(n is None for n in size):
        raise ParameterError(f"{name} does not say its sensor_size; give sensor_size = [W, H, P].")
    width, height, polarities = (int(n) for n in size)
    shape = (width,) if height == 1 and polarities == 1 else (polarities, height, width)
    targets = getattr(dataset, "targets", None)
    if targets is None or len(targets) != len(dataset):
        targets = [dataset[i][1] for i in range(len(dataset))]
    numbers, classes = _numbered(dataset, list(targets))
    speakers = getattr(dataset, "speaker", None)
    known = speakers is not None and len(speakers) == len(dataset)

    def one(row: int) -> np.ndarray:
        return flat_events(dataset[row][0], shape, "zero", f"{name}, recording {row}")

    return EventDataset(
        store=OneByOne(len(dataset), one, name),
        rows=np.arange(len(dataset)),
        labels=numbers,
        speakers=np.asarray(speakers, np.int64) if known else np.full(len(dataset), -1),
        classes=classes,
        channels=math.prod(shape),
        shape=shape,
        allow_empty=True,
        name=name,
    )
