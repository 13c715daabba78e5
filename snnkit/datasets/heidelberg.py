"""The Heidelberg datasets: Spiking Heidelberg Digits (SHD) and Spiking Speech Commands (SSC).

Cramer, Stradmann, Schemmel and Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation
of Spiking Neural Networks", IEEE TNNLS 33(7), 2022.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import ParameterError
from ..files import PathLike
from . import download
from .event_data import EventDataset, Transform, read_events
from .recordings import data_folder, search_path

BASE = "https://zenkelab.org/datasets/"
MD5 = {
    "shd_train": "f3252aeb598ac776c1b526422d90eecb",
    "shd_test": "1503a5064faa34311c398fb0a1ed0a6f",
    "ssc_train": "d102be95e7144fcc0553d1f45ba94170",
    "ssc_valid": "b4eee3516a4a90dd0c71a6ac23a8ae43",
    "ssc_test": "a35ff1e9cffdd02a20eb850c17c37748",
}
ATTRIBUTION = (
    "Spiking Heidelberg Digits and Spiking Speech Commands, Benjamin Cramer, Yannik Stradmann, Johannes "
    "Schemmel, Friedemann Zenke, https://doi.org/10.1109/TNNLS.2020.3044364, CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/)."
)


def SHD(
    root: PathLike | None = None,
    split: str = "train",
    *,
    transform: Transform | None = None,
    target_transform: Transform | None = None,
    fetch: bool = True,
    progress: bool = True,
) -> EventDataset:
    """Spiking Heidelberg Digits: German and English digits, 20 classes, 700 channels; "train" or "test".

    Read from ``shd_train.h5`` or ``shd_train.h5.zip`` under `root` (default ``SNNKIT_DATA``, then the
    cache; tonic's own folder serves as well), else downloaded, md5 checked.
    """
    return _open("shd", ("train", "test"), root, split, transform, target_transform, fetch, progress)


def SSC(
    root: PathLike | None = None,
    split: str = "train",
    *,
    transform: Transform | None = None,
    target_transform: Transform | None = None,
    fetch: bool = True,
    progress: bool = True,
) -> EventDataset:
    """Spiking Speech Commands: 35 words, 700 channels; "train", "valid" or "test". See `SHD`."""
    return _open("ssc", ("train", "valid", "test"), root, split, transform, target_transform, fetch, progress)


def _open(
    name: str,
    splits: tuple[str, ...],
    root: PathLike | None,
    split: str,
    transform: Transform | None,
    target_transform: Transform | None,
    fetch: bool,
    progress: bool,
) -> EventDataset:
    if split not in splits:
        raise ParameterError(f"{name} has the parts {', '.join(splits)}; got {split!r}.")
    path = _find(f"{name}_{split}", root, fetch, progress)
    return read_events(path, transform=transform, target_transform=target_transform)


def _find(stem: str, root: PathLike | None, fetch: bool, progress: bool) -> Path:
    remote = download.Remote(f"{BASE}{stem}.h5.zip", MD5[stem], "md5")
    corpus = stem.split("_")[0]
    folders = search_path(root, corpus, corpus.upper(), "hsd")
    for folder in folders:
        if (folder / f"{stem}.h5").is_file():
            return folder / f"{stem}.h5"
    home = data_folder() if root is None else Path(root)
    archive = next((f / remote.name for f in folders if (f / remote.name).is_file()), home / remote.name)
    if not fetch and not archive.is_file():
        raise download.Unreachable(
            f"{stem}.h5 is not in {', '.join(map(str, folders))}, and fetch is False. Fetch {remote.url} and "
            f"put it at {archive}."
        )
    download.fetch(remote, archive, progress=progress, attribution=ATTRIBUTION)
    return download.unpack_member(archive, f"{stem}.h5", home / f"{stem}.h5")
