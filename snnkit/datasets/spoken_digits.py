"""The Free Spoken Digit Dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..files import PathLike
from . import download
from .encoding import encoded_part
from .event_data import EventDataset
from .folders import archive_of, search_path
from .recordings import PARTS, Recordings
from .sound_files import DIGITS, check_samples, join, read_packed, read_wavs
from .table import DATASETS

REVISION = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
FOLDER = f"free-spoken-digit-dataset-{REVISION}"
ARCHIVE = download.Remote(f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{REVISION}.zip")
SAMPLES = "4e0317650d9c876eeda8788b4d4132af747e323d495a3da12c9bce9bc456a45f"
"""sha256 of all samples end to end."""

ROW = DATASETS["spoken_digits"]


def spoken_digits(root: PathLike | None = None, *, fetch: bool = True, progress: bool = True) -> Recordings:
    """The Free Spoken Digit Dataset: ten English digits, 6 speakers, 3,000 clips, 8 kHz.

    Taken from the packed ``fsdd.h5`` or the corpus's own ``recordings/*.wav`` under `root` (default
    ``SNNKIT_DATA``, then the cache), else downloaded there at its pinned revision. The samples'
    checksum is checked in every case. Official split: takes 0 to 4 are the test part, no valid part.

    Raises `download.Unreachable` where it is nowhere, `ChecksumError` for another version.
    """
    for folder in search_path(root, "fsdd", FOLDER, "recordings"):
        if (folder / "fsdd.h5").is_file():
            return check_samples(read_packed(folder / "fsdd.h5", ROW.name, ROW.attribution), SAMPLES)
        for wavs in (folder, folder / "recordings"):
            if next(wavs.glob("[0-9]_*_[0-9]*.wav"), None) is not None:
                return check_samples(_from_wavs(wavs), SAMPLES)
    archive = archive_of(ROW, ARCHIVE, root, f"{FOLDER}.zip", fetch=fetch, progress=progress)
    folder = download.unpack(archive, archive.with_suffix(""), ("/recordings/",))
    return check_samples(_from_wavs(next(p for p in folder.rglob("recordings") if p.is_dir())), SAMPLES)


def SpokenDigits(root: PathLike | None = None, split: str = "train", **options: Any) -> EventDataset:
    """Events of `spoken_digits` ("train", "test" or "all"); options as for `encoding.encoded`."""
    return encoded_part(spoken_digits(root), split, **options)


def _from_wavs(folder: Path) -> Recordings:
    found = []
    for path in folder.glob("[0-9]_*_[0-9]*.wav"):
        digit, speaker, take = path.stem.split("_")
        found.append((speaker, int(digit), int(take), path))
    found.sort()
    samples, offsets = join(read_wavs([path for *_, path in found], 8000))
    names = sorted({speaker for speaker, *_ in found})
    return Recordings(
        name=ROW.name,
        samples=samples,
        offsets=offsets,
        labels=np.array([digit for _, digit, _, _ in found]),
        speakers=np.array([names.index(speaker) for speaker, *_ in found]),
        part=np.array([PARTS.index("test" if take < 5 else "train") for _, _, take, _ in found]),
        clips=[path.stem for *_, path in found],
        classes=list(DIGITS),
        speaker_names=dict(enumerate(names)),
        rate=8000,
        where=str(folder),
        attribution=ROW.attribution,
    )
