"""Data sets by name: `load` gives any row of the table, binned and split."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import DataError, ParameterError, listed
from ..files import PathLike
from . import mel
from .binning import bin_events
from .division import Division, Pool, Who
from .download import Unreachable
from .encoding import encoded
from .event_data import EventDataset, Parted
from .images import Images, as_frames, checked
from .recordings import PARTS, Recordings, first_of_each
from .splits import Data, Splits, check_classes
from .table import DATASETS, VALIDATION, Dataset, dataset


def load(
    name: str,
    *,
    root: PathLike | None = None,
    dt: float = 10.0,
    channels: int | None = None,
    binary: bool = False,
    steps: int | None = None,
    duration: float | None = None,
    validation: str = "auto",
    valid_speakers: Who | None = None,
    held_out: Who | None = None,
    limit: int | None = None,
    seed: int = 0,
    features: str = "cochlea",
    workers: int | None = None,
    fetch: bool = True,
    progress: bool = True,
    cache: bool = True,
    **options: Any,
) -> Splits:
    """A dataset by name, binned and split.

    name            a row of `DATASETS`, ``"tonic:CLASS"``, or ``"package.module:function"``
    root            folder of the data; None: ``SNNKIT_DATA``, then the cache, then the network
    dt              length of a step, ms
    channels        input neurons; neighbours of the 700 channels are summed (mel bands for `features`
                    "mel"; for images as many as an image has values); None: what the row says, 140 of
                    the recordings', all of one's own data
    binary          0/1 instead of counts
    steps           cut every recording after so many steps; None: keep all. Images are shown for so many
                    steps, or one
    duration        ms that every recording of events lasts; None: up to its last spike
    validation      "official", "speakers" (whole speakers taken from train), "random" (a tenth of every
                    class, from train), "none", or "test" (validate on the test part, as some published
                    code does: the figures are then optimistic). "auto": what the row says, but
                    "speakers" where some are named
    valid_speakers  how many speakers, or which, "speakers" takes; None: 15 %, at least one
    held_out        speaker or speakers that are the test part, instead of the official one
    limit           at most so many recordings of every class, speaker and part
    seed            of the cochlea and of the choice of validation speakers
    features        "cochlea", or "mel" (GSC and sound of one's own): log mel bands
    workers         clips that are encoded at a time; None: one a core
    fetch           download what is missing
    cache           keep binned events on disk
    options         of this data set alone, as "synthetic_digits" has ``voices`` and ``takes``

    Raises `ParameterError` for an unknown name or option, with the nearest, for one out of its range, and for
    one that these data leave without effect; `DataError` for data that are nowhere, damaged or not what they
    should be.
    """
    row = dataset(name)
    if validation not in VALIDATION:
        raise ParameterError(f"validation = {validation!r}; it is one of {', '.join(VALIDATION)}.")
    if features not in row.features:
        others = ", ".join(other.name for other in DATASETS.values() if "mel" in other.features)
        raise ParameterError(f"features = {features!r} for {name}; 'cochlea', or 'mel' for {others}.")
    if limit is not None and limit < 1:
        raise ParameterError(f"limit = {limit}; it must be at least 1, or None for all.")
    general: dict[str, Any] = {
        "root": root, "dt": dt, "channels": row.channels if channels is None else channels,
        "binary": binary, "steps": steps, "limit": limit, "seed": seed, "features": features,
        "workers": workers, "fetch": fetch, "progress": progress, "cache": cache, "duration": duration,
    }  # fmt: skip
    opened = row.open(general, options)
    if isinstance(opened, Splits) and row.kind == "any":
        general |= {"validation": validation, "valid_speakers": valid_speakers, "held_out": held_out}
        _refused(row, general, _OF_WHAT, row.named(), "the function makes its Splits itself: name it there")
        return opened
    pools, names = _POOLS[_kind(row, opened)](row, opened, general)
    if channels is None:
        channels = row.channels or pools[0].channels
    if validation == "auto":
        validation = row.validation if held_out is None and valid_speakers is None else "speakers"
        if validation == "official" and not any("valid" in pool.official for pool in pools):
            validation = "random"
    parts = Division(
        name=name,
        validation=validation,
        valid_speakers=valid_speakers,
        held_out=held_out,
        seed=seed,
        names=names,
    ).parts(pools)
    pool, rows = parts["train"]
    check_classes(name, pool.labels[rows], pool.classes)

    def maker(part: str) -> Callable[[], Data]:
        def make() -> Data:
            if part not in parts:
                raise ParameterError(f"{name} was loaded with validation = 'none'; it has no {part} part.")
            pool, rows = parts[part]
            data = pool.data
            whole = len(rows) == len(data) and (np.diff(rows) == 1).all()
            return data if whole else data.subset(rows)

        return make

    return Splits(
        make={part: maker(part) for part in PARTS},
        classes=pools[0].classes,
        dt=dt,
        channels=channels,
        shape=pools[0].shape if channels == pools[0].channels else (),
        name=name,
        synthetic=row.synthetic,
        attribution=row.attribution,
        rate=opened.rate if isinstance(opened, Recordings) else None,
        speaker_names=names,
        speakers={
            part: sorted({int(s) for s in pool.speakers[rows] if s >= 0})
            for part, (pool, rows) in parts.items()
        },
        sizes={part: len(rows) for part, (_, rows) in parts.items()},
    )


def sound(
    name: str,
    *,
    root: PathLike | None = None,
    fetch: bool = True,
    progress: bool = True,
    seed: int = 0,
    **options: Any,
) -> Recordings:
    """The sound recordings of a dataset, a row of kind "sound".

    `seed` is for synthetic voices only; options are those of this data set alone.

    Raises `ParameterError` for a name without sound and for an unknown option, and what reading raises.
    """
    row = DATASETS.get(name)
    if row is None or row.kind != "sound":
        known = ", ".join(other.name for other in DATASETS.values() if other.kind == "sound")
        raise ParameterError(f"no sound for {name!r}; known are {known}.")
    general = {"root": root, "fetch": fetch, "progress": progress, "seed": seed}
    recordings: Recordings = row.open(general, options)
    return recordings


def leave_one_speaker_out(name: str, **options: Any) -> Iterator[tuple[str, Splits]]:
    """For every speaker in turn: the name, and splits that have this speaker alone as test part."""
    recordings = sound(name, **{k: options[k] for k in ("root", "fetch", "progress", "seed") if k in options})
    for number, speaker in recordings.speaker_names.items():
        yield speaker, load(name, held_out=number, **options)


@dataclass(frozen=True)
class Resolved:
    """Which data there are: `name` for `load`, whether they are synthetic, and where they lie or why.

    `where` is "" for a data set that no other stands in for: it was not looked for.
    """

    name: str
    synthetic: bool
    where: str


def resolve(name: str, root: PathLike | None = None, *, fetch: bool = True, **options: Any) -> Resolved:
    """The data set of this name if its files can be reached, else the row that stands in for it.

    Raises `ParameterError` for an unknown name, with the nearest, and what reading raises.
    """
    row = dataset(name)
    if row.stand_in is None:
        return Resolved(name, row.synthetic, "")
    try:
        found = row.open({"root": root, "fetch": fetch}, options)
    except Unreachable as error:
        other = dataset(row.stand_in)
        return Resolved(other.name, other.synthetic, f"{other.title}, since {error}")
    return Resolved(name, row.synthetic, getattr(found, "where", ""))


# ------------------------------------------------------------------------- what each kind of row gives

_OF_WHAT = (
    *("dt", "channels", "binary", "steps", "duration", "validation", "valid_speakers", "held_out"),
    *("limit", "seed", "features"),
)
"""The options that say which data there are, not where and how they are got."""


def _refused(row: Dataset, given: Mapping[str, Any], keys: Sequence[str], taken: Any, why: str) -> None:
    """Raise `ParameterError` for those of `keys` that are not `taken` and were set."""
    defaults = inspect.signature(load).parameters
    unset = {key: (defaults[key].default, *([row.channels] if key == "channels" else [])) for key in keys}
    if lost := [k for k in keys if k not in taken and given[k] not in unset[k]]:
        raise ParameterError(
            f"{row.name}: {listed(lost)} would have no effect; {why}, or leave "
            f"{'it' if len(lost) == 1 else 'them'} out."
        )


_Pools = tuple[list[Pool], dict[int, str]]
_Options = Mapping[str, Any]


def _kind(row: Dataset, opened: Any) -> str:
    """The kind of what `read` gave."""
    if row.kind != "any":
        return row.kind
    for kind, types in (("events", (dict, Parted)), ("sound", Recordings), ("images", Images)):
        if isinstance(opened, types):
            return kind
    raise DataError(
        f"{row.name} gave {type(opened).__name__}; expected Splits, a dictionary of EventDatasets, "
        "Recordings or Images."
    )


def _event_pools(row: Dataset, parts: dict[str, EventDataset] | Parted, general: _Options) -> _Pools:
    if isinstance(parts, Parted):
        return _parted_pools(parts, general)
    right = isinstance(parts, dict) and set(parts) <= set(PARTS)
    _expect(row, right, parts, "a dictionary of EventDatasets: train, test and perhaps valid")
    limit = general["limit"]
    pools = [
        Pool(
            labels=data.labels,
            speakers=data.speakers,
            classes=data.classes,
            make=partial(_binned, data, general),
            official={
                part: np.arange(len(data))
                if limit is None
                else first_of_each(limit, data.labels, data.speakers)
            },
            channels=data.channels,
            shape=data.shape,
        )
        for part, data in parts.items()
    ]
    return pools, {}


def _parted_pools(parts: Parted, general: _Options) -> _Pools:
    data, rows, limit = parts.data, parts.rows, general["limit"]
    if limit is not None:
        rows = {p: r[first_of_each(limit, data.labels[r], data.speakers[r])] for p, r in rows.items()}
        some = np.concatenate(list(rows.values()))
        data = data.subset(some)
        ends = np.cumsum([len(r) for r in rows.values()])
        rows = {p: np.arange(end - len(r), end) for end, (p, r) in zip(ends, rows.items(), strict=True)}
    pool = Pool(
        labels=data.labels,
        speakers=data.speakers,
        classes=data.classes,
        make=partial(_binned, data, general),
        official=rows,
        channels=data.channels,
        shape=data.shape,
    )
    return [pool], parts.names


def _sound_pools(row: Dataset, whole: Recordings, general: _Options) -> _Pools:
    _expect(row, isinstance(whole, Recordings), whole, "Recordings")
    recordings = whole.limited(general["limit"])
    general = {**general, "channels": general["channels"] or 140}
    if general["features"] == "mel":
        _refused(
            row, general, ("binary", "steps", "duration"), (), "mel bands are no events: take the cochlea"
        )

    def make() -> Data:
        if general["features"] == "mel":
            return mel.mel_frames(recordings, general["dt"], general["channels"], cache=general["cache"])
        some = {key: general[key] for key in ("seed", "workers", "progress")}
        return _binned(encoded(recordings, **some), general)

    pool = Pool(
        labels=recordings.labels,
        speakers=recordings.speakers,
        classes=recordings.classes,
        make=make,
        official={part: recordings.rows(part) for part in PARTS if len(recordings.rows(part))},
        channels=general["channels"],
    )
    return [pool], recordings.speaker_names


def _image_pools(row: Dataset, images: Images, general: _Options) -> _Pools:
    _expect(row, isinstance(images, Images), images, "Images")
    _refused(
        row, general, ("binary", "duration"), (), "images are no events: steps says how long one is shown"
    )
    checked(row.name, images)
    dt, steps, limit = (general[key] for key in ("dt", "steps", "limit"))
    pools = []
    for part, (x, y) in (("train", images.train), ("test", images.test)):
        shape = x.shape[1:]
        if general["channels"] not in (None, np.prod(shape)):
            raise ParameterError(
                f"{row.name}: channels = {general['channels']}, but an image of {'×'.join(map(str, shape))} "
                f"has {np.prod(shape)} values; take channels = {np.prod(shape)}."
            )
        rows = np.arange(len(y)) if limit is None else first_of_each(limit, y)
        pool = Pool(
            labels=y,
            speakers=np.full(len(y), -1),
            classes=images.classes,
            make=partial(as_frames, row.name, (x, y), images.classes, dt, steps or 1),
            official={part: rows},
            channels=int(np.prod(shape)),
            shape=shape,
        )
        pools.append(pool)
    return pools, {}


_POOLS: dict[str, Callable[[Dataset, Any, _Options], _Pools]] = {
    "events": _event_pools,
    "sound": _sound_pools,
    "images": _image_pools,
}


def _expect(row: Dataset, right: bool, got: Any, expected: str) -> None:
    if not right:
        raise DataError(f"{row.name} is of kind {row.kind!r}: its data should be {expected}, got {got!r}.")


def _binned(data: EventDataset, general: _Options) -> Data:
    return bin_events(
        data,
        general["dt"],
        general["channels"],
        binary=general["binary"],
        steps=general["steps"],
        duration=general["duration"],
        cache=general["cache"],
    )
