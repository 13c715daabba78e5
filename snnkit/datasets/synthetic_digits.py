"""Digits spoken by the synthetic voices of `voices`, kept on disk, as recordings like any other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..files import cache_folder
from . import voices as synthesis
from .encoding import encoded_part
from .event_data import EventDataset
from .recordings import PARTS, Recordings
from .sound_files import join, read_packed, write_packed
from .table import DATASETS

_VERSION = 1  # part of the key of the sound: raise it when `voices` gives other sound
ROW = DATASETS["synthetic_digits"]


def synthetic_digits(
    voices: int = 30,
    takes: int | None = None,
    *,
    limit: int | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Recordings:
    """English and German digits (20 classes, as SHD) spoken by synthetic voices in babble; about 1 s, 16 kHz.

    A fifth of the voices is the test part. Needs the extra ``voices``; the sound is kept in the cache.

    voices  how many speakers, 5 to 75
    takes   of every word by each; None: as many as `limit` leaves, else 3
    seed    of the variation between takes and of the babble

    Raises `ParameterError` for another number of voices.
    """
    if not 5 <= voices <= len(synthesis.VARIANTS):
        raise ParameterError(f"voices = {voices}: expected 5 to {len(synthesis.VARIANTS)}.")
    takes = takes or limit or 3
    # The list of voices is sorted by name; mixed, any number of them has men, women and whisperers.
    who = np.random.default_rng(0).permutation(len(synthesis.VARIANTS))[:voices]
    version = metadata.version("espeakng-loader") if find_spec("espeakng_loader") else "absent"
    text = json.dumps([_VERSION, version, voices, takes, seed])
    path = cache_folder() / "sound" / f"{ROW.name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.h5"
    if not path.is_file():
        spoken = synthesis.synthesise_digits(sorted(int(i) for i in who), takes, seed, workers=workers)
        write_packed(path, _recordings(spoken, who, voices // 5), {"settings": text})
    recordings = read_packed(path, ROW.name, ROW.attribution)
    return replace(recordings, where="synthetic voices (eSpeak NG)", synthetic=True)


def SyntheticDigits(split: str = "train", voices: int = 30, takes: int = 3, **options: Any) -> EventDataset:
    """Events of `synthetic_digits` ("train", "test" or "all"); options as for `encoding.encoded`."""
    recordings = synthetic_digits(voices, takes, seed=options.get("seed", 0), workers=options.get("workers"))
    return encoded_part(recordings, split, **options)


def _recordings(spoken: synthesis.Digits, who: np.ndarray, tested: int) -> Recordings:
    """The clips of the voices `who`, the first `tested` of which are the test part."""
    samples, offsets = join(spoken.clips)
    names = {int(i): synthesis.VARIANTS[i] for i in who}
    take_of: dict[tuple[int, int], int] = {}
    clips = []
    for label, number in zip(spoken.labels.tolist(), spoken.speakers.tolist(), strict=True):
        take_of[label, number] = take_of.get((label, number), -1) + 1
        clips.append(f"{synthesis.WORDS[label]}/{names[number]}/{take_of[label, number]}")
    test = np.isin(spoken.speakers, who[:tested])
    return Recordings(
        name=ROW.name,
        samples=samples,
        offsets=offsets,
        labels=spoken.labels,
        speakers=spoken.speakers,
        part=np.where(test, PARTS.index("test"), PARTS.index("train")),
        clips=clips,
        classes=list(synthesis.WORDS),
        speaker_names=names,
        rate=spoken.rate,
        where="synthetic voices",
        attribution=ROW.attribution,
        synthetic=True,
    )
