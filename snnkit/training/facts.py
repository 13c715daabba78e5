"""What a run must know of its data: kept in checkpoints and Graphs, compared where data are given again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..datasets.splits import Data, Splits
from ..errors import DataError

KEY = "trained_on"
"""Of a checkpoint and of a Graph's metadata, where the facts are."""
SAMPLES = 16
"""Recordings of a part that its activity is measured on."""
TOLERANCE = 0.02
"""Relative difference of activity that another processor's rounding may make."""
SIGNS = 4
"""Patterns of signs that each recording is compared with."""
MOVED = 0.3
"""Root mean square difference of places from which data are others: √(2·share of x that moved) is likely."""


@dataclass(frozen=True)
class Part:
    """Of one part of the data.

    samples   how many
    labels    digest of the labels, their shape included
    activity  Σ|x| of up to `SAMPLES` recordings spread over the part: the same data give nearly the same
              numbers on another machine, other data do not
    places    where in time and channels it is: Σ x[t, n]·±1 / √Σx² of each of these recordings with `SIGNS`
              fixed patterns of signs; None: of a file from before it was kept
    """

    samples: int
    labels: str
    activity: tuple[float, ...]
    places: tuple[float, ...] | None = None

    @classmethod
    def of(cls, data: Data) -> Part:
        """What `data` are."""
        labels = np.ascontiguousarray(data.labels)
        digest = hashlib.sha256(repr((labels.shape, labels.dtype.kind)).encode() + labels.tobytes())
        count = min(SAMPLES, len(data))
        x = (
            data.batch(np.linspace(0, len(data) - 1, count).astype(np.int64))[0]
            if count
            else np.zeros((1, 0))
        )
        activity = np.abs(x).sum(axis=(0, *range(2, x.ndim)), dtype=np.float64)
        return cls(
            samples=len(labels), labels=digest.hexdigest()[:16], activity=_rounded(activity, 6),
            places=_rounded(_places(x) if count else np.zeros(0), 4),
        )  # fmt: skip

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Part:
        """What `to_json` gave."""
        places = known.get("places")
        return cls(
            samples=known["samples"], labels=known["labels"], activity=tuple(known["activity"]),
            places=None if places is None else tuple(places),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        lists = {
            "activity": list(self.activity),
            "places": None if self.places is None else list(self.places),
        }
        return {**vars(self), **lists}

    def difference(self, other: Part) -> str:
        """In what two parts differ, in words; empty if in nothing."""
        if self.samples != other.samples:
            return f"{self.samples} samples, not {other.samples}"
        if self.labels != other.labels:
            many = f"other labels of the {self.samples} samples, or another order"
            return f"{many} (digests {self.labels}, not {other.labels})"
        if not np.allclose(self.activity, other.activity, rtol=TOLERANCE, atol=1e-6):
            return "the same labels and other inputs"
        if self.places is not None and other.places is not None:
            apart = np.subtract(self.places, other.places)
            if apart.size and np.sqrt(np.mean(apart**2)) > MOVED:
                return "the same labels, and inputs as active at other steps or channels"
        return ""


def _places(x: np.ndarray) -> np.ndarray:
    """Σ x·±1 / √Σx² of the recordings x [T, B, N] with every pattern of signs, float64 [B·SIGNS]."""
    steps, count = x.shape[:2]
    sums, squares = np.zeros((count, SIGNS)), np.zeros(count)
    for t in range(steps):
        now = x[t].reshape(count, -1).astype(np.float64)
        sums += now @ _signs(t, now.shape[1])
        squares += (now**2).sum(1)
    return (sums / np.sqrt(np.where(squares > 0, squares, 1))[:, None]).reshape(-1)


def _signs(t: int, size: int) -> np.ndarray:
    """±1 of step t and each of `size` channels, float64 [size, SIGNS]: bits of the mixed number of the cell.

    The mixing is that of SplitMix64 (Steele, Lea and Flood 2014), the same on every machine.
    """
    z = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = z + np.uint64((t + 1) * 0xD1B54A32D192ED03 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    z = z ^ (z >> np.uint64(31))
    bits = z[:, None] >> np.arange(SIGNS, dtype=np.uint64) & np.uint64(1)
    return bits.astype(np.float64) * 2 - 1


def _rounded(values: np.ndarray, digits: int) -> tuple[float, ...]:
    return tuple(float(f"{value:.{digits}g}") for value in values)


@dataclass(frozen=True)
class Facts:
    """Of the data that a network was made for.

    name     of the data
    dt       length of a step, ms
    shape    of one step of input
    classes  names, in the order of the network's outputs
    parts    those that training looked at: "train" and "valid"
    named    whether the configuration's ``[data]`` gives these data again
    rate     Hz of the sound that they were made of; None: of no sound
    """

    name: str
    dt: float
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    parts: dict[str, Part] = field(default_factory=dict)
    named: bool = False
    rate: int | None = None

    @classmethod
    def of(cls, splits: Splits, named: bool = False) -> Facts:
        """What the parts for training and validation are; the test part is not touched.

        Raises `DataError` naming both sides if the two don't fit each other.
        """
        train, valid = splits.train, splits.valid
        for what, a, b in (
            ("number the classes differently", list(train.classes), list(valid.classes)),
            ("have other steps (ms)", train.dt, valid.dt),
            ("have other inputs", shape_of(train), shape_of(valid)),
        ):
            if a != b:
                raise DataError(
                    f"{splits.name or 'the data'}: train and valid {what}: {_short(a)} and {_short(b)}; give "
                    "both parts the same."
                )
        parts = {"train": Part.of(train), "valid": Part.of(valid)}
        return cls(
            name=splits.name, dt=float(train.dt), shape=shape_of(train),
            classes=tuple(str(c) for c in train.classes), parts=parts, named=named, rate=splits.rate,
        )  # fmt: skip

    @classmethod
    def from_json(cls, known: Mapping[str, Any] | None) -> Facts | None:
        """What `to_json` gave; None where nothing was kept."""
        if known is None:
            return None
        parts = {name: Part.from_json(part) for name, part in known["parts"].items()}
        return cls(
            name=known["name"], dt=known["dt"], shape=tuple(known["shape"]),
            classes=tuple(known["classes"]), parts=parts, named=known["named"], rate=known.get("rate"),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "dt": self.dt,
            "shape": list(self.shape),
            "classes": list(self.classes),
            "named": self.named,
            "rate": self.rate,
            "parts": {name: part.to_json() for name, part in self.parts.items()},
        }

    def __str__(self) -> str:
        samples = ", ".join(f"{p.samples} to {_USE[name]}" for name, p in self.parts.items())
        return (
            f"{self.name or 'data without a name'!r} ({len(self.classes)} classes, steps of {self.dt:g} ms, "
            f"input {'×'.join(map(str, self.shape))}{', ' * bool(samples)}{samples})"
        )

    def difference(self, other: Facts) -> str:
        """In what other data differ from these, in words; empty if in nothing."""
        for what, mine, its in (
            ("classes", list(self.classes), list(other.classes)),
            ("steps of (ms)", self.dt, other.dt),
            ("inputs", self.shape, other.shape),
        ):
            if mine != its:
                return f"{what} {_short(mine)}, not {_short(its)}"
        for name, part in self.parts.items():
            if name in other.parts and (found := part.difference(other.parts[name])):
                return f"{name}: {found}"
        return ""

    def checked(self, data: Data, name: str, part: str | None = None) -> None:
        """Raise `DataError` naming both sides if a network for these facts can't run on `data`.

        name  of the data, for the message
        part  "train" or "valid" where they must be the very data of training
        """
        if list(self.classes) != [str(c) for c in data.classes]:
            raise DataError(
                f"{other_classes(self.classes, name, data.classes)}; give data with the same classes."
            )
        if self.dt != data.dt:
            raise DataError(
                f"the network was trained in steps of {self.dt:g} ms, {name} comes in steps of {data.dt:g} "
                f"ms; give data like those of training: {self}."
            )
        if self.shape != shape_of(data):
            raise other_inputs(self, name, data)
        if part in self.parts and (found := self.parts[part].difference(Part.of(data))):
            raise DataError(
                f"{part} of {name} is not what the network was trained on ({found}): that was {self}. Say "
                "where its data are (data.root), or name others (--data)."
            )


_USE = {"train": "train on", "valid": "validate on"}


def shape_of(data: Data) -> tuple[int, ...]:
    """Shape of one step of input: (N,) or (C, H, W)."""
    return tuple(data.shape)


def other_classes(known: Sequence[Any], name: str, its: Sequence[Any]) -> str:
    """That data have other classes than a network, in words."""
    return f"the network was trained on the classes {_short(list(known))}, {name} has {_short(list(its))}"


def other_inputs(known: Facts, name: str, data: Data) -> DataError:
    """The error of data whose steps have another shape than those that a network was trained on."""
    return DataError(
        f"the network was trained on inputs of shape {known.shape}, {name} comes on inputs of shape "
        f"{shape_of(data)}; give data like those of training: {known}."
    )


def _short(value: Any) -> str:
    return f"{value[:4]}… ({len(value)})" if isinstance(value, list) else f"{value}"


def unnamed(facts: Facts, call: str = "evaluate(network, data)") -> DataError:
    """The error of a run whose data no configuration names; `call` does the same from Python."""
    return DataError(
        f"the network was trained on {facts}, which were handed over in Python and no configuration names: "
        f"from Python call {call}; from the command line name data that fit (--data NAME)."
    )
