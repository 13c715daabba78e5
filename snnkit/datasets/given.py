"""Arrays and events as people have them, sample first: checked here, and turned into parts of a data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import DataError, ParameterError, ShapeError
from ..events import EventBatch
from .batches import Binned, Data, Frames
from .binning import bin_events
from .event_data import EventDataset
from .labels import as_array, numbered, whole_numbers
from .packed import Packed
from .stores import OneByOne

LATE = 60_000_000
"""µs; a recording that begins later than this, and ten times its own span, has absolute timestamps."""

LEAST = 1000
"""µs; times with fractions that all lie below are in seconds or milliseconds."""


def parts_of_arrays(
    given: Mapping[str, tuple[Any, Any]],
    dt: float | None,
    classes: Sequence[str] | None,
    lengths: Mapping[str, Any],
    name: str,
) -> dict[str, Data]:
    """Part → its samples: `Binned` where all parts hold nothing but counts (0, 1, 2 …), else `Frames`.

    given    part → x and labels; x [B, T, N] or [B, T, C, H, W], or a list of [T, …] of any lengths
    dt       length of a step, ms
    lengths  part → steps of each sample that count, [B]; those after are silent

    Raises `DataError` and `ShapeError` naming part, sample and step of what can't be.
    """
    dt = step_length(dt)
    xs, limits = {}, {}
    for part, (x, _) in given.items():
        xs[part], found = _samples(x, f"{name}: {part}")
        limits[part] = found
        if part in lengths:
            limits[part] = whole_numbers(lengths[part], f"{name}: {part}, lengths")
    steps = {part: x.shape[1] for part, x in xs.items()}
    labels, names = numbered({part: y for part, (_, y) in given.items()}, classes, name, steps)
    shapes = {part: x.shape[2:] for part, x in xs.items()}
    if len(set(shapes.values())) > 1:
        said = ", ".join(f"{part} {list(shape)}" for part, shape in shapes.items())
        raise ShapeError(f"{name}: a step is of different shape in the parts: {said}.")
    for part, x in xs.items():
        _check(f"{name}: {part}", x, labels[part], limits[part])
    counts = all(_are_counts(x) for x in xs.values())
    made: dict[str, Data] = {}
    for part, x in xs.items():
        flat = x.reshape(*x.shape[:2], -1)
        size = flat.shape[2]
        facts: dict[str, Any] = {
            "labels": labels[part],
            "speakers": np.full(len(x), -1),
            "classes": names,
            "dt": dt,
            "channels": size,
            "name": name,
            "shape": shapes[part],
        }
        if counts:
            made[part] = Binned(spikes=_packed(flat, limits[part]), **facts)
        else:
            made[part] = Frames(frames=flat, lengths=limits[part], **facts)
    return made


def _samples(x: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """x as one array [B, T, …], and the steps of every sample int64 [B]; lists are padded with zeros."""
    if isinstance(x, list | tuple):
        each = [as_array(one, f"{where}, sample {i}") for i, one in enumerate(x)]
        if not each:
            raise DataError(f"{where} has no samples.")
        if odd := [i for i, one in enumerate(each) if one.shape[1:] != each[0].shape[1:] or one.ndim < 2]:
            raise ShapeError(
                f"{where}, sample {odd[0]} has shape {list(each[odd[0]].shape)}; expected [T, N] or "
                f"[T, C, H, W] with the same step in all, as sample 0: {list(each[0].shape)}."
            )
        steps = np.array([len(one) for one in each], np.int64)
        whole: np.ndarray = np.zeros((len(each), int(steps.max()), *each[0].shape[1:]), np.result_type(*each))
        for row, one in zip(whole, each, strict=True):
            row[: len(one)] = one
        return whole, steps
    whole = as_array(x) if not isinstance(x, np.ndarray) else x
    if whole.ndim not in (3, 5):
        raise ShapeError(
            f"{where}: x has shape {list(whole.shape)}; expected samples first, [B, T, N] or [B, T, C, H, W]."
        )
    return whole, np.full(len(whole), whole.shape[1], np.int64)


def _check(where: str, x: np.ndarray, labels: np.ndarray, lengths: np.ndarray) -> None:
    count, steps = x.shape[:2]
    if labels.shape[:1] != (count,):
        swapped = labels.shape[:1] == (steps,)
        hint = f"; its second axis is {steps} long: is time first? x is [B, T, …] here" if swapped else ""
        raise ShapeError(f"{where}: {len(labels)} labels for {count} samples, x {list(x.shape)}{hint}.")
    if count == 0:
        raise DataError(f"{where} has no samples.")
    if min(x.shape) == 0:
        raise ShapeError(f"{where}: x has shape {list(x.shape)}; no axis may be empty.")
    if lengths.shape != (count,) or (lengths < 1).any() or (lengths > steps).any():
        raise ShapeError(f"{where}: lengths should be {count} whole numbers in 1..{steps}, one a sample.")
    if x.dtype.kind not in "fiub":
        raise ShapeError(f"{where}: x is of {x.dtype}; expected real or whole numbers.")
    if x.dtype.kind == "f":
        for start in range(0, count, 256):  # a part may lie on disk
            wrong = ~np.isfinite(x[start : start + 256])
            if wrong.any():
                b, t, *place = (int(k) for k in np.argwhere(wrong)[0])
                value = x[(start + b, t, *place)]
                raise DataError(
                    f"{where}, sample {start + b}, step {t}: x is {value}; every value must be finite."
                )


def _are_counts(x: np.ndarray) -> bool:
    if x.dtype.kind == "b":
        return True
    return all((part >= 0).all() and (part == np.floor(part)).all() for part in _pieces(x))


def _pieces(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + 256] for start in range(0, len(x), 256)]


def _packed(x: np.ndarray, lengths: np.ndarray) -> Packed:
    """The counts x [B, T, N] as spikes, 256 samples at a time."""
    starts = range(0, len(x), 256)
    parts = [
        EventBatch.from_dense(piece.astype(np.float32).transpose(1, 0, 2), lengths[start : start + 256])
        for start, piece in zip(starts, _pieces(x), strict=True)
    ]
    return Packed.joined([Packed.of(part) for part in parts], x.shape[2])


def parts_of_events(
    given: Mapping[str, tuple[Sequence[np.ndarray], Any]],
    dt: float | None,
    classes: Sequence[str] | None,
    *,
    shape: int | Sequence[int] | None = None,
    origin: str = "zero",
    duration: float | None = None,
    binary: bool = False,
    name: str = "events",
) -> dict[str, Data]:
    """Part → recordings of events in steps of `dt` ms, see `Splits.from_events`."""
    dt = step_length(dt)
    for part, (events, y) in given.items():
        if not len(events):
            raise DataError(f"{name}: {part} has no samples.")
        if len(y) != len(events):
            raise ShapeError(f"{name}: {part}: {len(y)} labels for {len(events)} recordings.")
    if shape is None:
        shape = shape_of(e for events, _ in given.values() for e in events)
    shape = tuple(whole_numbers(shape, f"{name}: shape").reshape(-1).tolist())
    if len(shape) not in (1, 3):
        raise ShapeError(
            f"{name}: shape = {list(shape)}; a sensor is (N,), or (polarities, height, width) of a camera."
        )
    if min(shape) < 1:
        raise ShapeError(f"{name}: shape = {list(shape)}; no axis may be empty.")
    made: dict[str, Data] = {}
    for part, (events, _) in given.items():
        data = EventDataset(
            store=_one_by_one(events, tuple(shape), origin, f"{name}: {part}"),
            rows=np.arange(len(events)),
            labels=np.zeros(len(events), np.int64),
            speakers=np.full(len(events), -1),
            classes=[""],
            channels=math.prod(shape),
            shape=tuple(shape),
            allow_empty=True,
            name=name,
        )
        made[part] = bin_events(data, dt, binary=binary, duration=duration)
    steps = {part: int(data.lengths.max()) for part, data in made.items()}
    labels, names = numbered({part: y for part, (_, y) in given.items()}, classes, name, steps)
    return {part: replace(data, labels=labels[part], classes=names) for part, data in made.items()}


def _one_by_one(events: Sequence[np.ndarray], shape: tuple[int, ...], origin: str, name: str) -> OneByOne:
    """A store of the `flat_events` of these recordings, each taken when it is read."""
    return OneByOne(
        len(events), lambda i: flat_events(events[i], shape, origin, f"{name}, recording {i}"), name
    )


def shape_of(events: Iterable[np.ndarray]) -> tuple[int, ...]:
    """The smallest sensor that has all these events: (N,), or (polarities, H, W) where they have y."""
    fields: tuple[str, ...] = ()
    sizes = {"x": 1, "y": 1, "p": 1}
    for one in events:
        has = getattr(getattr(one, "dtype", None), "names", None) or ()
        if len(one):
            fields = fields or has
            sizes |= {k: max(sizes[k], 1 + int(one[k].max())) for k in sizes if k in fields and k in has}
    return (sizes["x"],) if "y" not in fields else (sizes["p"], sizes["y"], sizes["x"])


def flat_events(events: np.ndarray, shape: tuple[int, ...], origin: str, where: str) -> np.ndarray:
    """Events t, x[, y][, p] of a sensor of this shape as t and the number of the neuron, sorted by time.

    shape   (N,): x is the neuron, or (C, H, W): the neuron is (p·H + y)·W + x, with C = 1 whatever p is
    origin  "zero": times count from 0; "first": from the first event of the recording

    Raises `DataError` naming the recording whose events lie outside, are absolute or no events.
    """
    if origin not in ("zero", "first"):
        raise ParameterError(f"origin = {origin!r}; it is one of zero, first.")
    fields = getattr(getattr(events, "dtype", None), "names", None) or ()
    needed = ("t", "x", "y") if len(shape) == 3 else ("t", "x")
    if missing := [field for field in needed if field not in fields]:
        raise DataError(
            f"{where}: expected a structured array with fields {', '.join(needed)}, got "
            f"{type(events).__name__} {tuple(fields)} without {missing[0]}."
        )
    given = events["t"]
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise DataError(f"{where}: event {int(np.argmax(~np.isfinite(given)))} has time {given.max()}.")
    t = given.astype(np.int64)
    if len(t) and given.dtype.kind == "f" and given.max() < LEAST and (given != t).any():
        raise DataError(
            f"{where}: its last time is {given.max():.6g} and times have fractions; times are µs, are these "
            "seconds or milliseconds? Give (10**6 * seconds).round()."
        )
    if len(t):
        first, last = int(t.min()), int(t.max())
        if origin == "first":
            t = t - first
        elif first < 0:
            raise DataError(f"{where}: time {first} µs; times must not be negative.")
        elif first > max(LATE, 10 * (last - first)):
            raise DataError(
                f"{where}: it starts at {first} µs and lasts {last - first} µs; are the timestamps absolute? "
                "Take origin = 'first' to count from its first event."
            )
    sizes = {"x": shape[-1]}
    neuron = whole_numbers(events["x"], f"{where}, x")
    if len(shape) == 3:
        sizes["y"] = shape[1]
        neuron = neuron + shape[2] * whole_numbers(events["y"], f"{where}, y")
        if shape[0] > 1:
            if "p" not in fields:
                raise DataError(f"{where}: {shape[0]} polarities, but its events have no p.")
            sizes["p"] = shape[0]
            neuron = neuron + shape[1] * shape[2] * whole_numbers(events["p"], f"{where}, p")
    for field, size in sizes.items():
        wrong = (events[field] < 0) | (events[field] >= size)
        if wrong.any():
            e = int(np.argmax(wrong))
            raise DataError(
                f"{where}: event {e} has {field} = {events[field][e]}, outside 0..{size - 1} of a sensor of "
                f"shape {list(shape)}."
            )
    flat: np.ndarray = np.empty(len(t), [("t", "<i8"), ("x", "<i8")])
    flat["t"], flat["x"] = t, neuron
    return flat[np.argsort(t, kind="stable")]


def step_length(dt: Any) -> float:
    """`dt` as a number, ms; 0-d arrays and tensors are numbers. Raises `ParameterError` for another."""
    try:
        value = float(dt)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"dt = {dt!r}; give dt = …, the length of a step in ms.") from error
    if not (math.isfinite(value) and value > 0):
        raise ParameterError(f"dt = {value} ms; it must be above 0.")
    return value
