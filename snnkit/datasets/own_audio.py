"""Sound of one's own: ``[data] name = "audio"`` with a folder of WAVs, or a CSV that lists them."""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, ParameterError, choices
from ..files import PathLike, with_suffix
from .own_events import Dividing, found
from .recordings import PARTS, Recordings
from .rules import numbered_groups
from .sound_files import WAV, join, read_wavs_of_one_rate

_log = logging.getLogger("snnkit.datasets")

OTHER = (".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wma")
"""Endings of sound files that are not read, in small letters."""


class _Clip(NamedTuple):
    path: Path
    label: str
    group: str
    part: str


def audio(
    root: PathLike | None = None,
    *,
    table: str | None = None,
    groups: str | None = None,
    split: str = "auto",
    folds: int = 5,
    fold: int = 0,
    classes: tuple[str, ...] | None = None,
    channel: int | None = None,
    seed: int = 0,
) -> Recordings:
    """16-bit WAV files: ``root/WORD/*.wav``, or ``root/train/WORD/*.wav`` with valid and test, or a CSV's.

    table    a CSV under `root` with a head: path (under its folder), label, and perhaps speaker and part
             (train, valid, test)
    groups   a pattern whose first group is the speaker, sought in the file's name: ``"_(\\\\w+)_"``; for a
             CSV the column that names it, "speaker" if not given
    split    "auto" (the parts that folders or the CSV say, else by speakers where there are three, else
             at random), "random", "speakers" or "kfold" (`folds`, `fold`)
    classes  words that are taken, in label order; None: all, sorted
    channel  which is taken of files that have several, from 0; None: they are refused
    seed     of the split

    WAVs that lie beside those of a CSV and are not in it are left out, with a warning that names some.

    Raises `DataError` naming a folder without sound, a file that can't be read, a name without a speaker,
    `ParameterError` for an option that can't be.
    """
    if root is None and table is None:
        raise ParameterError('audio needs root = "FOLDER" with FOLDER/WORD/*.wav, or table = "FILE.csv".')
    if table is not None:
        where = found(root, table)
        clips = _listed(where, groups or "speaker", required=groups is not None)
    else:
        where = found(None, str(root))
        clips = _in_folders(where, groups)
    words = sorted({clip.label for clip in clips})
    if classes is not None:
        if unknown := [c for c in classes if c not in words]:
            raise ParameterError(
                f"classes names {unknown[0]!r}, which no clip is of{choices(unknown[0], words)}"
            )
        words = list(classes)
        clips = [clip for clip in clips if clip.label in words]
    known = all(clip.group for clip in clips)
    _all_or_none("part", [clip.part for clip in clips], clips, split in ("auto", "official"))
    _all_or_none(
        groups or "speaker", [clip.group for clip in clips], clips, split in ("auto", "speakers", "kfold")
    )
    numbers, names = numbered_groups([c.group for c in clips]) if known else (np.full(len(clips), -1), {})
    read, rate = read_wavs_of_one_rate([clip.path for clip in clips], channel)
    samples, offsets = join(read)
    label = {word: k for k, word in enumerate(words)}
    recordings = Recordings(
        name="audio",
        samples=samples,
        offsets=offsets,
        labels=np.array([label[clip.label] for clip in clips]),
        speakers=numbers,
        part=np.zeros(len(clips), np.int64),
        clips=[f"{clip.label}/{clip.path.name}" for clip in clips],
        classes=words,
        speaker_names=names,
        rate=rate,
        where=str(where),
        attribution="",
    )
    column = None
    if all(clip.part for clip in clips):
        column = np.array([PARTS.index(clip.part) for clip in clips])
    rule = Dividing(split=split, folds=folds, fold=fold, seed=seed)
    for part, rows in rule.rows(recordings, column).items():
        recordings.part[rows] = PARTS.index(part)
    return recordings


def _all_or_none(column: str, given: list[str], clips: list[_Clip], matters: bool) -> None:
    """Raise `DataError` naming a clip without a value where others have one and the split goes by it."""
    if matters and any(given) and not all(given):
        clip = clips[given.index("")]
        raise DataError(
            f"{clip.path} has no {column}, and {sum(map(bool, given))} of {len(given)} clips have one; give "
            "it for all, or take split = 'random'."
        )


def _in_folders(folder: Path, groups: str | None) -> list[_Clip]:
    try:
        pattern = re.compile(groups) if groups is not None else None
    except re.error as error:
        raise ParameterError(f"groups = {groups!r} is no pattern ({error}).") from error
    if pattern is not None and pattern.groups < 1:
        raise ParameterError(f"groups = {groups!r} has no group; put the speaker in brackets: '_(\\w+)_'.")
    parts = [part for part in PARTS if (folder / part).is_dir()]
    official = "train" in parts and with_suffix(folder / "train", "*/*", WAV)
    clips = []
    for part in parts if official else [""]:
        for path in with_suffix(folder / part, "*/*", WAV):
            who = ""
            if pattern is not None:
                match = pattern.search(path.name)
                if match is None or not match.group(1):
                    raise DataError(f"{path}: groups = {groups!r} finds no speaker in its name.")
                who = match.group(1)
            clips.append(_Clip(path, path.parent.name, who, part))
    if other := with_suffix(folder, "**/*", OTHER):
        said = f"{folder} has {len(other)} sound files that are no WAVs and are not read, as {other[0]}"
        if not clips:
            raise DataError(f"{said}; convert them.")
        _log.warning("%s.", said)
    if not clips:
        raise DataError(f"{folder} has no sound; expected {folder}/WORD/*.wav, a folder for each class.")
    return clips


def _listed(path: Path, groups: str, required: bool) -> list[_Clip]:
    """The clips of a CSV: path, label and perhaps the column `groups` and part."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            head = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = head
            lines: list[dict[str, Any]] = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no readable CSV ({error}).") from error
    needed = ["path", "label", *([groups] if required else [])]
    if missing := [name for name in needed if name not in head]:
        raise DataError(f"{path} has no column {missing[0]!r}; its head is {', '.join(head) or 'empty'}.")
    if not lines:
        raise DataError(f"{path} lists no clips.")
    clips = []
    for number, line in enumerate(lines, 2):
        where, label = (str(line[key] or "").strip() for key in ("path", "label"))
        part = str(line.get("part") or "").strip()
        if not where or not label or (part and part not in PARTS):
            raise DataError(
                f"{path}, line {number}: path {where!r}, label {label!r}, part {part!r}; path and "
                f"label must be given, and part is one of {', '.join(PARTS)}."
            )
        clips.append(_Clip(path.parent / where, label, str(line.get(groups) or "").strip(), part))
    _tell_unlisted(path, {clip.path.resolve() for clip in clips})
    return clips


def _tell_unlisted(table: Path, listed: set[Path]) -> None:
    """Warn of WAVs that are not in a CSV: those in the folders of its clips and in folders beside them."""
    home = table.parent.resolve()
    folders = {path.parent for path in listed}
    beside = {folder.parent for folder in folders if folder != home and folder.is_relative_to(home)}
    lying = {path for folder in folders for path in with_suffix(folder, "*", WAV)}
    lying |= {path for folder in beside for path in with_suffix(folder, "*/*", WAV)}
    if missing := sorted(path for path in lying if path.resolve() not in listed):
        _log.warning(
            "%s lists %d clips; %d WAVs beside them are not in it and are left out: %s%s.",
            table, len(listed), len(missing), ", ".join(map(str, missing[:3])), " …" * (len(missing) > 3),
        )  # fmt: skip
