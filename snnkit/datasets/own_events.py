"""Events in files of one's own: ``[data] name = "events"`` with train, valid and test, or one file."""

from __future__ import annotations

import itertools
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, ParameterError, choices, require
from ..files import PathLike, open_h5, stamp, with_suffix
from .event_data import ArrayStore, EventDataset, Parted
from .event_files import FileStore
from .given import flat_events, shape_of
from .labels import numbered, whole_numbers
from .recordings import PARTS
from .rules import SplitRule, numbered_groups
from .stores import OneByOne, View, joined

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of recordings.

    data    the recordings; `speakers` are numbers of `names`
    names   speaker number → name
    part    position in `PARTS` of each recording, int64 [B]; None: the file does not say
    """

    data: EventDataset
    names: dict[int, str]
    part: np.ndarray | None = None


def events(
    root: PathLike | None = None,
    *,
    train: str | None = None,
    valid: str | None = None,
    test: str | None = None,
    file: str | None = None,
    split: str = "auto",
    groups: str = "speaker",
    folds: int = 5,
    fold: int = 0,
    classes: tuple[str, ...] | None = None,
    shape: tuple[int, ...] | None = None,
    origin: str = "zero",
    downsample: int = 1,
    polarity: bool = True,
    events_per_step: int | None = None,
    seed: int = 0,
    dt: float = 10.0,
) -> Parted:
    """Recordings in files under `root`.

    train, valid, test  a file each, or a folder with a folder of files for each class. Without `valid`
                        see `snnkit.datasets.load`, validation
    file     one file or folder of everything, divided by `split`
    split    "auto" (the file's own column ``part``, else by groups where there are three, else at random),
             "random", "speakers" or "kfold" (`folds`, `fold`)
    groups   the column that says who or what a recording belongs to
    classes  names that are taken, in label order; None: all, in the files' order, or sorted
    shape    of the sensor, (N,) or (C, H, W); None: as the files say, or the smallest that has all events
    origin   "zero", or "first": times count from each recording's first event
    downsample, polarity, events_per_step   see `stores.View`

    HDF5 files have the layout of `event_files`, .npz files that of `read_npz`; of the other formats
    (`READERS`) each file is a recording, in a folder that is named as its class.

    Raises `ParameterError` for files that were not or wrongly given, `DataError` naming what is missing.
    """
    given = {part: path for part, path in zip(PARTS, (train, valid, test), strict=True) if path}
    if (file is None) == (not given) or ("train" not in given and file is None):
        raise ParameterError(
            'events needs train = "FILE", and valid and test, or file = "FILE" and a split; got '
            f"{', '.join([*given, *(['file'] if file else [])]) or 'neither'}."
        )
    paths = {part: found(root, path) for part, path in (given or {"all": file or ""}).items()}
    sources = {part: read(path, shape, groups, origin) for part, path in paths.items()}
    if shape is None:
        sources = _of_one_size(sources)
    names = _class_names(sources, classes)
    known = sorted({who for source in sources.values() for who in source.names.values()})
    number = {who: k for k, who in enumerate(known)}
    parts = []
    for source in sources.values():
        who = np.array([number.get(source.names.get(int(s), ""), -1) for s in source.data.speakers], np.int64)
        keep = np.isin(np.array(source.data.classes)[source.data.labels], names)
        data = replace(source.data, speakers=who).subset(np.flatnonzero(keep))
        kept = [c for c in source.data.classes if c in names]
        table = np.array([kept.index(c) if c in kept else -1 for c in source.data.classes], np.int64)
        parts.append(replace(data, labels=table[data.labels], classes=kept))
    whole = joined(parts, names, "events")
    starts = np.cumsum([0, *(len(p) for p in parts)])
    rows = {p: np.arange(starts[k], starts[k + 1]) for k, p in enumerate(sources)}
    rule = Dividing(split=split, folds=folds, fold=fold, seed=seed)
    if file is not None:
        column = sources["all"].part
        keep = np.isin(np.array(sources["all"].data.classes)[sources["all"].data.labels], names)
        rows = rule.rows(whole, None if column is None else column[keep])
    else:
        rows = official(whole.name, rows)
    view = View(downsample=downsample, polarity=polarity, events_per_step=events_per_step, dt=dt)
    return Parted(data=view.of(whole), rows=rows, names=dict(enumerate(known)))


@dataclass(frozen=True, kw_only=True)
class Dividing:
    """How recordings become train, valid and test: the options of the data sets of one's own."""

    split: str = "auto"
    folds: int = 5
    fold: int = 0
    seed: int = 0

    def rows(self, data: Any, column: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Part → rows of `data` (with labels, speakers and a name); `column` [B] are official parts."""
        known = ("auto", "official", "random", "speakers", "kfold")
        if self.split not in known:
            raise ParameterError(f"{data.name}: unknown split {self.split!r}{choices(self.split, known)}")
        if self.split == "official" and column is None:
            raise ParameterError(
                f"{data.name}: split = 'official', but nothing says which recording is in which part; take "
                "'random', 'speakers' or 'kfold'."
            )
        if column is not None and self.split in ("auto", "official"):
            return official(data.name, {p: np.flatnonzero(column == k) for k, p in enumerate(PARTS)})
        by = self.split
        if by == "auto":
            known_of = data.speakers >= 0
            grouped = known_of.any() and (not known_of.all() or len(np.unique(data.speakers)) >= 3)
            by = "speakers" if grouped else "random"
        return SplitRule(by, self.folds, self.fold, self.seed).rows(data.labels, data.speakers, data.name)


def official(name: str, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parts that have recordings. Raises `DataError` for a train part without."""
    if not len(rows.get("train", ())):
        raise DataError(f"{name}: the train part has no recordings.")
    return {part: some for part, some in rows.items() if len(some)}


def found(root: PathLike | None, path: str) -> Path:
    """The file or folder `path` under `root`, here, or under ``SNNKIT_DATA``.

    Raises `DataError` naming where it was sought, by absolute paths.
    """
    bases = [Path(".") if root is None else Path(root)]
    if root is None and os.environ.get("SNNKIT_DATA"):
        bases.append(Path(os.environ["SNNKIT_DATA"]))
    places = list(dict.fromkeys((base / path).absolute() for base in bases))
    for place in places:
        if place.exists():
            return place
    others = "".join(f", nor does {place}" for place in places[1:])
    raise DataError(f"{places[0]} does not exist{others}; set root, or name another.")


def _class_names(sources: dict[str, Source], classes: Sequence[str] | None) -> list[str]:
    """Names in label order, numbered once for all files."""
    lists = [source.data.classes for source in sources.values()]
    if classes is None:
        longest = max(lists, key=len)
        if all(set(one) <= set(longest) for one in lists):
            return longest
        every = {c for one in lists for c in one}
        return sorted(every, key=lambda c: (0, int(c), c) if c.isdigit() else (1, 0, c))
    every = {c for one in lists for c in one}
    names = [str(c) for c in classes]
    for c in names:
        if c not in every:
            raise ParameterError(f"classes names {c!r}, which no recording is of{choices(c, sorted(every))}")
    return names


def _of_one_size(sources: dict[str, Source]) -> dict[str, Source]:
    """Sources whose sensors were measured, not said, made as large as the largest of them."""
    shapes = [s.data.shape for s in sources.values()]
    if len(set(shapes)) == 1 or len({len(s) for s in shapes}) > 1 or len(shapes[0]) != 1:
        return sources
    size = max(s[0] for s in shapes)
    return {
        part: replace(source, data=replace(source.data, channels=size, shape=(size,)))
        for part, source in sources.items()
    }


def read(path: Path, shape: Shape | None, groups: str, origin: str) -> Source:
    """A file of recordings, or a folder of folders that are classes.

    Raises `DataError` for a kind of file that is not known, and naming what is missing.
    """
    if path.is_dir():
        return _folder(path, shape, origin)
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return _heidelberg(path, shape, groups, origin)
    if suffix == ".npz":
        return read_npz(path, shape, groups, origin)
    raise DataError(
        f"{path}: expected .h5 (SHD's layout), .npz, or a folder with a folder of {', '.join(READERS)} files "
        "for each class."
    )


class _FromFirst:
    """A store whose times count from the first event of each recording."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def where(self, row: int) -> str:
        return str(self.store.where(row))

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        times, neurons, counts = self.store.read(rows)
        if len(times):
            full = counts > 0
            starts = (np.cumsum(counts) - counts)[full]
            times = times - np.repeat(np.minimum.reduceat(times, starts), counts[full])
        return times, neurons, counts


def _heidelberg(path: Path, shape: Shape | None, groups: str, origin: str) -> Source:
    store = FileStore(path)
    with open_h5(path) as file:
        columns = {
            key: file[f"extra/{key}"][()]
            for key in (groups, "part", "duration")
            if getattr(file.get(f"extra/{key}"), "shape", ())[:1] == (len(store),)
        }
        extra = file.get("extra", {})
        known = [key for key in extra if getattr(extra[key], "shape", ())[:1] == (len(store),)]
        named = file["extra/names"][()] if groups == "speaker" and "extra/names" in file else None
    who, names = _groups(path, columns.get(groups), groups, len(store), known)
    if named is not None:
        names = {n: named[n].decode() for n in names if n < len(named)}
    if shape is None:
        said = store.attributes.get("shape", store.attributes.get("channels"))
        shape = tuple(int(n) for n in np.atleast_1d(said)) if said is not None else _widest(store)
    duration = columns.get("duration")
    data = EventDataset(
        store=store if origin == "zero" else _FromFirst(store),
        rows=np.arange(len(store)),
        labels=store.labels,
        speakers=who,
        classes=store.classes,
        channels=math.prod(shape),
        shape=shape,
        allow_empty=True,
        durations=None if duration is None else np.floor(1000 * duration + 1e-6).astype(np.int64),
        name=path.stem,
        key=f"{store.key}|{shape}|{origin}",
    )
    return Source(data=data, names=names, part=_parts(path, columns.get("part")))


def _widest(store: FileStore) -> Shape:
    top = 0
    for start in range(0, len(store), 256):
        _, neurons, _ = store.read(np.arange(start, min(start + 256, len(store))))
        top = max(top, int(neurons.max(initial=0)))
    return (top + 1,)


def read_npz(path: Path, shape: Shape | None = None, groups: str = "speaker", origin: str = "zero") -> Source:
    """Recordings of an .npz file, end to end.

    t        [E] µs
    x        [E] channel, or column; with y [E] row and p [E] polarity for a camera
    offsets  [B + 1]; recording b is ``t[offsets[b]:offsets[b + 1]]``
    labels   [B] numbers, or names
    classes  names in label order; may be left out
    shape    of the sensor, (N,) or (C, H, W); may be left out
    and columns [B]: speaker or another that `groups` names; part ("train", "valid", "test", or 0, 1, 2)

    Raises `DataError` naming what is missing, of another length or an array of objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except ValueError as error:
        raise DataError(
            f"{path} holds arrays of objects ({error}); they are not read, since they may run code. Save all "
            "recordings end to end: t, x, labels and offsets."
        ) from error
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no readable .npz file ({error}).") from error
    if missing := [key for key in ("t", "x", "offsets", "labels") if key not in content]:
        raise DataError(
            f"{path} has no {missing[0]!r}; expected t, x, offsets, labels, and perhaps y, p, classes, shape."
        )
    fields = [key for key in ("t", "x", "y", "p") if key in content]
    offsets = whole_numbers(content["offsets"], f"{path}: offsets")
    count = len(np.atleast_1d(content["labels"]))
    if len(offsets) > 1 and count != len(offsets) - 1:
        raise DataError(
            f"{path}: {count} labels for {len(offsets) - 1} recordings ({len(offsets)} offsets); give a "
            "label for each."
        )
    sizes = {key: len(content[key]) for key in fields}
    falls = len(offsets) != count + 1 or offsets[0] != 0 or (np.diff(offsets) < 0).any()
    if falls or {int(offsets[-1])} != set(sizes.values()):
        raise DataError(
            f"{path}: {count} labels need {count + 1} offsets that rise from 0 to the number of events; got "
            f"{len(offsets)} offsets to {offsets[-1] if len(offsets) else 'nothing'} for {sizes}."
        )
    whole: np.ndarray = np.empty(sizes["t"], [(key, content[key].dtype) for key in fields])
    for key in fields:
        whole[key] = content[key]
    if shape is None:
        said = content.get("shape")
        shape = shape_of([whole]) if said is None else tuple(int(n) for n in np.atleast_1d(said))
    flat = [
        flat_events(whole[lo:hi], shape, origin, f"{path}, recording {b}")
        for b, (lo, hi) in enumerate(itertools.pairwise(offsets))
    ]
    times, neurons = (np.concatenate([e[key] for e in flat] or [np.zeros(0, np.int64)]) for key in ("t", "x"))
    given = [str(c) for c in content["classes"]] if "classes" in content else None
    labels, classes = numbered({"labels": content["labels"]}, given, str(path))
    known = [key for key, one in content.items() if len(np.atleast_1d(one)) == count]
    who, names = _groups(path, content.get(groups), groups, count, known)
    data = EventDataset(
        store=ArrayStore(times, neurons, offsets, str(path)),
        rows=np.arange(count),
        labels=labels["labels"],
        speakers=who,
        classes=classes,
        channels=math.prod(shape),
        shape=shape,
        allow_empty=True,
        name=path.stem,
        key=f"{stamp([path])}|{shape}|{origin}",
    )
    return Source(data=data, names=names, part=_parts(path, content.get("part")))


def _groups(
    path: Path, column: np.ndarray | None, groups: str, count: int, known: Sequence[str]
) -> tuple[np.ndarray, dict[int, str]]:
    if column is None:
        if groups != "speaker":
            raise DataError(f"{path} has no column {groups!r} for groups{choices(groups, known)}")
        return np.full(count, -1, np.int64), {}
    if len(column) != count:
        raise DataError(f"{path}: the column {groups!r} has {len(column)} values for {count} recordings.")
    return numbered_groups(column)


def _parts(path: Path, column: np.ndarray | None) -> np.ndarray | None:
    if column is None:
        return None
    texts = [k.decode() if isinstance(k, bytes) else str(k) for k in np.asarray(column)]
    number = {**{part: k for k, part in enumerate(PARTS)}, **{str(k): k for k in range(len(PARTS))}}
    if wrong := [k for k in texts if k not in number]:
        raise DataError(f"{path}: part {wrong[0]!r} is none of {', '.join(PARTS)} (0, 1, 2).")
    return np.array([number[k] for k in texts], np.int64)


def read_bin(path: Path) -> np.ndarray:
    """Events of a .bin file of N-MNIST: records of 5 bytes, x, y, then p in the top bit and t in 23 bits.

    A record with y = 240 is none: every time from it on is later by 2¹³ µs. Raises `DataError` for a file
    whose size is no multiple of 5.
    """
    raw = np.fromfile(path, np.uint8)
    if len(raw) % 5:
        raise DataError(f"{path} has {len(raw)} bytes; a .bin file is made of records of 5, it is damaged.")
    x, y, a, b, c = raw.reshape(-1, 5).T.astype(np.int64)
    late = y == 240
    made: np.ndarray = np.empty(len(x), [("t", "<i8"), ("x", "<i4"), ("y", "<i4"), ("p", "<i4")])
    made["t"] = ((a & 127) << 16 | b << 8 | c) + np.cumsum(late) * 2**13
    made["x"], made["y"], made["p"] = x, y, a >> 7
    return made[~late]


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is no readable array of events ({error}).") from error


def _read_aedat4(path: Path) -> np.ndarray:
    require("aedat", "events")
    read = require("tonic", "events").io.read_aedat4
    events = read(str(path))
    made: np.ndarray = np.empty(len(events), [("t", "<i8"), ("x", "<i4"), ("y", "<i4"), ("p", "<i4")])
    for name in ("t", "x", "y"):
        made[name] = events[name]
    made["p"] = events["on" if "on" in events.dtype.names else "p"]
    return made


def _read_prophesee(encoding: str, path: Path) -> np.ndarray:
    wizard = require("expelliarmus", "events").Wizard(encoding=encoding)
    return np.asarray(wizard.read(str(path)))


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".bin": read_bin,
    ".npy": _read_npy,
    ".aedat4": _read_aedat4,
    ".dat": partial(_read_prophesee, "dat"),
    ".raw": partial(_read_prophesee, "evt3"),
}
"""Suffix of a file of one recording, in small letters → structured array t (µs), x, y, p."""


def _read_one(path: Path) -> np.ndarray:
    return READERS[path.suffix.lower()](path)


def _folder(path: Path, shape: Shape | None, origin: str) -> Source:
    """FOLDER/CLASS/*.SUFFIX, each file a recording, read when it is needed."""
    files = with_suffix(path, "*/*", READERS)
    if not files:
        raise DataError(
            f"{path} has no files for events; expected {path}/CLASS/ with files of {', '.join(READERS)}."
        )
    classes = sorted({p.parent.name for p in files})
    if shape is None:
        shape = shape_of(_read_one(p) for p in files)

    def one(row: int) -> np.ndarray:
        return flat_events(_read_one(files[row]), shape, origin, str(files[row]))

    data = EventDataset(
        store=OneByOne(len(files), one, str(path)),
        rows=np.arange(len(files)),
        labels=np.array([classes.index(p.parent.name) for p in files]),
        speakers=np.full(len(files), -1),
        classes=classes,
        channels=math.prod(shape),
        shape=shape,
        allow_empty=True,
        name=path.name,
        key=f"{stamp(files)}|{shape}|{origin}",
    )
    return Source(data=data, names={})
