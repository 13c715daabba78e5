"""The first stage: sound → the working rate, a fixed level, soft flanks."""

from __future__ import annotations

import math

import numpy as np
from scipy import signal

from ...errors import DataError, ParameterError, ShapeError
from .settings import Cochlea


def prepare(audio: np.ndarray, rate: int, settings: Cochlea) -> np.ndarray:
    """Sound at the working rate, scaled to `rms`, with Hann flanks. ``[n]`` → float64 ``[m]``.

    rate  samples per second of `audio`; m = n · settings.sample_rate / rate, rounded up

    Raises `ShapeError` for what is no one-dimensional array of numbers, `ParameterError` for a rate that is
    no whole number from 100, `DataError` for a NaN, an infinity, silence or fewer than 4 samples.
    """
    sound = np.asarray(audio)
    if sound.ndim != 1 or sound.dtype.kind not in "fiu":
        raise ShapeError(
            f"A sound is one-dimensional, float or integer, got shape {sound.shape} of {sound.dtype}; "
            "choose or average the channels of a stereo recording first."
        )
    if isinstance(rate, bool) or rate != int(rate) or rate < 100:
        raise ParameterError(f"rate is the sound's samples per second, a whole number, got {rate!r}.")
    sound = sound.astype(np.float64)
    if not np.isfinite(sound).all():
        raise DataError(f"The sound has a NaN or an infinity at sample {int(np.argmin(np.isfinite(sound)))}.")
    target = settings.sample_rate or int(rate)
    if len(sound) and target != rate:
        divisor = math.gcd(target, int(rate))
        sound = signal.resample_poly(sound, target // divisor, int(rate) // divisor)
    if len(sound) < 4:
        raise DataError(f"The sound has {len(audio)} samples at {rate} Hz: too short to encode.")
    level = math.sqrt(np.mean(sound**2))
    if level == 0:
        raise DataError("The sound is silent (every sample is 0): it has no level to normalise to.")
    sound = sound * (settings.rms / level)
    half = len(sound) // 2
    flank = half if settings.flank_ms is None else min(half, round(settings.flank_ms * target / 1000))
    if flank:
        ramp = np.hanning(2 * flank)[:flank]
        sound[:flank] *= ramp
        sound[len(sound) - flank :] *= ramp[::-1]
    return sound
