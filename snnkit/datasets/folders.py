"""Where the files of a data set lie, or go to when they are fetched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from ..files import PathLike, cache_folder
from . import download
from .table import Dataset


def search_path(root: PathLike | None, *below: str) -> list[Path]:
    """Folders where a corpus may lie: `root`, else ``SNNKIT_DATA`` and the cache; and `below` in each.

    They are absolute, so that an error that names them says where a `root` in the folder at hand was sought.
    """
    if root is not None:
        bases = [Path(root)]
    else:
        bases = [Path(os.environ["SNNKIT_DATA"])] if os.environ.get("SNNKIT_DATA") else []
        bases.append(data_folder())
    return [folder for base in map(Path.absolute, bases) for folder in (base, *(base / n for n in below))]


def home(root: PathLike | None) -> Path:
    """Where what is fetched goes: `root`, else `data_folder`."""
    return data_folder() if root is None else Path(root).absolute()


def find(root: PathLike | None, name: str, below: Sequence[str] = ()) -> Path:
    """The first file or folder `name` on the search path. Raises `DataError` naming where it was sought."""
    folders = search_path(root, *below)
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise DataError(f"{name} is in none of {', '.join(map(str, folders))}; set root or SNNKIT_DATA.")


def data_folder() -> Path:
    """Where downloads go: ``SNNKIT_CACHE/data``, else the user's cache folder."""
    return cache_folder() / "data"


def archive_of(
    row: Dataset, remote: download.Remote, root: PathLike | None, name: str, *, fetch: bool, progress: bool
) -> Path:
    """The archive of a data set as `name` under `home`, downloaded unless it is there.

    Raises `download.Unreachable`, saying what to put where, also where `fetch` is False.
    """
    path = home(root) / name
    if not fetch:
        raise download.Unreachable(
            f"{row.title}: no {row.files} in {path.parent} nor SNNKIT_DATA, and fetch is False. Fetch "
            f"{remote.url} and put it at {path}."
        )
    return download.fetch(remote, path, progress=progress, attribution=row.attribution)
