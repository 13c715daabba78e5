"""Changes to training recordings that leave their label true: masks, shifts, stretch, loss and jitter of
events, CutMix; for steps of shape (C, H, W) also shift, mirror and rotation in the plane.

Pure functions of spikes and a NumPy generator, for an `EventBatch` or a dense array ``[T, B, N]``
(with `lengths` int64 [B], else every step counts); the same kind comes back. Every sample draws for itself.
A dense array goes through its events, so both give the same result from the same generator.
`Binned.batch(…, augment=…)` applies them before the dense array is made, which is cheaper. Each raises
`ParameterError` for a probability, width or factor out of its range and `ShapeError` for another array, or
for a `shape` that is not the (C, H, W) of its N neurons, numbered row by row.

Masks over time and channels and CutMix are those of the SNN-delays paper (Hammouamri et al. 2024) and
SpecAugment (Park et al. 2019); shift along the channels and event loss as for SHD in Cramer et al.
2020 and Nowotny et al. 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ..errors import ParameterError, ShapeError
from ..events import EventBatch
from .event_data import ranges

_DENSE_CELLS = 1 << 24
"""Cells up to which events are merged in a dense array, which is faster than sorting them."""

Spikes = TypeVar("Spikes", EventBatch, np.ndarray)
Augmentation = Callable[[EventBatch, np.random.Generator], EventBatch]


def time_mask(
    x: Spikes,
    rng: np.random.Generator,
    *,
    probability: float = 0.5,
    width: int = 20,
    lengths: np.ndarray | None = None,
) -> Spikes:
    """Silence a run of steps in a share `probability` of the samples.

    Its width is uniform in 0..`width`, at most the sample's length, and it lies within the length.
    """
    _in_unit("time_mask", probability)
    _at_least("time_mask: width", width, 0)

    def change(events: EventBatch) -> EventBatch:
        return _keep(events, ~_in_a_run(events, rng, probability, width, events.times, events.lengths))

    return _either(change, x, lengths)


def neuron_mask(
    x: Spikes,
    rng: np.random.Generator,
    *,
    probability: float = 0.5,
    width: int = 20,
    lengths: np.ndarray | None = None,
) -> Spikes:
    """Silence a run of neighbouring channels in a share `probability` of the samples, as `time_mask`."""
    _in_unit("neuron_mask", probability)
    _at_least("neuron_mask: width", width, 0)

    def change(events: EventBatch) -> EventBatch:
        extents = np.full(len(events), events.size)
        return _keep(events, ~_in_a_run(events, rng, probability, width, events.neurons, extents))

    return _either(change, x, lengths)


def channel_shift(
    x: Spikes, rng: np.random.Generator, *, amount: int = 4, lengths: np.ndarray | None = None
) -> Spikes:
    """Move every sample along the channels by a whole number uniform in −`amount`..`amount`.

    What leaves at one end is lost; the other end is silent.
    """
    _at_least("channel_shift: amount", amount, 0)

    def change(events: EventBatch) -> EventBatch:
        by = rng.integers(-amount, amount, len(events), endpoint=True)
        moved = events.neurons + by[_samples(events)]
        inside = (moved >= 0) & (moved < events.size)
        return _keep(replace(events, neurons=np.where(inside, moved, 0)), inside)

    return _either(change, x, lengths)


def time_stretch(
    x: Spikes,
    rng: np.random.Generator,
    *,
    low: float = 0.8,
    high: float = 1.2,
    lengths: np.ndarray | None = None,
) -> Spikes:
    """Play every sample faster or slower by a factor uniform in `low`..`high`.

    A spike of step t moves to ⌊(t + ½)·factor⌋; spikes that meet add up (stay 1 where binary). The
    length becomes ⌈length·factor⌉. A dense array keeps its number of steps: what is later is lost.
    """
    if not 0 < low <= high:
        raise ParameterError(f"time_stretch: low = {low} and high = {high}; expected 0 < low ≤ high.")

    def change(events: EventBatch) -> EventBatch:
        factor = rng.uniform(low, high, len(events))
        grown = np.ceil(events.lengths * factor).astype(np.int64)
        b = _samples(events)
        times = np.minimum(np.floor((events.times + 0.5) * factor[b]).astype(np.int64), grown[b] - 1)
        return _merged(events, b, times, events.neurons, events.values, grown)

    return _either(change, x, lengths)


def drop_event(
    x: Spikes, rng: np.random.Generator, *, probability: float = 0.1, lengths: np.ndarray | None = None
) -> Spikes:
    """Lose every single spike with `probability`: a count c becomes a binomial draw of c.

    A value that is no count (an analogue frame) is lost or kept whole.
    """
    _in_unit("drop_event", probability)

    def change(events: EventBatch) -> EventBatch:
        values = events.values
        if values is None or not _counts(values):
            return _keep(events, rng.random(len(events.times)) >= probability)
        left = rng.binomial(values.astype(np.int64), 1 - probability).astype(values.dtype)
        return _keep(replace(events, values=left), left > 0)

    return _either(change, x, lengths)


def jitter(
    x: Spikes, rng: np.random.Generator, *, steps: int = 1, lengths: np.ndarray | None = None
) -> Spikes:
    """Move every single spike in time by up to `steps`, uniform over those steps that its sample has.

    The spikes of a count move each for itself and add up where they meet (stay 1 where binary). A value
    that is no count (an analogue frame) moves whole.
    """
    _at_least("jitter: steps", steps, 0)

    def change(events: EventBatch) -> EventBatch:
        b, times, neurons, values = _samples(events), events.times, events.neurons, events.values
        if values is not None and _counts(values):
            each = values.astype(np.int64)
            b, times, neurons = np.repeat(b, each), np.repeat(times, each), np.repeat(neurons, each)
            values = np.ones(len(times), values.dtype)
        first, last = np.maximum(times - steps, 0), np.minimum(times + steps, events.lengths[b] - 1)
        moved = rng.integers(first, last, endpoint=True)
        return _merged(events, b, moved, neurons, values, events.lengths)

    return _either(change, x, lengths)


def shift(
    x: Spikes,
    rng: np.random.Generator,
    *,
    shape: tuple[int, ...],
    amount: int = 2,
    lengths: np.ndarray | None = None,
) -> Spikes:
    """Move every sample in the plane of its `shape` (C, H, W), along y and along x each by a whole number of
    pixels uniform in −`amount`..`amount`.

    What leaves the sensor is lost; what comes in is silent.
    """
    _at_least("shift: amount", amount, 0)

    def change(events: EventBatch) -> EventBatch:
        channel, y, column = _places("shift", events, shape)
        by = rng.integers(-amount, amount, (2, len(events)), endpoint=True)[:, _samples(events)]
        y, column = y + by[0], column + by[1]
        inside = (y >= 0) & (y < shape[1]) & (column >= 0) & (column < shape[2])
        neurons = (channel * shape[1] + y) * shape[2] + column
        return _keep(replace(events, neurons=np.where(inside, neurons, 0)), inside)

    return _either(change, x, lengths)


def mirror(
    x: Spikes,
    rng: np.random.Generator,
    *,
    shape: tuple[int, ...],
    probability: float = 0.5,
    lengths: np.ndarray | None = None,
) -> Spikes:
    """Swap left and right of the plane of `shape` (C, H, W) in a share `probability` of the samples."""
    _in_unit("mirror", probability)

    def change(events: EventBatch) -> EventBatch:
        _, _, column = _places("mirror", events, shape)
        hit = rng.random(len(events)) < probability
        across = np.where(hit[_samples(events)], shape[2] - 1 - 2 * column, 0)
        return replace(events, neurons=events.neurons + across)

    return _either(change, x, lengths)


def rotate(
    x: Spikes,
    rng: np.random.Generator,
    *,
    shape: tuple[int, ...],
    degrees: float = 10.0,
    lengths: np.ndarray | None = None,
) -> Spikes:
    """Turn every sample about the middle of the plane of `shape` (C, H, W) by an angle uniform in
    −`degrees`..`degrees`; positive is from x (right) to y (down).

    Each pixel takes what the pixel nearest to where it comes from had, so that no holes open: a spike is
    copied to all pixels that it is nearest to, or lost.
    """
    if not 0 <= degrees <= 180:
        raise ParameterError(f"rotate: degrees = {degrees}; it must lie in 0..180.")

    def change(events: EventBatch) -> EventBatch:
        channel, y, column = _places("rotate", events, shape)
        _, height, width = shape
        pixels = height * width
        angle = np.deg2rad(rng.uniform(-degrees, degrees, (len(events), 1)))
        middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
        down, right = np.divmod(np.arange(pixels), width)
        down, right = down - middle_y, right - middle_x
        cos, sin = np.cos(angle), np.sin(angle)
        from_y = np.floor(middle_y + cos * down - sin * right + 0.5).astype(np.int64)  # [B, pixels]
        from_x = np.floor(middle_x + sin * down + cos * right + 0.5).astype(np.int64)
        inside = (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        row = np.arange(len(events))[:, None] * pixels
        source = np.where(inside, row + from_y * width + from_x, len(events) * pixels).ravel()
        order = np.argsort(source, kind="stable")  # the pixels, by where they take from
        takers = np.bincount(source, minlength=len(events) * pixels + 1)
        pixel = _samples(events) * pixels + y * width + column
        copies = takers[pixel]
        to = order[ranges((np.cumsum(takers) - takers)[pixel], copies)] % pixels
        return replace(
            events,
            times=np.repeat(events.times, copies),
            neurons=np.repeat(channel, copies) * pixels + to,
            offsets=np.concatenate([[0], np.cumsum(copies)])[events.offsets],
            values=None if events.values is None else np.repeat(events.values, copies),
        )

    return _either(change, x, lengths)


def cutmix(
    x: Spikes,
    labels: np.ndarray,
    classes: int,
    rng: np.random.Generator,
    *,
    probability: float = 0.5,
    lengths: np.ndarray | None = None,
) -> tuple[Spikes, np.ndarray]:
    """Replace a run of steps of a sample by the same steps of another sample of the batch.

    The run is a uniform share of the sample's length; the label becomes a mixture in the same
    proportion. `labels` are int64 [B]; returns the spikes and the labels as float32 [B, classes].

    Raises `ShapeError` where there is not one label a sample.
    """
    _in_unit("cutmix", probability)
    labels = np.asarray(labels, np.int64)
    count = len(x) if isinstance(x, EventBatch) else x.shape[1]
    if labels.shape != (count,):
        raise ShapeError(f"cutmix: labels of shape {labels.shape}, expected [{count}], one a sample.")
    soft = np.eye(classes, dtype=np.float32)[labels]
    mixed = soft.copy()

    def change(events: EventBatch) -> EventBatch:
        partner = rng.permutation(count)
        hit = rng.random(count) < probability
        size = np.floor(rng.random(count) * events.lengths).astype(np.int64)
        start = rng.integers(0, events.lengths - size, endpoint=True)
        size[~hit | (partner == np.arange(count))] = 0
        share = (size / np.maximum(events.lengths, 1)).astype(np.float32)[:, None]
        mixed[:] = (1 - share) * soft + share * soft[partner]
        b = _samples(events)
        stays = (events.times < start[b]) | (events.times >= start[b] + size[b])
        # every sample is the partner of exactly one other, so its events are copied at most once
        to = np.argsort(partner)[b]
        comes = (events.times >= start[to]) & (events.times < start[to] + size[to])
        values = None
        if events.values is not None:
            values = np.concatenate([events.values[stays], events.values[comes]])
        return _merged(
            events,
            np.concatenate([b[stays], to[comes]]),
            np.concatenate([events.times[stays], events.times[comes]]),
            np.concatenate([events.neurons[stays], events.neurons[comes]]),
            values,
            events.lengths,
        )

    return _either(change, x, lengths), mixed


def compose(*steps: Callable[..., Any]) -> Augmentation:
    """One augmentation that applies several in turn: ``compose(time_mask, partial(drop_event, …))``."""

    def apply(events: EventBatch, rng: np.random.Generator) -> EventBatch:
        for step in steps:
            events = step(events, rng)
        return events

    return apply


def _either(change: Callable[[EventBatch], EventBatch], x: Spikes, lengths: np.ndarray | None) -> Spikes:
    if isinstance(x, EventBatch):
        return change(x)
    if x.ndim != 3:
        raise ShapeError(f"augmentation of an array of shape {list(x.shape)}, expected [T, B, N].")
    changed = change(EventBatch.from_dense(x, lengths))
    late = changed.times >= len(x)
    return _keep(changed, ~late).to_dense(len(x), x.dtype.type)


def _in_a_run(
    events: EventBatch,
    rng: np.random.Generator,
    probability: float,
    width: int,
    places: np.ndarray,
    extents: np.ndarray,
) -> np.ndarray:
    """Which events [E] lie in a run that a share `probability` of the samples draws within its extent.

    places   [E] step or neuron of each event
    extents  [B] how far each sample's steps or neurons go; the run is at most `width` of them
    """
    hit = rng.random(len(extents)) < probability
    size = rng.integers(0, np.minimum(width, extents), endpoint=True)
    start = rng.integers(0, extents - size, endpoint=True)
    b = _samples(events)
    return hit[b] & (places >= start[b]) & (places < start[b] + size[b])


def _places(
    what: str, events: EventBatch, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Channel, y and x of each event, int64 [E]. Raises `ShapeError` unless `shape` is theirs."""
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) != events.size:
        raise ShapeError(
            f"{what}: steps of shape {list(shape)} for {events.size} neurons; expected [C, H, W] of them."
        )
    channel, pixel = np.divmod(events.neurons.astype(np.int64), shape[1] * shape[2])
    return channel, *np.divmod(pixel, shape[2])


