"""How many clips are worked on at a time."""

from __future__ import annotations

from ..errors import ParameterError
from ..machine import cores


def worker_count(workers: int | None) -> int:
    """The number asked for, or one a core. Raises `ParameterError` for a number below 1."""
    workers = cores() if workers is None else workers
    if workers < 1:
        raise ParameterError(f"workers is at least 1, got {workers}.")
    return workers
