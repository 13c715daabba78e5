"""Sound recordings as files: a corpus packed as one HDF5 file, 16-bit WAV files."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import ChecksumError, DataError
from ..files import PathLike, atomic_h5, open_h5
from .recordings import PARTS, Recordings

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def read_packed(path: PathLike, name: str, attribution: str) -> Recordings:
    """A corpus packed as one HDF5 file: samples, offset, clip, label or digit, speaker, split or test.

    Raises `DataError` naming what is missing, damaged or does not fit together.
    """
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
        name=name,
        samples=samples,
        offsets=arrays["offset"],
        labels=arrays[label],
        speakers=numbers,
        part=part,
        clips=[c.decode() if isinstance(c, bytes) else str(c) for c in arrays["clip"]],
        classes=words,
        speaker_names=names,
        rate=rate,
        where=str(path),
        attribution=attribution,
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


def read_wav(path: PathLike) -> tuple[np.ndarray, int]:
    """Samples (first channel) and rate of a 16-bit PCM WAV file: int16 [n], Hz.

    Raises `DataError` for a file of another kind or width, one without samples and one that is cut off.
    """
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


def read_wavs(paths: Iterable[Path], rate: int) -> list[np.ndarray]:
    """Samples of several WAV files, int16 [n] each. Raises `DataError` naming one of another rate (Hz)."""
    clips = []
    for path in paths:
        samples, found = read_wav(path)
        if found != rate:
            raise DataError(f"{path} has {found} Hz, expected {rate} Hz.")
        clips.append(samples)
    return clips


def join(clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Clips int16 [n] each → samples int16 [S] end to end, and offsets int64 [len(clips) + 1]."""
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
