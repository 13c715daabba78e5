"""The Heidelberg datasets: Spiking Heidelberg Digits (SHD) and Spiking Speech Commands (SSC).

Cramer, Stradmann, Schemmel and Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation
of Spiking Neural Networks", IEEE TNNLS 33(7), 2022.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ParameterError
from ..files import PathLike
from . import download
from .event_data import EventDataset
from .event_files import read_events
from .folders import home, search_path
from .recordings import PARTS
from .table import DATASETS

BASE = "https://zenkelab.org/datasets/"
MD5 = {
    "shd_train": "f3252aeb598ac776c1b526422d90eecb",
    "shd_test": "1503a5064faa34311c398fb0a1ed0a6f",
    "ssc_train": "d102be95e7144fcc0553d1f45ba94170",
    "ssc_valid": "b4eee3516a4a90dd0c71a6ac23a8ae43",
    "ssc_test": "a35ff1e9cffdd02a20eb850c17c37748",
}


def shd(
    root: PathLike | None = None, *, fetch: bool = True, progress: bool = True
) -> dict[str, EventDataset]:
    """Both parts of `SHD`, train and test, which are files of their own."""
    return {part: SHD(root, part, fetch=fetch, progress=progress) for part in ("train", "test")}


def ssc(
    root: PathLike | None = None, *, fetch: bool = True, progress: bool = True
) -> dict[str, EventDataset]:
    """The three parts of `SSC`, which are files of their own."""
    return {part: SSC(root, part, fetch=fetch, progress=progress) for part in PARTS}


def SHD(
    root: PathLike | None = None,
    split: str = "train",
    *,
    fetch: bool = True,
    progress: bool = True,
    **options: Any,
) -> EventDataset:
    """Spiking Heidelberg Digits: German and English digits, 20 classes, 700 channels; "train" or "test".

    Read from ``shd_train.h5`` or ``shd_train.h5.zip`` under `root` (default ``SNNKIT_DATA``, then the
    cache; tonic's own folder serves as well), else downloaded, md5 checked. Options as for `read_events`.

    Raises `download.Unreachable` where it is nowhere, `ChecksumError` for another archive.
    """
    path = _find("shd", ("train", "test"), split, root, fetch=fetch, progress=progress)
    return read_events(path, **options)


def SSC(
    root: PathLike | None = None,
    split: str = "train",
    *,
    fetch: bool = True,
    progress: bool = True,
    **options: Any,
) -> EventDataset:
    """Spiking Speech Commands: 35 words, 700 channels; "train", "valid" or "test". See `SHD`."""
    return read_events(_find("ssc", PARTS, split, root, fetch=fetch, progress=progress), **options)


def _find(
    name: str, parts: tuple[str, ...], split: str, root: PathLike | None, *, fetch: bool, progress: bool
) -> Path:
    if split not in parts:
        raise ParameterError(f"{name} has the parts {', '.join(parts)}; got {split!r}.")
    stem = f"{name}_{split}"
    remote = download.Remote(f"{BASE}{stem}.h5.zip", MD5[stem], "md5")
    folders = search_path(root, name, name.upper(), "hsd")
    for folder in folders:
        if (folder / f"{stem}.h5").is_file():
            return folder / f"{stem}.h5"
    archive = next(
        (f / remote.name for f in folders if (f / remote.name).is_file()), home(root) / remote.name
    )
    if not fetch and not archive.is_file():
        raise download.Unreachable(
            f"{stem}.h5 is not in {', '.join(map(str, folders))}, and fetch is False. Fetch {remote.url} and "
            f"put it at {archive}."
        )
    download.fetch(remote, archive, progress=progress, attribution=DATASETS[name].attribution)
    return download.unpack_member(archive, f"{stem}.h5", home(root) / f"{stem}.h5")
