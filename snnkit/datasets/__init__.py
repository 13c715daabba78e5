"""Recordings of words as spikes, images as arrays: `load(name)` gives train, valid and test."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .binning import Binned, Frames, bin_events
    from .event_data import EventDataset, from_events, from_tonic, read_events, write_events
    from .heidelberg import SHD, SSC
    from .recordings import Recordings
    from .speech import GSC, Resolved, SpokenDigits, SpokenWords, SyntheticDigits, resolve_spoken_digits
    from .splits import Splits, leave_one_speaker_out, load, sound

__all__ = [
    "GSC",
    "SHD",
    "SSC",
    "Binned",
    "EventDataset",
    "Frames",
    "Recordings",
    "Resolved",
    "Splits",
    "SpokenDigits",
    "SpokenWords",
    "SyntheticDigits",
    "bin_events",
    "from_events",
    "from_tonic",
    "leave_one_speaker_out",
    "load",
    "read_events",
    "resolve_spoken_digits",
    "sound",
    "write_events",
]

_FILES = {
    "binning": ("Binned", "Frames", "bin_events"),
    "event_data": ("EventDataset", "from_events", "from_tonic", "read_events", "write_events"),
    "heidelberg": ("SHD", "SSC"),
    "recordings": ("Recordings",),
    "speech": ("GSC", "Resolved", "SpokenDigits", "SpokenWords", "SyntheticDigits", "resolve_spoken_digits"),
    "splits": ("Splits", "leave_one_speaker_out", "load", "sound"),
}
_WHERE = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
