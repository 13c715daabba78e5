"""Train, valid and test of a data set, each made when it is first asked for.

`Splits.from_arrays`, `from_events` and `from_dataset` take data as people have them, samples first. Here and
nowhere else: what comes out is time first, [T, B, N].
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..errors import DataError, ParameterError, choices
from .batches import Binned, told
from .batches import Data as Data
from .given import parts_of_arrays, parts_of_events
from .labels import as_array
from .rules import SplitRule, numbered_groups, rule_of

_log = logging.getLogger("snnkit.datasets")

PARTS = ("train", "valid", "test")
SENSOR = ("shape", "origin", "duration", "binary")
"""What may be said of a sensor, see `Splits.from_events`."""
Pair = tuple[Any, Any]
"""Samples and their labels."""


@dataclass(repr=False)
class Splits:
    """Three parts of a dataset, each made when it is first asked for.

    `test` is meant for one look at the end: nothing in snnkit that trains or chooses touches it.

    speakers  who is in each part: part → sorted speaker numbers
    sizes     recordings in each part; neither makes the part
    shape     of one step, (N,) or (C, H, W), of `channels` values; () stands for (channels,)
    rate      Hz of the sound that it was made of; None: of no sound
    """

    make: dict[str, Callable[[], Data]]
    classes: list[str]
    dt: float
    channels: int
    name: str
    synthetic: bool = False
    attribution: str = ""
    speaker_names: dict[int, str] = field(default_factory=dict)
    speakers: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    rate: int | None = None
    _made: dict[str, Data] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.shape = tuple(self.shape) or (self.channels,)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{part} {self.sizes.get(part, '?')}" for part in self.parts)
        made_up = ", synthetic" if self.synthetic else ""
        return f"{self.name}{made_up}: {sizes}; {told(self.classes, self.dt, self.shape)}"

    @classmethod
    def from_arrays(
        cls,
        *unnamed: Any,
        train: Pair | None = None,
        valid: Pair | None = None,
        test: Pair | None = None,
        all: Pair | None = None,
        dt: float | None = None,
        classes: Sequence[str] | None = None,
        lengths: Any = None,
        split: str | SplitRule | Mapping[str, Any] = "random",
        groups: Any = None,
        name: str = "arrays",
        **others: Any,
    ) -> Splits:
        """Splits of arrays of NumPy or torch, samples first.

        train, valid, test  x and y of each part; valid and test may be left out
        all      x and y of everything, divided by `split` and `groups`, instead of parts
        x        [B, T, N] or [B, T, C, H, W], or a list of arrays [T, …] that differ in length
        y        whole numbers [B] or names [B]; or other targets: reals [B], or anything of more axes
        dt       length of a step, ms
        classes  names in label order; None: the names sorted, over all parts, or the numbers from 0
        lengths  steps of each sample that count, [B] (a dictionary of parts where there are parts)
        split    "random", "speakers", "kfold", or a `SplitRule` or its fields, {"by": "kfold", "folds": 4}
        groups   [B] who or what each sample of `all` belongs to: speaker, session; numbers or names

        Counts (0, 1, 2 …) become events, in memory with 3 to 7 bytes for each that is not 0; everything else
        stays dense, in its own dtype and, if it is a memory map, on disk.

        Raises `ParameterError`, `ShapeError` and `DataError` that name part, sample and step.
        """
        _no_more(f"{name}: from_arrays", others)
        given = _given(name, unnamed, dt, train=train, valid=valid, test=test, all=all)
        limits: Mapping[str, Any] = {} if lengths is None else {"all": lengths}
        if isinstance(lengths, Mapping):
            limits = lengths
        if unknown := [part for part in limits if part not in given]:
            raise ParameterError(
                f"{name}: lengths has {unknown[0]!r}, the samples are in {', '.join(given)}; give "
                "a dictionary of these."
            )
        made = parts_of_arrays(given, dt, classes, limits, name)
        return cls._of_parts(made, split, groups, name)

    @classmethod
    def from_events(
        cls,
        *unnamed: Any,
        train: Pair | None = None,
        valid: Pair | None = None,
        test: Pair | None = None,
        all: Pair | None = None,
        dt: float | None = None,
        classes: Sequence[str] | None = None,
        split: str | SplitRule | Mapping[str, Any] = "random",
        groups: Any = None,
        name: str = "events",
        **sensor: Any,
    ) -> Splits:
        """Splits of events: x is a list of structured arrays t (µs), x[, y][, p], one a recording.

        Any sequence will do: it is asked for some hundred recordings at a time, so they may lie on disk
        (`shape` saves a first pass over all). What is kept, in memory, are the counts in steps, 3 to 7 bytes
        each.

        The other arguments are those of `from_arrays`. Of the sensor may be said

        shape     N or (N,), or (C, H, W) where events have y; C is 1 (both polarities together) or 2; None:
                  the smallest that holds all events of all parts
        origin    "zero": times count from 0; "first": from the first event of each recording
        duration  ms that every recording lasts; None: as long as its last event. One without events is a
                  silent step
        binary    1 where there was at least one spike in a step, instead of the count

        Raises as `from_arrays`.
        """
        given = _given(name, unnamed, dt, train=train, valid=valid, test=test, all=all)
        _no_more(f"{name}: from_events", [key for key in sensor if key not in SENSOR], SENSOR)
        made = parts_of_events(given, dt, classes, name=name, **sensor)
        return cls._of_parts(made, split, groups, name)

    @classmethod
    def from_dataset(cls, dataset: Any = None, *, dt: float | None = None, **options: Any) -> Splits:
        """Splits of a `torch.utils.data.Dataset` whose items are (sample, label), read into memory once.

        A sample is events, as for `from_events`, or dense, [T, N] or [T, C, H, W], as for `from_arrays`; the
        options are theirs. `train`, `valid` and `test` are data sets as well; `dataset` alone is divided as
        `all` is.

        Raises as `from_arrays`, and `DataError` for an item that is no pair.
        """
        parts = {"all": dataset, **{part: options.pop(part, None) for part in PARTS}}
        source = next((one for one in parts.values() if one is not None), None)
        name = options.setdefault("name", type(source).__name__)
        given = {part: _read(one, f"{name}: {part}") for part, one in parts.items() if one is not None}
        first = next((xs[0] for xs, _ in given.values() if len(xs)), None)
        of_events = getattr(getattr(first, "dtype", None), "names", None) is not None
        make = cls.from_events if of_events else cls.from_arrays
        return make(**given, dt=dt, **options)  # type: ignore[arg-type]

    @classmethod
    def _of_parts(cls, made: dict[str, Data], split: Any, groups: Any, name: str) -> Splits:
        """Splits of parts, or of "all" that the rule `split` divides."""
        names: dict[int, str] = {}
        if groups is not None:
            if "all" not in made:
                raise ParameterError(f"{name}: groups divide all=(x, y); parts given as such need none.")
            made["all"].speakers, names = numbered_groups(groups)
            who = made["all"].speakers
            if len(who) and (who < 0).all():
                raise ParameterError(
                    f"{name}: groups: all {len(who)} are blank; give who or what each sample belongs to, "
                    "or leave groups out."
                )
        first = next(iter(made.values()))
        if "all" in made:
            whole = made["all"]
            rows = rule_of(split).rows(whole.labels, None if groups is None else whole.speakers, name)
            made = {part: whole.subset(some) for part, some in rows.items()}
        check_classes(name, made["train"].labels, first.classes)
        return cls(
            make={part: partial(_itself, data) for part, data in made.items()},
            classes=first.classes,
            dt=first.dt,
            channels=first.channels,
            shape=first.shape,
            name=name,
            speaker_names=names,
            speakers={p: sorted({int(s) for s in data.speakers if s >= 0}) for p, data in made.items()},
            sizes={part: len(data) for part, data in made.items()},
        )

    @property
    def train(self) -> Data:
        """What weights are learned from."""
        return self._get("train")

    @property
    def valid(self) -> Data:
        """What epochs and settings are chosen by."""
        return self._get("valid")

    @property
    def test(self) -> Data:
        """What the final figure is measured on, once."""
        return self._get("test")

    @property
    def parts(self) -> list[str]:
        """The parts that there are, in the order train, valid, test."""
        return [part for part in PARTS if part in (self.sizes or self.make)]

    def describe(self) -> dict[str, Any]:
        """What it is, in numbers and words: names, sizes, steps, occupancy. The test part is only counted."""
        summary: dict[str, Any] = {
            "name": self.name,
            "synthetic": self.synthetic,
            "classes": self.classes,
            "channels": self.channels,
            "dt_ms": self.dt,
            "recordings": self.sizes,
            "speakers": {
                part: [self.speaker_names.get(s, str(s)) for s in who] for part, who in self.speakers.items()
            },
            "attribution": self.attribution,
        }
        train = self.train
        summary["steps"] = {
            "median": float(np.median(train.lengths)),
            "longest": int(train.lengths.max(initial=0)),
        }
        if isinstance(train, Binned):
            summary["occupancy"] = train.occupancy
            summary["mean_count"] = train.total / train.filled if train.filled else 1.0
        return summary

    def _get(self, part: str) -> Data:
        if part not in self._made:
            if part not in self.make:
                raise ParameterError(
                    f"{self.name} has no {part} part; it has {', '.join(self.make)}. Give {part}=(x, y)."
                )
            self._made[part] = self.make[part]()
        return self._made[part]


def check_classes(name: str, labels: np.ndarray, classes: Sequence[str]) -> None:
    """Raise `DataError` unless the labels of train [B] are of at least two classes, or other targets.

    A class that none of them is of is warned of by name.
    """
    if len(labels) == 0:
        raise DataError(f"{name}: the train part has no samples.")
    if labels.ndim == 1 and labels.dtype.kind in "iu" and len(np.unique(labels)) < 2:
        raise DataError(
            f"{name}: all {len(labels)} samples of train are of one class, {classes[int(labels[0])]!r}; "
            "there is nothing to learn. Give samples of two at least."
        )
    if labels.ndim > 1 or labels.dtype.kind not in "iu":
        return
    there = set(np.unique(labels).tolist())
    if empty := [str(c) for k, c in enumerate(classes) if k not in there]:
        some = ", ".join(empty[:5]) + (f" … ({len(empty)})" if len(empty) > 5 else "")
        hint = "; labels count from 0: give labels - 1 if yours count from 1" if empty == ["0"] else ""
        _log.warning(
            "%s: no sample of train is of class %s, for which the network has an output%s.", name, some, hint
        )


def _no_more(where: str, unknown: Iterable[str], more: Sequence[str] = ()) -> None:
    """Raise `ParameterError` naming the first argument that there is not; a rule's goes to the rule."""
    for key in unknown:
        if key in ("folds", "fold", "seed", "share"):
            raise ParameterError(
                f"{where} has no argument {key!r}; it belongs to the rule: split = SplitRule('kfold', "
                "folds=4, fold=0), or split = {'by': 'kfold', 'folds': 4, 'fold': 0}."
            )
        there = (*PARTS, "all", "dt", "classes", "split", "groups", "name", *(more or ("lengths",)))
        raise ParameterError(f"{where} has no argument {key!r}{choices(key, there)}")


