"""Recordings → spikes of the cochlea, once, kept on disk in the layout of SHD."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import ParameterError
from ..files import cache_folder, exclusive
from . import cochlea
from .event_data import EventDataset, Transform
from .event_files import read_events, write_events
from .recordings import PARTS, Recordings

_VERSION = 1  # part of the key of encoded spikes: raise it when the cochlea gives other spikes


def encoded(
    recordings: Recordings,
    *,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    transform: Transform | None = None,
    target_transform: Transform | None = None,
) -> EventDataset:
    """The recordings as spikes of the cochlea, encoded once and kept in the cache folder.

    The file's name holds a hash of the samples' checksum, the cochlea's constants and the seed.
    """
    settings = {
        "version": _VERSION,
        "samples": recordings.digest,
        "offsets": hashlib.sha256(recordings.offsets.astype("<i8").tobytes()).hexdigest(),
        "rate": recordings.rate,
        "cochlea": asdict(cochlea.Cochlea()),
        "seed": seed,
        # what the clips are called is no part of their sound, but of the file
        "labels": hashlib.sha256(recordings.labels.tobytes() + recordings.speakers.tobytes()).hexdigest(),
        "classes": recordings.classes,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:20]
    path = cache_folder() / "events" / f"{recordings.name}-{key}.h5"
    if not path.is_file():
        with exclusive(path):
            if not path.is_file():
                _encode(path, key, settings, recordings, seed, workers, progress)
    return read_events(path, transform=transform, target_transform=target_transform)


def _encode(
    path: Path,
    key: str,
    settings: dict[str, Any],
    recordings: Recordings,
    seed: int,
    workers: int | None,
    progress: bool,
) -> None:
    def spikes(block: int = 4096) -> Iterator[cochlea.Spikes]:
        for lo in range(0, len(recordings), block):
            yield from cochlea.encode_many(
                [recordings[i][0] for i in range(lo, min(lo + block, len(recordings)))],
                recordings.rate,
                seed if lo == 0 else cochlea.clip_seed(seed, lo),
                workers=workers,
                progress=progress,
            )

    write_events(
        path,
        spikes(),
        recordings.labels,
        recordings.speakers,
        recordings.classes,
        attributes={
            "name": recordings.name,
            "key": key,
            "seed": seed,
            "sound_rate": recordings.rate,
            "cochlea": settings["cochlea"],
            "samples_sha256": recordings.digest,
            "attribution": recordings.attribution,
            "synthetic": recordings.synthetic,
        },
    )


def encoded_part(recordings: Recordings, split: str, **options: Any) -> EventDataset:
    """The spikes of an official part, or of "all"; options as for `encoded`.

    Raises `ParameterError` for a part that the recordings do not have, once all are encoded.
    """
    data = encoded(recordings, **options)
    if split == "all":
        return data
    if split not in PARTS:
        raise ParameterError(f"split is one of all, {', '.join(PARTS)}; got {split!r}.")
    rows = recordings.rows(split)
    if len(rows) == 0:
        raise ParameterError(
            f"{recordings.name} has no official {split} part; datasets.load carves one from train."
        )
    return data.subset(rows)
