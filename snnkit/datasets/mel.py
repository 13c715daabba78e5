"""Sound → log mel frames, the analogue input of networks that take no spikes."""

from __future__ import annotations

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
from scipy import fft, signal

from ..errors import DataError, ParameterError
from ..files import atomic_h5, cache_folder, open_h5
from ..machine import cores
from .batches import Frames
from .binning import mapped
from .recordings import Recordings

_log = logging.getLogger("snnkit.datasets")
_VERSION = 1
_WINDOW_MS = 25.0
_FLOOR = 1e-6  # of power, added before the logarithm: −60 dB of full scale


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Mel of a frequency in Hz (any shape): 2595 · log10(1 + f / 700) (O'Shaughnessy 1987)."""
    return 2595 * np.log10(1 + np.asarray(hz, np.float64) / 700)


def mel_to_hz(mels: np.ndarray | float) -> np.ndarray:
    """Frequency in Hz of a mel value (any shape), the inverse of `hz_to_mel`."""
    return 700 * (10 ** (np.asarray(mels, np.float64) / 2595) - 1)


def filter_bank(
    bands: int, bins: int, rate: int, f_min: float = 50.0, f_max: float | None = None
) -> np.ndarray:
    """Triangular filters, evenly spaced in mel: float64 [bands, bins].

    Band k rises from 0 at edge k to 1 at edge k+1 and falls to 0 at edge k+2; bin j lies at
    j · rate / (2·(bins − 1)) Hz. `f_max` is at most half the rate, which is its default: a filter above
    it would only ever see zeros.

    Raises `ParameterError` for frequencies out of that range and for a band that holds no bin.
    """
    nyquist = rate / 2
    f_max = nyquist if f_max is None else f_max
    if not 0 <= f_min < f_max <= nyquist:
        raise ParameterError(
            f"mel bands from {f_min} to {f_max} Hz: expected 0 ≤ f_min < f_max ≤ {nyquist:g} Hz, half the "
            "sampling rate."
        )
    edges = mel_to_hz(np.linspace(hz_to_mel(f_min), hz_to_mel(f_max), bands + 2))
    at = np.linspace(0, nyquist, bins)
    rising = (at - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - at) / np.diff(edges)[1:, None]
    bank = np.maximum(0, np.minimum(rising, falling))
    if not bank.any(axis=1).all():
        k = int(np.argmin(bank.any(axis=1)))
        raise ParameterError(
            f"mel band {k} of {bands} holds no frequency bin: take fewer bands or more than {bins} bins."
        )
    return bank


def log_mel(audio: np.ndarray, rate: int, bands: int = 140, dt: float = 10.0) -> np.ndarray:
    """Log mel spectrum of one clip, float32 [T, bands]: ln(power + 10⁻⁶) of int16 full scale = 1.

    Frame t is the spectrum of 25 ms (Hann) around its middle (t + ½)·dt; T = ⌈length / dt⌉.

    audio  int16 or float [n], at `rate` samples per second

    Raises `ParameterError` for a `dt` (ms) that is no whole number of samples, `DataError` for no samples.
    """
    hop = rate * dt / 1000
    if hop != int(hop) or hop < 1:
        raise ParameterError(f"dt = {dt} ms is {hop} samples at {rate} Hz; it must be a whole number.")
    step = int(hop)
    window = signal.get_window("hann", round(rate * _WINDOW_MS / 1000))
    points = 1 << (8 * len(window) - 1).bit_length() - 1  # fine enough for 140 narrow bands
    sound = audio / 32768 if audio.dtype.kind == "i" else np.asarray(audio, np.float64)
    if len(sound) == 0:
        raise DataError("a clip without samples has no spectrum.")
    count = -(-len(sound) // step)
    left = (len(window) - step) // 2
    padded: np.ndarray = np.zeros(max(left, 0) + count * step + len(window))
    start = max(left, 0)
    padded[start : start + len(sound)] = sound
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))
    frames = frames[max(-left, 0) :: step][:count]
    power = np.abs(fft.rfft(frames * window, points)) ** 2 / np.sum(window) ** 2
    bank = filter_bank(bands, points // 2 + 1, rate)
    return np.log(power @ bank.T + _FLOOR).astype(np.float32)


def mel_frames(recordings: Recordings, dt: float = 10.0, bands: int = 140, *, cache: bool = True) -> Frames:
    """Every clip's log mel spectrum; batches are standardised by mean and deviation over the train part.

    Frames of `bands` channels in steps of `dt` ms. Kept under `files.cache_folder()` unless `cache` is False.
    Raises as `log_mel` and `filter_bank` do.
    """
    settings = {
        "version": _VERSION,
        "samples": recordings.digest,
        "offsets": hashlib.sha256(recordings.offsets.astype("<i8").tobytes()).hexdigest(),
        "rate": recordings.rate,
        "dt": dt,
        "bands": bands,
        "train": hashlib.sha256(recordings.rows("train").tobytes()).hexdigest(),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:20]
    path = cache_folder() / "binned" / f"{recordings.name}-mel-{key}.h5"
    if cache and path.is_file():
        try:
            return _load(path, recordings, dt, bands)
        except DataError as error:
            _log.warning("%s is made anew: %s", path, error)
    hop = recordings.rate * dt / 1000
    lengths = np.ceil(np.diff(recordings.offsets) / hop).astype(np.int64)
    shape = (len(recordings), int(lengths.max(initial=0)), bands)
    if not cache:
        frames: np.ndarray = np.zeros(shape, np.float16)
        return _frames(frames, lengths, recordings, dt, *_fill(frames, recordings, dt, bands))
    with atomic_h5(path) as file:
        data = file.create_dataset("frames", shape, np.float16)
        mean, scale = _fill(data, recordings, dt, bands)
        file["lengths"] = lengths
        file.attrs["mean"], file.attrs["scale"] = mean, scale
        file.attrs["settings"] = json.dumps(settings)
    return _load(path, recordings, dt, bands)


def _fill(
    frames: np.ndarray | h5py.Dataset, recordings: Recordings, dt: float, bands: int
) -> tuple[float, float]:
    """Write the spectra, silence as the floor, and return mean and deviation over the train part."""
    train = np.zeros(len(recordings), bool)
    train[recordings.rows("train")] = True
    if not train.any():
        train[:] = True
    shift = np.log(_FLOOR) / 2  # near the mean, so that the squares do not cancel
    count, total, square = 0, 0.0, 0.0

    def spectrum(i: int) -> np.ndarray:
        return log_mel(recordings[i][0], recordings.rate, bands, dt)

    with ThreadPoolExecutor(cores()) as pool:
        for lo in range(0, len(recordings), 256):
            part = range(lo, min(lo + 256, len(recordings)))
            block: np.ndarray = np.full((len(part), *frames.shape[1:]), np.log(_FLOOR), np.float16)
            for k, (i, values) in enumerate(zip(part, pool.map(spectrum, part), strict=True)):
                block[k, : len(values)] = values
                if train[i]:
                    shifted = values.astype(np.float64) - shift
                    count, total = count + values.size, total + float(shifted.sum())
                    square += float((shifted**2).sum())
            frames[lo : lo + len(part)] = block
    mean = total / max(count, 1)
    scale = float(np.sqrt(max(square / max(count, 1) - mean**2, 0.0)))
    return float(mean + shift), scale or 1.0


def _load(path: Path, recordings: Recordings, dt: float, bands: int) -> Frames:
    with open_h5(path) as file:
        try:
            frames: h5py.Dataset = file["frames"]
            lengths = file["lengths"][:]
            mean, scale = float(file.attrs["mean"]), float(file.attrs["scale"])
        except (KeyError, OSError) as error:
            raise DataError(f"{path} is damaged ({error}).") from error
        if len(lengths) != len(recordings) or frames.shape[2] != bands:
            raise DataError(f"{path} holds {frames.shape}, expected {len(recordings)} clips.")
        return _frames(mapped(path, frames), lengths, recordings, dt, mean, scale)


def _frames(
    frames: np.ndarray,
    lengths: np.ndarray,
    recordings: Recordings,
    dt: float,
    mean: float,
    scale: float,
) -> Frames:
    return Frames(
        frames=frames,
        lengths=lengths,
        labels=recordings.labels,
        speakers=recordings.speakers,
        classes=recordings.classes,
        dt=dt,
        channels=frames.shape[2],
        name=recordings.name,
        mean=mean,
        scale=scale,
    )
