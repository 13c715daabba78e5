"""Recordings without labels, one file at a time: what a trained network is asked about."""

from __future__ import annotations

import itertools
import math
import zipfile
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import PathLike, open_h5
from .encoding import encoded
from .event_data import ArrayStore, EventDataset
from .given import flat_events
from .labels import whole_numbers
from .own_events import READERS
from .recordings import Recordings
from .sound_files import read_wav

UNKNOWN = "unknown"
"""The one class of recordings without labels."""
_HEIDELBERG = (".h5", ".hdf5")


def read_unlabelled(path: PathLike, shape: tuple[int, ...], origin: str = "zero") -> EventDataset:
    """The recordings of an event file, all of class `UNKNOWN`.

    .h5, .hdf5   SHD's layout, spikes/times (s) and spikes/units; labels are not looked at
    .npz         t [E] µs, x [E], perhaps y and p, and offsets [B + 1] where there are several recordings
    and the files of one recording that `own_events.READERS` has

    shape   of the sensor, (N,) or (C, H, W), where the file does not say its own (attributes or arrays
            "shape", "channels")
    origin  "zero", or "first": times count from the first event of each recording

    Raises `DataError` naming what is missing or can't be.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist.")
    suffix = path.suffix.lower()
    if suffix in _HEIDELBERG:
        recordings, said = _heidelberg(path)
    elif suffix == ".npz":
        recordings, said = _arrays(path)
    elif suffix in READERS:
        recordings, said = [READERS[suffix](path)], None
    else:
        raise DataError(f"{path}: expected .h5 (SHD's layout), .npz, {', '.join(READERS)} or .wav.")
    shape = shape if said is None else said
    row = (math.prod(shape),) if suffix in _HEIDELBERG else shape  # its units are numbered in one row
    flat = [flat_events(e, row, origin, f"{path}, recording {b}") for b, e in enumerate(recordings)]
    none = [np.zeros(0, np.int64)]
    times, neurons = (np.concatenate([e[key] for e in flat] or none) for key in ("t", "x"))
    offsets = np.concatenate([[0], np.cumsum([len(e) for e in flat])]).astype(np.int64)
    return EventDataset(
        store=ArrayStore(times, neurons, offsets, str(path)),
        rows=np.arange(len(flat)),
        labels=np.zeros(len(flat), np.int64),
        speakers=np.full(len(flat), -1),
        classes=[UNKNOWN],
        channels=math.prod(shape),
        shape=shape,
        allow_empty=True,
        name=path.stem,
    )


def _heidelberg(path: Path) -> tuple[list[np.ndarray], tuple[int, ...] | None]:
    with open_h5(path) as file:
        for name in ("spikes/times", "spikes/units"):
            if name not in file:
                raise DataError(f"{path} has no dataset {name!r}; expected spikes/times and spikes/units.")
        try:
            times, units = file["spikes/times"][()], file["spikes/units"][()]
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path} can't be read, the file is damaged ({error}).") from error
        said = file.attrs.get("shape", file.attrs.get("channels"))
    if len(times) != len(units):
        raise DataError(f"{path}: {len(times)} recordings of times and {len(units)} of units.")
    made = []
    for b, (t, x) in enumerate(zip(times, units, strict=True)):
        seconds = np.asarray(t, np.float64)
        if len(t) != len(x) or not (np.isfinite(seconds) & (seconds >= 0)).all():
            raise DataError(
                f"{path}, recording {b}: {len(t)} times and {len(x)} units; there should be as many, and "
                "times finite and not negative."
            )
        made.append(_events({"t": (seconds * 1e6).astype(np.int64), "x": x}))
    return made, None if said is None else tuple(int(n) for n in np.atleast_1d(said))


def _arrays(path: Path) -> tuple[list[np.ndarray], tuple[int, ...] | None]:
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no readable .npz file of numbers ({error}).") from error
    if missing := [key for key in ("t", "x") if key not in content]:
        raise DataError(f"{path} has no {missing[0]!r}; expected t, x, and perhaps y, p, offsets, shape.")
    fields = {key: content[key] for key in ("t", "x", "y", "p") if key in content}
    sizes = {key: len(value) for key, value in fields.items()}
    offsets = whole_numbers(content.get("offsets", [0, sizes["t"]]), f"{path}: offsets")
    if not offsets.size:
        raise DataError(f"{path}: offsets is empty; they rise from 0 to the number of events, {sizes['t']}.")
    if set(sizes.values()) != {int(offsets[-1])} or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise DataError(
            f"{path}: {sizes} should be equal, and offsets rise from 0 to that number; got {offsets[-1]}."
        )
    whole = _events(fields)
    said = content.get("shape", content.get("channels"))
    shape = None if said is None else tuple(int(n) for n in np.atleast_1d(said))
    return [whole[lo:hi] for lo, hi in itertools.pairwise(offsets)], shape


def _events(fields: dict[str, np.ndarray]) -> np.ndarray:
    """Arrays of one length as a structured array."""
    made: np.ndarray = np.empty(len(fields["t"]), [(key, v.dtype) for key, v in fields.items()])
    for key, value in fields.items():
        made[key] = value
    return made


def sound_of(path: PathLike, channel: int | None = None) -> Recordings:
    """A WAV file (16 bits) as one clip of class `UNKNOWN`. `channel` and what is raised as `read_wav`."""
    samples, rate = read_wav(path, channel)
    return Recordings(
        name="unlabelled", samples=samples, offsets=np.array([0, len(samples)]), labels=np.zeros(1),
        speakers=np.full(1, -1), part=np.zeros(1), clips=[str(path)], classes=[UNKNOWN], speaker_names={},
        rate=rate, where=str(path), attribution="",
    )  # fmt: skip


def heard(clip: Recordings, seed: int) -> EventDataset:
    """The spikes of the cochlea for a clip; the seed is that of the run's data."""
    return encoded(clip, seed=seed, workers=1, progress=False)
