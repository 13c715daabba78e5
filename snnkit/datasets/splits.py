"""Train, valid and test of a data set, each made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .batches import Binned, Frames

Data = Binned | Frames


@dataclass
class Splits:
    """Three parts of a dataset, each made when it is first asked for.

    `test` is meant for one look at the end: nothing in snnkit that trains or chooses touches it.

    speakers  who is in each part: part → sorted speaker numbers
    sizes     recordings in each part; neither makes the part
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
    _made: dict[str, Data] = field(default_factory=dict, repr=False)

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
            values = train.events.values
            summary["mean_count"] = 1.0 if values is None else float(values.mean(dtype=np.float64))
        return summary

    def _get(self, part: str) -> Data:
        if part not in self._made:
            self._made[part] = self.make[part]()
        return self._made[part]
