"""Sound recordings of words: clips end to end with label, speaker and official split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError
from .event_data import ranges
from .labels import whole_numbers

PARTS = ("train", "valid", "test")


@dataclass
class Recordings:
    """Clips of one corpus.

    samples   int16 [S]      all clips end to end, mono
    offsets   int64 [B + 1]  clip i is ``samples[offsets[i]:offsets[i + 1]]``
    labels    int64 [B]
    speakers  int64 [B]      number of the speaker; `speaker_names` maps it to a name
    part      int64 [B]      official split: position in `PARTS`
    clips     [B]            name of each clip
    rate      Hz
    digest    sha256 of the samples (int16, little endian)
    """

    name: str
    samples: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    part: np.ndarray
    clips: list[str]
    classes: list[str]
    speaker_names: dict[int, str]
    rate: int
    where: str
    attribution: str
    synthetic: bool = False
    digest: str = ""

    def __post_init__(self) -> None:
        self.offsets = whole_numbers(self.offsets, f"{self.where}: offsets")
        for name in ("labels", "speakers", "part"):
            setattr(self, name, whole_numbers(getattr(self, name), f"{self.where}: {name}"))
        count = len(self.clips)
        sizes = {n: len(getattr(self, n)) for n in ("labels", "speakers", "part")}
        if set(sizes.values()) != {count} or len(self.offsets) != count + 1:
            raise DataError(
                f"{self.where}: {count} clips, {len(self.offsets)} offsets, {sizes}; there should be as "
                "many as clips, and one offset more."
            )
        if count and (self.offsets[0] != 0 or self.offsets[-1] != len(self.samples)):
            raise DataError(
                f"{self.where}: offsets run from {self.offsets[0]} to {self.offsets[-1]}, expected 0 to "
                f"{len(self.samples)} samples."
            )
        for wrong, what in (
            (np.diff(self.offsets) <= 0, "it has no samples; a clip needs at least one"),
            ((self.labels < 0) | (self.labels >= len(self.classes)), "its label {label} is outside 0..{top}"),
        ):
            if wrong.any():
                i = int(np.argmax(wrong))
                detail = what.format(label=self.labels[i], top=len(self.classes) - 1)
                raise DataError(f"{self.where}, clip {self.clips[i]!r}: {detail}.")
        if not self.digest:
            self.digest = hashlib.sha256(np.ascontiguousarray(self.samples, "<i2").data).hexdigest()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Samples (int16) and label of one clip."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} clips, no number {index}")
        index %= len(self)
        return self.samples[self.offsets[index] : self.offsets[index + 1]], int(self.labels[index])

    def __repr__(self) -> str:
        return (
            f"{self.name}: {len(self)} clips, {len(self.classes)} classes, {len(self.speaker_names)} "
            f"speakers, {self.rate} Hz, from {self.where}"
        )

    def rows(self, part: str) -> np.ndarray:
        """Clips of the official "train", "valid" or "test" part, int64 [R]; may be empty."""
        return np.flatnonzero(self.part == PARTS.index(part))

    def subset(self, rows: np.ndarray) -> Recordings:
        """The clips `rows` [R] alone, in this order."""
        rows = np.asarray(rows, np.int64)
        counts = self.offsets[rows + 1] - self.offsets[rows]
        return replace(
            self,
            samples=self.samples[ranges(self.offsets[rows], counts)],
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            labels=self.labels[rows],
            speakers=self.speakers[rows],
            part=self.part[rows],
            clips=[self.clips[i] for i in rows],
            digest="",
        )

    def limited(self, limit: int | None) -> Recordings:
        """At most `limit` clips of every class, speaker and official part, the first ones."""
        if limit is None:
            return self
        return self.subset(first_of_each(limit, self.part, self.labels, self.speakers))


def first_of_each(limit: int, *groups: np.ndarray) -> np.ndarray:
    """Rows int64 [R], in order, of which at most `limit` share the same values of all `groups` [B] each."""
    keys = np.stack(groups, axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], group[order])
    rank = np.arange(len(group)) - starts
    return np.sort(order[rank < limit])
