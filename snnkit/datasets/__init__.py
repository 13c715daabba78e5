"""Recordings of words as spikes, images as arrays: `load(name)` gives train, valid and test.

`DATASETS` is the table of all data sets, `register` adds one of your own. The rest is loaded when it is
first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .table import DATASETS, Dataset, dataset, register

if TYPE_CHECKING:
    from .batches import Binned, Frames
    from .binning import bin_events
    from .event_data import EventDataset, from_events
    from .event_files import read_events, write_events, write_splits
    from .heidelberg import SHD, SSC
    from .images import Images
    from .loading import Resolved, leave_one_speaker_out, load, resolve, sound
    from .recordings import Recordings
    from .rules import SplitRule
    from .speech_commands import GSC
    from .splits import Splits
    from .spoken_digits import SpokenDigits
    from .spoken_words import SpokenWords
    from .synthetic_digits import SyntheticDigits
    from .tonic import from_tonic

__all__ = [
    "DATASETS",
    "GSC",
    "SHD",
    "SSC",
    "Binned",
    "Dataset",
    "EventDataset",
    "Frames",
    "Images",
    "Recordings",
    "Resolved",
    "SplitRule",
    "Splits",
    "SpokenDigits",
    "SpokenWords",
    "SyntheticDigits",
    "bin_events",
    "dataset",
    "from_events",
    "from_tonic",
    "leave_one_speaker_out",
    "load",
    "read_events",
    "register",
    "resolve",
    "sound",
    "write_events",
    "write_splits",
]

_FILES = {
    "batches": ("Binned", "Frames"),
    "binning": ("bin_events",),
    "event_data": ("EventDataset", "from_events"),
    "event_files": ("read_events", "write_events", "write_splits"),
    "heidelberg": ("SHD", "SSC"),
    "images": ("Images",),
    "loading": ("Resolved", "leave_one_speaker_out", "load", "resolve", "sound"),
    "recordings": ("Recordings",),
    "speech_commands": ("GSC",),
    "rules": ("SplitRule",),
    "splits": ("Splits",),
    "spoken_digits": ("SpokenDigits",),
    "spoken_words": ("SpokenWords",),
    "synthetic_digits": ("SyntheticDigits",),
    "tonic": ("from_tonic",),
}
_WHERE = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
