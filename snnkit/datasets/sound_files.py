"""Sound recordings as files: a corpus packed as one HDF5 file, 16-bit WAV files."""

from __future__ import annotations

import wave
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import ChecksumError, DataError
from ..files import PathLike, atomic_h5, open_h5
from .recordings import PARTS, Recordings

WAV = (".wav", ".wave")
"""Endings of WAV files, in small letters."""
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


def read_wav(path: PathLike, channel: int | None = None) -> tuple[np.ndarray, int]:
    """Samples and rate of a 16-bit PCM WAV file: int16 [n], Hz.

    channel  which is taken of a file that has several, from 0; None: such a file is refused

    Raises `DataError` for a file of another kind or width, one of several channels of which none was chosen,
    one without samples and one that is cut off.
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
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (OSError, EOFError, wave.Error) as error:
        why = str(error) or "it ends before its samples begin"
        raise DataError(f"{path} is no readable WAV file ({why}).") from error
    if width != 2:
        raise DataError(f"{path} has {8 * width} bits a sample, expected 16.")
    if channels > 1 and not 0 <= (-1 if channel is None else channel) < channels:
        asked = "" if channel is None else f", and channel = {channel}"
        raise DataError(
            f"{path} has {channels} channels{asked}; they are not mixed: say channel = 0 … {channels - 1}, "
            "or make it mono."
        )
    whole = np.frombuffer(raw[: len(raw) // (2 * channels) * 2 * channels], "<i2")
    samples = whole[channel or 0 :: channels] if channels > 1 else whole
    if len(samples) == 0:
        raise DataError(f"{path} has no samples; a clip needs at least one.")
    if len(samples) < count:
        raise DataError(f"{path} is cut off: {len(samples)} of {count} samples.")
    return samples.astype(np.int16), rate


def read_wavs(paths: Iterable[Path], rate: int, channel: int | None = None) -> list[np.ndarray]:
    """Samples of several WAV files, int16 [n] each; `channel` as in `read_wav`.

    Raises `DataError` naming one of another rate (Hz).
    """
    clips = []
    for path in paths:
        samples, found = read_wav(path, channel)
        if found != rate:
            raise DataError(f"{path} has {found} Hz, expected {rate} Hz.")
        clips.append(samples)
    return clips


def read_wavs_of_one_rate(paths: Sequence[Path], channel: int | None = None) -> tuple[list[np.ndarray], int]:
    """As `read_wavs`, and the rate of them all, whatever it is.

    Raises `DataError` naming the first file of the rate that is rarest, and how many have which.
    """
    found = [read_wav(path, channel) for path in paths]
    rates = Counter(rate for _, rate in found)
    if len(rates) > 1:
        usual, odd = rates.most_common()[0][0], rates.most_common()[-1][0]
        first = next(path for path, (_, rate) in zip(paths, found, strict=True) if rate == odd)
        said = ", ".join(f"{count} of {rate} Hz" for rate, count in rates.most_common())
        raise DataError(
            f"{first} has {odd} Hz; of {len(paths)} files there are {said}. Bring all to {usual} Hz."
        )
    return [samples for samples, _ in found], next(iter(rates))


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