def _counts(values: np.ndarray) -> bool:
    return not ((values != np.rint(values)).any() or (values < 0).any())


def _samples(events: EventBatch) -> np.ndarray:
    return np.repeat(np.arange(len(events)), np.diff(events.offsets))


def _keep(events: EventBatch, mask: np.ndarray) -> EventBatch:
    kept = np.concatenate([[0], np.cumsum(mask)])
    return EventBatch(
        times=events.times[mask],
        neurons=events.neurons[mask],
        offsets=kept[events.offsets],
        lengths=events.lengths,
        size=events.size,
        values=None if events.values is None else events.values[mask],
    )


def _merged(
    events: EventBatch,
    sample: np.ndarray,
    times: np.ndarray,
    neurons: np.ndarray,
    values: np.ndarray | None,
    lengths: np.ndarray,
) -> EventBatch:
    """Events in any order, sorted; those of one sample, step and neuron become one."""
    span = int(lengths.max(initial=1))
    cell = (sample * span + times) * events.size + neurons
    size = len(lengths) * span * events.size
    if size <= _DENSE_CELLS:
        count = np.bincount(cell, minlength=size)
        full = np.flatnonzero(count)
        if values is not None:
            values = np.bincount(cell, values, size)[full].astype(values.dtype)
    else:
        full, inverse = np.unique(cell, return_inverse=True)
        if values is not None:
            values = np.bincount(inverse, values, len(full)).astype(values.dtype)
    cell = full
    b = cell // (span * events.size)
    return EventBatch(
        times=cell // events.size % span,
        neurons=cell % events.size,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(b, minlength=len(lengths)))]),
        lengths=lengths,
        size=events.size,
        values=values,
    )


def _in_unit(what: str, probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ParameterError(f"{what}: probability = {probability}; it must lie in 0..1.")


def _at_least(what: str, value: int, least: int) -> None:
    if value < least:
        raise ParameterError(f"{what} = {value}; it must be at least {least}.")
