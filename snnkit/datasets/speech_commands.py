"""Google Speech Commands v0.02."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import PathLike, with_suffix
from . import download
from .encoding import encoded_part
from .event_data import EventDataset
from .folders import archive_of, search_path
from .recordings import PARTS, Recordings
from .sound_files import WAV, join, read_wavs
from .table import DATASETS

ARCHIVE = download.Remote(
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
ROW = DATASETS["gsc"]


def google_speech_commands(
    root: PathLike | None = None, *, fetch: bool = True, progress: bool = True
) -> Recordings:
    """Google Speech Commands v0.02: 35 words, about 105,800 clips of at most 1 s, 16 kHz.

    Taken from its unpacked folder (the one with ``validation_list.txt``) under `root`, else downloaded
    (2.3 GB). Official split by the two lists, which is by speaker.

    Raises `download.Unreachable` where it is nowhere, `DataError` for a list or clip that is missing.
    """
    below = ("gsc", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02")
    for folder in search_path(root, *below):
        if (folder / "validation_list.txt").is_file():
            return _from_wavs(folder)
    archive = archive_of(ROW, ARCHIVE, root, ARCHIVE.name, fetch=fetch, progress=progress)
    return _from_wavs(download.unpack(archive, archive.parent / "gsc"))


def GSC(root: PathLike | None = None, split: str = "train", **options: Any) -> EventDataset:
    """Events of `google_speech_commands`; options as for `encoding.encoded`."""
    return encoded_part(google_speech_commands(root), split, **options)


def _from_wavs(folder: Path) -> Recordings:
    lists = {}
    for part, file in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
        if not (folder / file).is_file():
            raise DataError(f"{folder} has no {file}, which says which clips are the {part} part.")
        lists[part] = set((folder / file).read_text().split())
    words = sorted(
        p.name
        for p in folder.iterdir()
        if p.is_dir() and not p.name.startswith(("_", ".")) and with_suffix(p, "*", WAV)
    )
    paths = [path for word in words for path in with_suffix(folder / word, "*", WAV)]
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    for part, listed in lists.items():
        if missing := sorted(listed - set(names)):
            raise DataError(
                f"{folder}: {len(missing)} clips of the {part} list are missing, the first {missing[0]}."
            )
    samples, offsets = join(read_wavs(paths, 16000))
    spoken_by = [path.stem.split("_nohash_")[0] for path in paths]
    speakers, numbers = np.unique(spoken_by, return_inverse=True)
    parts = ["test" if n in lists["test"] else "valid" if n in lists["valid"] else "train" for n in names]
    return Recordings(
        name=ROW.name,
        samples=samples,
        offsets=offsets,
        labels=np.array([words.index(path.parent.name) for path in paths]),
        speakers=numbers,
        part=np.array([PARTS.index(part) for part in parts]),
        clips=names,
        classes=words,
        speaker_names={i: str(s) for i, s in enumerate(speakers)},
        rate=16000,
        where=str(folder),
        attribution=ROW.attribution,
    )
