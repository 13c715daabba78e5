"""Sound recordings of words: clips end to end with label, speaker and official split."""

from __future__ import annotations

import hashlib
import os
import wave
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import ChecksumError, DataError
from ..files import PathLike, atomic_h5, cache_folder, open_h5
from .event_data import ranges

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
        self.offsets = np.asarray(self.offsets, np.int64)
        for name in ("labels", "speakers", "part"):
            setattr(self, name, np.asarray(getattr(self, name), np.int64))
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
            self.digest = hashlib.sha256(self.samples.astype("<i2", copy=False).tobytes()).hexdigest()

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
        """Clips of the official "train", "valid" or "test" part; may be empty."""
        return np.flatnonzero(self.part == PARTS.index(part))

    def subset(self, rows: np.ndarray) -> Recordings:
        """These clips alone, in this order."""
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
    """Rows, in order, of which at most `limit` share the same values of all `groups`."""
    keys = np.stack(groups, axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], group[order])
    rank = np.arange(len(group)) - starts
    return np.sort(order[rank < limit])


def search_path(root: PathLike | None, *below: str) -> list[Path]:
    """Folders where a corpus may lie: `root`, else ``SNNKIT_DATA`` and the cache; and `below` in each."""
    if root is not None:
        bases = [Path(root)]
    else:
        bases = [Path(os.environ["SNNKIT_DATA"])] if os.environ.get("SNNKIT_DATA") else []
        bases.append(data_folder())
    return [folder for base in bases for folder in (base, *(base / name for name in below))]


def data_folder() -> Path:
    """Where downloads go: ``SNNKIT_CACHE/data``, else the user's cache folder."""
    return cache_folder() / "data"


def read_packed(path: PathLike, name: str, attribution: str) -> Recordings:
    """A corpus packed as one HDF5 file: samples, offset, clip, label or digit, speaker, split or test."""
    path = Path(path)
    with open_h5(path) as file:
        required = ("samples", "offset", "clip", "speaker")
        missing = [key for key in required if key not in file]
        label = "label" if "label" in file else "digit"
        split = "split" if "split" in file else "test"
        missing += [f"{what}" for what in (label, split) if what not in file]
        if missing or "sample_rate" not in file.attrs:
            raise DataError(
                f"{path} lacks {', '.join(missing) or 'the attribute sample_rate'}; expected a packed corpus."
            )
        samples = _read(path, file, "samples")
        if samples.dtype != np.int16:
            raise DataError(f"{path}: samples are {samples.dtype}, expected int16.")
        arrays = {key: _read(path, file, key) for key in ("offset", "clip", "speaker", label, split)}
        rate = int(file.attrs["sample_rate"])
        words = str(file.attrs["words"]).split(",") if "words" in file.attrs else list(DIGITS)
        named = str(file.attrs["speakers"]).split(",") if "speakers" in file.attrs else None
        parts = str(file.attrs["splits"]).split(",") if "splits" in file.attrs else None
    numbers = arrays["speaker"].astype(np.int64)
    if named is None:
        names = {int(s): str(s) for s in np.unique(numbers)}
    else:
        if numbers.max(initial=0) >= len(named):
            raise DataError(
                f"{path}: speaker {numbers.max()} has no name; attrs['speakers'] has {len(named)}."
            )
        names = dict(enumerate(named))
    if parts is None:
        part = np.where(arrays[split] != 0, PARTS.index("test"), PARTS.index("train"))
    else:
        order = np.array([PARTS.index("valid" if p == "val" else p) for p in parts])
        if arrays[split].max(initial=0) >= len(order):
            raise DataError(f"{path}: split {arrays[split].max()} has no name; attrs['splits'] is {parts}.")
        part = order[arrays[split]]
    return Recordings(
        name,
        samples,
        arrays["offset"],
        arrays[label],
        numbers,
        part,
        [c.decode() if isinstance(c, bytes) else str(c) for c in arrays["clip"]],
        words,
        names,
        rate,
        str(path),
        attribution,
    )


def write_packed(path: PathLike, recordings: Recordings, attributes: dict[str, Any] | None = None) -> None:
    """Write a corpus in the layout that `read_packed` reads, whole or not at all."""
    order = sorted(recordings.speaker_names)
    with atomic_h5(path) as file:
        file["samples"], file["offset"] = recordings.samples, recordings.offsets
        file["clip"] = np.array([clip.encode() for clip in recordings.clips])
        file["label"], file["split"] = recordings.labels.astype(np.uint16), recordings.part.astype(np.uint8)
        file["speaker"] = np.searchsorted(order, recordings.speakers).astype(np.uint16)
        file.attrs["sample_rate"] = recordings.rate
        file.attrs["words"], file.attrs["splits"] = ",".join(recordings.classes), ",".join(PARTS)
        file.attrs["speakers"] = ",".join(recordings.speaker_names[number] for number in order)
        for name, value in (attributes or {}).items():
            file.attrs[name] = value


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def read_wav(path: PathLike) -> tuple[np.ndarray, int]:
    """Samples int16 (first channel) and rate of a 16-bit PCM WAV file."""
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate, count = (
                file.getsampwidth(),
                file.getnchannels(),
                file.getframerate(),
                file.getnframes(),
            )
            raw = file.readframes(count)
    except (OSError, EOFError, wave.Error) as error:
        raise DataError(f"{path} is no readable WAV file ({error}).") from error
    if width != 2:
        raise DataError(f"{path} has {8 * width} bits a sample, expected 16.")
    samples = np.frombuffer(raw[: len(raw) // (2 * channels) * 2 * channels], "<i2")[::channels]
    if len(samples) == 0:
        raise DataError(f"{path} has no samples; a clip needs at least one.")
    if len(samples) < count:
        raise DataError(f"{path} is cut off: {len(samples)} of {count} samples.")
    return samples.astype(np.int16), rate


def join(clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Clips end to end, and their offsets."""
    offsets = np.concatenate([[0], np.cumsum([len(c) for c in clips])]).astype(np.int64)
    return np.concatenate(clips).astype(np.int16), offsets


def check_samples(recordings: Recordings, expected: str) -> Recordings:
    """Return the recordings, or raise `ChecksumError` where their samples are not the published ones."""
    if recordings.digest != expected:
        raise ChecksumError(
            f"{recordings.where}: sha256 of the samples is {recordings.digest}, expected {expected}; it is "
            "damaged or another version of the corpus. Delete it and fetch it again."
        )
    return recordings


def _read(path: Path, file: h5py.File, name: str) -> Any:
    try:
        return file[name][()]
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: {name!r} can't be read, the file is damaged ({error}).") from error
