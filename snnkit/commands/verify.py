"""`snnkit verify`: what an export changed, and Lava's vectors against the integer model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import PathLike
from ..hardware.ladder import Ladder, ladder
from ..hardware.vectors import vectors
from ..training.losses import is_class
from .data import data_of
from .formats import AS_WRITTEN, Reading, load


def verify_export(
    exported: PathLike,
    net: PathLike,
    split: str = "valid",
    settings: Sequence[str] = (),
    *,
    limit: int | None = None,
    tolerance: float = 0.005,
    reading: Reading = AS_WRITTEN,
) -> Ladder:
    """The ladder from a float network's file to an exported one, on the data it was trained on.

    reading  of the files that leave open how to step and how to read out

    With targets that are not one class a sample it has no accuracy, and what is lost is the share of samples
    whose highest score is another output's.
    """
    graph = load(net, reading)
    data = data_of(graph, split, settings, limit, call="ladder(graph, exported, data.valid.events)")
    labels = data.labels if is_class(data.labels) else None
    other = load(exported, Reading(readout=reading.readout))
    return ladder(graph, other, data.events, labels, tolerance=tolerance)


def ladder_json(found: Ladder) -> dict[str, Any]:
    """A ladder as plain data."""
    return {
        "rungs": [vars(rung) for rung in found.rungs],
        "drop": found.drop,
        "tolerance": found.tolerance,
        "status": found.status,
    }


def verify_vectors(folder: PathLike) -> int:
    """Check a folder of Lava's vectors, a line each on standard output; 1 if one differs, else 0.

    Raises `DataError` if there is no such folder.
    """
    if not Path(folder).is_dir():
        raise DataError(f"{folder} is no folder of vectors.")
    return vectors(Path(folder))
