"""How many clips are worked on at a time."""

from __future__ import annotations

import os

from ..errors import ParameterError


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(workers: int | None) -> int:
    """The number asked for, or one a processor. Raises `ParameterError` for a number below 1."""
    workers = processors() if workers is None else workers
    if workers < 1:
        raise ParameterError(f"workers is at least 1, got {workers}.")
    return workers
