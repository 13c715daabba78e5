"""Spoken words as spikes: FSDD, Arabic Speech Commands, Google Speech Commands, synthetic voices.

Each is sound (`Recordings`), turned into spikes of 700 channels by the cochlea (`cochlea.encode`)
once and kept on disk in the layout of SHD.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from ..errors import DataError, ParameterError
from ..files import PathLike, cache_folder, exclusive
from . import download
from .event_data import EventDataset, Transform, read_events, write_events
from .recordings import (
    DIGITS,
    PARTS,
    Recordings,
    check_samples,
    data_folder,
    join,
    read_packed,
    read_wav,
    search_path,
    write_packed,
)

_VERSION = 1  # part of the key of encoded spikes: raise it when the cochlea gives other spikes

SYNTHETIC_ATTRIBUTION = (
    "Synthetic voices of eSpeak NG, https://github.com/espeak-ng/espeak-ng; no recordings."
)

FSDD_REVISION = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
FSDD = download.Remote(f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{FSDD_REVISION}.zip")
FSDD_SAMPLES = "4e0317650d9c876eeda8788b4d4132af747e323d495a3da12c9bce9bc456a45f"
FSDD_ATTRIBUTION = (
    "Free Spoken Digit Dataset, Zohar Jackson, César Souza, Jason Flaks, Yuxin Pan, Hereman Nicolas, Adhish "
    "Thite and the speakers, https://doi.org/10.5281/zenodo.1342401, CC BY-SA 4.0 "
    "(https://creativecommons.org/licenses/by-sa/4.0/)."
)

ASC_REVISION = "72f3438212ff6cf8fbe5ae8068361840646429bd"
ASC = download.Remote(
    f"https://github.com/abdulkaderghandoura/arabic-speech-commands-dataset/archive/{ASC_REVISION}.zip"
)
ASC_SAMPLES = "110b072bebf6e6e4ee30d08dd4e33449459689afbe3594464c22db18dd652c7f"
ASC_ATTRIBUTION = (
    "Arabic Speech Commands Dataset, Abdulkader Ghandoura, Farouk Hjabo, Oumayma Al Dakkak, Engineering "
    "Applications of Artificial Intelligence 2021, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); "
    "20 of its 40 words, takes 1 to 5, at 8 kHz."
)
ASC_WORDS = (
    *("backward", "cancel", "close", "down", "enter", "forward", "left", "move", "next", "no"),
    *("ok", "open", "previous", "record", "right", "send", "start", "stop", "up", "yes"),
)
ASC_SPEAKERS = {"valid": (2, 7, 8, 12, 21, 25), "test": (3, 4, 10, 14, 26, 28)}

GSC_ARCHIVE = download.Remote(
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
GSC_ATTRIBUTION = (
    "Speech Commands v0.02, Pete Warden, arXiv:1804.03209, CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/)."
)


# ------------------------------------------------------------------------------------------- sound


def spoken_digits(root: PathLike | None = None, *, fetch: bool = True, progress: bool = True) -> Recordings:
    """The Free Spoken Digit Dataset: ten English digits, 6 speakers, 3,000 clips, 8 kHz.

    Taken from the packed ``fsdd.h5`` or the corpus's own ``recordings/*.wav`` under `root` (default
    ``SNNKIT_DATA``, then the cache), else downloaded there at its pinned revision. The samples'
    checksum is checked in every case. Official split: takes 0 to 4 are the test part, no valid part.
    """
    for folder in search_path(root, "fsdd", f"free-spoken-digit-dataset-{FSDD_REVISION}", "recordings"):
        if (folder / "fsdd.h5").is_file():
            return check_samples(
                read_packed(folder / "fsdd.h5", "spoken_digits", FSDD_ATTRIBUTION), FSDD_SAMPLES
            )
        for wavs in (folder, folder / "recordings"):
            if next(wavs.glob("[0-9]_*_[0-9]*.wav"), None) is not None:
                return check_samples(_fsdd_wavs(wavs), FSDD_SAMPLES)
    target = _target(root, f"free-spoken-digit-dataset-{FSDD_REVISION}.zip")
    _must_fetch("Free Spoken Digit Dataset", fetch, "fsdd.h5 or recordings/*.wav", FSDD, target)
    download.fetch(FSDD, target, progress=progress, attribution=FSDD_ATTRIBUTION)
    folder = download.unpack(target, target.with_suffix(""), ("/recordings/",))
    return check_samples(_fsdd_wavs(next(p for p in folder.rglob("recordings") if p.is_dir())), FSDD_SAMPLES)


def _fsdd_wavs(folder: Path) -> Recordings:
    found = []
    for path in folder.glob("[0-9]_*_[0-9]*.wav"):
        digit, speaker, take = path.stem.split("_")
        found.append((speaker, int(digit), int(take), path))
    found.sort()
    clips = []
    for *_, path in found:
        samples, rate = read_wav(path)
        if rate != 8000:
            raise DataError(f"{path} has {rate} Hz, expected 8000 Hz.")
        clips.append(samples)
    samples, offsets = join(clips)
    names = sorted({speaker for speaker, *_ in found})
    return Recordings(
        "spoken_digits",
        samples,
        offsets,
        np.array([digit for _, digit, _, _ in found]),
        np.array([names.index(speaker) for speaker, *_ in found]),
        np.array([PARTS.index("test" if take < 5 else "train") for _, _, take, _ in found]),
        [path.stem for *_, path in found],
        list(DIGITS),
        dict(enumerate(names)),
        8000,
        str(folder),
        FSDD_ATTRIBUTION,
    )


def spoken_words(root: PathLike | None = None, *, fetch: bool = True, progress: bool = True) -> Recordings:
    """Twenty words of the Arabic Speech Commands: 30 speakers, 5 takes each, 3,000 clips of 1 s, 8 kHz.

    Taken from the packed ``asc_words.h5`` or the corpus's own ``dataset/WORD/*.wav`` (16 kHz, halved
    here) under `root` (default ``SNNKIT_DATA``, then the cache), else downloaded at its pinned
    revision; the samples' checksum is checked in every case. Official split by speaker: 18 train,
    6 valid, 6 test.
    """
    for folder in search_path(root, "asc", f"arabic-speech-commands-dataset-{ASC_REVISION}"):
        if (folder / "asc_words.h5").is_file():
            return check_samples(
                read_packed(folder / "asc_words.h5", "spoken_words", ASC_ATTRIBUTION), ASC_SAMPLES
            )
        for wavs in (folder, folder / "dataset"):
            if (wavs / "backward").is_dir() and next((wavs / "backward").glob("*_NO_*.wav"), None):
                return check_samples(_asc_wavs(wavs), ASC_SAMPLES)
    target = _target(root, f"arabic-speech-commands-dataset-{ASC_REVISION}.zip")
    _must_fetch("Arabic Speech Commands", fetch, "asc_words.h5 or dataset/WORD/*.wav", ASC, target)
    download.fetch(ASC, target, progress=progress, attribution=ASC_ATTRIBUTION)
    folder = download.unpack(target, target.with_suffix(""), tuple(f"/dataset/{word}/" for word in ASC_WORDS))
    return check_samples(_asc_wavs(next(p for p in folder.rglob("dataset") if p.is_dir())), ASC_SAMPLES)


def _asc_wavs(folder: Path) -> Recordings:
    found = []
    for label, word in enumerate(ASC_WORDS):
        for path in sorted((folder / word).glob("*_NO_*.wav")):
            speaker, take = (int(n) for n in path.stem.split("_NO_"))
            if take <= 5:
                found.append((label, speaker, take, path))
    clips = []
    for *_, path in found:
        samples, rate = read_wav(path)
        if rate != 16000:
            raise DataError(f"{path} has {rate} Hz, expected 16000 Hz.")
        halved = np.rint(signal.resample_poly(samples.astype(np.float64), 1, 2))
        clips.append(np.clip(halved, -32768, 32767).astype(np.int16))
    samples, offsets = join(clips)
    part_of = {speaker: PARTS.index(part) for part, group in ASC_SPEAKERS.items() for speaker in group}
    speakers = np.array([speaker for _, speaker, _, _ in found])
    return Recordings(
        "spoken_words",
        samples,
        offsets,
        np.array([label for label, *_ in found]),
        speakers,
        np.array([part_of.get(int(s), PARTS.index("train")) for s in speakers]),
        [f"{path.parent.name}/{path.stem}" for *_, path in found],
        list(ASC_WORDS),
        {int(s): str(s) for s in np.unique(speakers)},
        8000,
        str(folder),
        ASC_ATTRIBUTION,
    )


def google_speech_commands(
    root: PathLike | None = None, *, fetch: bool = True, progress: bool = True
) -> Recordings:
    """Google Speech Commands v0.02: 35 words, about 105,800 clips of at most 1 s, 16 kHz.

    Taken from its unpacked folder (the one with ``validation_list.txt``) under `root`, else downloaded
    (2.3 GB). Official split by the two lists, which is by speaker.
    """
    below = ("gsc", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02")
    for folder in search_path(root, *below):
        if (folder / "validation_list.txt").is_file():
            return _gsc_wavs(folder)
    target = _target(root, GSC_ARCHIVE.name)
    _must_fetch("Google Speech Commands", fetch, "validation_list.txt and WORD/*.wav", GSC_ARCHIVE, target)
    download.fetch(GSC_ARCHIVE, target, progress=progress, attribution=GSC_ATTRIBUTION)
    return _gsc_wavs(download.unpack(target, target.parent / "gsc"))


def _gsc_wavs(folder: Path) -> Recordings:
    lists = {}
    for part, file in (("valid", "validation_list.txt"), ("test", "testing_list.txt")):
        if not (folder / file).is_file():
            raise DataError(f"{folder} has no {file}, which says which clips are the {part} part.")
        lists[part] = set((folder / file).read_text().split())
    words = sorted(
        p.name
        for p in folder.iterdir()
        if p.is_dir() and not p.name.startswith(("_", ".")) and next(p.glob("*.wav"), None)
    )
    paths = [path for word in words for path in sorted((folder / word).glob("*.wav"))]
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    for part, listed in lists.items():
        if missing := sorted(listed - set(names)):
            raise DataError(
                f"{folder}: {len(missing)} clips of the {part} list are missing, the first {missing[0]}."
            )
    clips = []
    for path in paths:
        samples, rate = read_wav(path)
        if rate != 16000:
            raise DataError(f"{path} has {rate} Hz, expected 16000 Hz.")
        clips.append(samples)
    samples, offsets = join(clips)
    said_by = [path.stem.split("_nohash_")[0] for path in paths]
    speakers, numbers = np.unique(said_by, return_inverse=True)
    parts = [2 if n in lists["test"] else 1 if n in lists["valid"] else 0 for n in names]
    return Recordings(
        "gsc",
        samples,
        offsets,
        np.array([words.index(path.parent.name) for path in paths]),
        numbers,
        np.array(parts),
        names,
        words,
        {i: str(s) for i, s in enumerate(speakers)},
        16000,
        str(folder),
        GSC_ATTRIBUTION,
    )


def synthetic_digits(
    voices: int = 30, takes: int = 3, *, seed: int = 0, workers: int | None = None
) -> Recordings:
    """English and German digits (20 classes, as SHD) spoken by synthetic voices in babble; about 1 s, 16 kHz.

    A fifth of the voices is the test part. Needs the extra ``voices``; the sound is kept in the cache.

    voices  how many speakers, 5 to 75; takes of every word by each
    seed    of the variation between takes and of the babble
    """
    from . import voices as synthesis

    if not 5 <= voices <= len(synthesis.VARIANTS):
        raise ParameterError(f"voices = {voices}: expected 5 to {len(synthesis.VARIANTS)}.")
    # The list of voices is sorted by name; mixed, any number of them has men, women and whisperers.
    who = np.random.default_rng(0).permutation(len(synthesis.VARIANTS))[:voices]
    version = metadata.version("espeakng-loader") if find_spec("espeakng_loader") else "absent"
    text = json.dumps([_VERSION, version, voices, takes, seed])
    path = cache_folder() / "sound" / f"synthetic_digits-{hashlib.sha256(text.encode()).hexdigest()[:20]}.h5"
    if not path.is_file():
        made = synthesis.synthesise_digits(sorted(int(i) for i in who), takes, seed, workers=workers)
        samples, offsets = join(made.clips)
        test = np.isin(made.speakers, who[: voices // 5])
        names = {int(i): synthesis.VARIANTS[i] for i in who}
        seen: dict[tuple[int, int], int] = {}
        clips = []
        for label, number in zip(made.labels.tolist(), made.speakers.tolist(), strict=True):
            seen[label, number] = seen.get((label, number), -1) + 1
            clips.append(f"{synthesis.WORDS[label]}/{names[number]}/{seen[label, number]}")
        written = Recordings(
            "synthetic_digits",
            samples,
            offsets,
            made.labels,
            made.speakers,
            np.where(test, PARTS.index("test"), PARTS.index("train")),
            clips,
            list(synthesis.WORDS),
            names,
            made.rate,
            "synthetic voices",
            SYNTHETIC_ATTRIBUTION,
            synthetic=True,
        )
        write_packed(path, written, {"settings": text})
    recordings = read_packed(path, "synthetic_digits", SYNTHETIC_ATTRIBUTION)
    return replace(recordings, where="synthetic voices (eSpeak NG)", synthetic=True)


def _target(root: PathLike | None, name: str) -> Path:
    return (data_folder() if root is None else Path(root)) / name


def _must_fetch(title: str, fetch: bool, what: str, remote: download.Remote, target: Path) -> None:
    if not fetch:
        raise download.Unreachable(
            f"{title}: no {what} in {target.parent} nor SNNKIT_DATA, and fetch is False. Fetch {remote.url} "
            f"and put it at {target}."
        )


# ------------------------------------------------------------------------------------------ spikes


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
    from . import cochlea

    settings = {
        "version": _VERSION,
        "samples": recordings.digest,
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
    from . import cochlea

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


def _part(data: EventDataset, recordings: Recordings, split: str) -> EventDataset:
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


def SpokenDigits(root: PathLike | None = None, split: str = "train", **options: Any) -> EventDataset:
    """Events of `spoken_digits` ("train", "test" or "all"); options as for `encoded`."""
    recordings = spoken_digits(root)
    return _part(encoded(recordings, **options), recordings, split)


def SpokenWords(root: PathLike | None = None, split: str = "train", **options: Any) -> EventDataset:
    """Events of `spoken_words` ("train", "valid", "test" or "all"); options as for `encoded`."""
    recordings = spoken_words(root)
    return _part(encoded(recordings, **options), recordings, split)


def GSC(root: PathLike | None = None, split: str = "train", **options: Any) -> EventDataset:
    """Events of `google_speech_commands`; options as for `encoded`."""
    recordings = google_speech_commands(root)
    return _part(encoded(recordings, **options), recordings, split)


def SyntheticDigits(split: str = "train", voices: int = 30, takes: int = 3, **options: Any) -> EventDataset:
    """Events of `synthetic_digits` ("train", "test" or "all"); options as for `encoded`."""
    recordings = synthetic_digits(voices, takes, seed=options.get("seed", 0), workers=options.get("workers"))
    return _part(encoded(recordings, **options), recordings, split)


@dataclass(frozen=True)
class Resolved:
    """Which spoken digits there are: `name` for `datasets.load`, whether they are synthetic, and why."""

    name: str
    synthetic: bool
    where: str


def resolve_spoken_digits(root: PathLike | None = None, *, fetch: bool = True) -> Resolved:
    """The recordings of FSDD if they can be reached, else the synthetic voices."""
    try:
        return Resolved("spoken_digits", False, spoken_digits(root, fetch=fetch).where)
    except download.Unreachable as error:
        return Resolved("synthetic_digits", True, f"synthetic voices, since {error}")


SOUND: dict[str, Callable[..., Recordings]] = {
    "spoken_digits": spoken_digits,
    "spoken_words": spoken_words,
    "gsc": google_speech_commands,
}
