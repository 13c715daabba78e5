"""Datasets of the tonic package as `EventDataset`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError, ParameterError
from ..events import EVENT_DTYPE
from .event_data import EventDataset, from_events


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
    if all(isinstance(label, int | np.integer) for label in labels):
        numbers = np.array(labels, np.int64)
        given = getattr(dataset, "classes", None)
        count = int(numbers.max()) + 1
        classes = [str(k) for k in range(count)]
        if given is not None and len(given) >= count:
            classes = [c.decode() if isinstance(c, bytes) else str(c) for c in given]
    else:
        classes = sorted({str(label) for label in labels})
        numbers = np.array([classes.index(str(label)) for label in labels])
    speakers = getattr(dataset, "speaker", None)
    if speakers is not None and len(speakers) >= len(events):
        speakers = np.asarray(speakers, np.int64)[: len(events)]
    else:
        speakers = None
    return from_events(
        events, numbers, width * height * polarities, classes=classes, speakers=speakers, name=name
    )
