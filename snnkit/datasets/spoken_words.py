"""Twenty words of the Arabic Speech Commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from ..files import PathLike
from . import download
from .encoding import encoded_part
from .event_data import EventDataset
from .folders import archive_of, search_path
from .recordings import PARTS, Recordings
from .sound_files import check_samples, join, read_packed, read_wavs
from .table import DATASETS

REVISION = "72f3438212ff6cf8fbe5ae8068361840646429bd"
FOLDER = f"arabic-speech-commands-dataset-{REVISION}"
ARCHIVE = download.Remote(
    f"https://github.com/abdulkaderghandoura/arabic-speech-commands-dataset/archive/{REVISION}.zip"
)
SAMPLES = "110b072bebf6e6e4ee30d08dd4e33449459689afbe3594464c22db18dd652c7f"
"""sha256 of all samples end to end."""

WORDS = (
    *("backward", "cancel", "close", "down", "enter", "forward", "left", "move", "next", "no"),
    *("ok", "open", "previous", "record", "right", "send", "start", "stop", "up", "yes"),
)
SPEAKERS = {"valid": (2, 7, 8, 12, 21, 25), "test": (3, 4, 10, 14, 26, 28)}
"""Who is in which official part; the others are train."""

ROW = DATASETS["spoken_words"]


def spoken_words(root: PathLike | None = None, *, fetch: bool = True, progress: bool = True) -> Recordings:
    """Twenty words of the Arabic Speech Commands: 30 speakers, 5 takes each, 3,000 clips of 1 s, 8 kHz.

    Taken from the packed ``asc_words.h5`` or the corpus's own ``dataset/WORD/*.wav`` (16 kHz, halved
    here) under `root` (default ``SNNKIT_DATA``, then the cache), else downloaded at its pinned
    revision; the samples' checksum is checked in every case. Official split by speaker: 18 train,
    6 valid, 6 test.

    Raises `download.Unreachable` where it is nowhere, `ChecksumError` for another version.
    """
    for folder in search_path(root, "asc", FOLDER):
        if (folder / "asc_words.h5").is_file():
            return check_samples(read_packed(folder / "asc_words.h5", ROW.name, ROW.attribution), SAMPLES)
        for wavs in (folder, folder / "dataset"):
            if (wavs / "backward").is_dir() and next((wavs / "backward").glob("*_NO_*.wav"), None):
                return check_samples(_from_wavs(wavs), SAMPLES)
    archive = archive_of(ROW, ARCHIVE, root, f"{FOLDER}.zip", fetch=fetch, progress=progress)
    folder = download.unpack(archive, archive.with_suffix(""), tuple(f"/dataset/{word}/" for word in WORDS))
    return check_samples(_from_wavs(next(p for p in folder.rglob("dataset") if p.is_dir())), SAMPLES)


def SpokenWords(root: PathLike | None = None, split: str = "train", **options: Any) -> EventDataset:
    """Events of `spoken_words` ("train", "valid", "test" or "all"); options as for `encoding.encoded`."""
    return encoded_part(spoken_words(root), split, **options)


def _from_wavs(folder: Path) -> Recordings:
    found = []
    for label, word in enumerate(WORDS):
        for path in sorted((folder / word).glob("*_NO_*.wav")):
            speaker, take = (int(n) for n in path.stem.split("_NO_"))
            if take <= 5:
                found.append((label, speaker, path))
    clips = []
    for samples in read_wavs([path for *_, path in found], 16000):
        halved = np.rint(signal.resample_poly(samples.astype(np.float64), 1, 2))
        clips.append(np.clip(halved, -32768, 32767).astype(np.int16))
    samples, offsets = join(clips)
    part_of = {speaker: PARTS.index(part) for part, group in SPEAKERS.items() for speaker in group}
    speakers = np.array([speaker for _, speaker, _ in found])
    return Recordings(
        name=ROW.name,
        samples=samples,
        offsets=offsets,
        labels=np.array([label for label, *_ in found]),
        speakers=speakers,
        part=np.array([part_of.get(int(s), PARTS.index("train")) for s in speakers]),
        clips=[f"{path.parent.name}/{path.stem}" for *_, path in found],
        classes=list(WORDS),
        speaker_names={int(s): str(s) for s in np.unique(speakers)},
        rate=8000,
        where=str(folder),
        attribution=ROW.attribution,
    )