def _itself(data: Data) -> Data:
    return data


def _given(name: str, unnamed: Sequence[Any], dt: Any, **parts: Pair | None) -> dict[str, Pair]:
    """The parts that were given: all alone, or train and perhaps valid and test; none of them unnamed."""
    if unnamed or dt is None:
        got = f"{len(unnamed)} arguments without a name" if unnamed else "no dt"
        raise ParameterError(
            f"{name}: give all=(x, y), dt=…, the samples with their labels and the length of a step in "
            f"ms; or train=(x, y), valid=(x, y), test=(x, y), dt=…; got {got}."
        )
    given = {part: pair for part, pair in parts.items() if pair is not None}
    if ("all" in given) == ("train" in given) or ("all" in given and len(given) > 1):
        got = ", ".join(given) or "nothing"
        raise ParameterError(
            f"{name}: give train=(x, y), and valid and test, or all=(x, y) alone; got {got}."
        )
    for part, pair in given.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ParameterError(f"{name}: {part} should be a pair (x, y), got {type(pair).__name__}.")
    return given


def _said(item: Any) -> str:
    """What an item is, with its length if it is a row of things."""
    many = f" of {len(item)}" if isinstance(item, tuple | list) else ""
    return f"a {type(item).__name__}{many}"


def _read(dataset: Any, where: str) -> Pair:
    """All samples and labels of a torch data set."""
    if not {"__len__", "__getitem__"} <= set(dir(type(dataset))):
        inner = "; give the data set that it reads, loader.dataset: train.batch makes batches of its own"
        raise DataError(
            f"{where}: a {type(dataset).__name__} can't be asked how long it is and for one item, as a "
            f"torch.utils.data.Dataset can{inner if 'dataset' in vars(dataset) else ''}."
        )
    samples, labels = [], []
    for i in range(len(dataset)):
        item = dataset[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{where}, item {i}: expected (sample, label), got {_said(item)}.")
        samples.append(as_array(item[0], f"{where}, item {i}"))
        labels.append(item[1])
    if labels and np.ndim(labels[0]) > 0:
        return samples, as_array(labels, f"{where}, labels")
    return samples, labels
