"""Where in a user's own code something came up, for messages."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path

import torch

OURS, TORCH = Path(__file__).parents[1], Path(torch.__file__).parent
"""Folders of snnkit and of PyTorch."""


def line_in(stack: Iterable[traceback.FrameSummary], ours: bool = True) -> str:
    """`` (file, line n: code)`` of a user's innermost frame; empty if there is none.

    ours  of snnkit's innermost frame then
    """
    others = [f for f in stack if not Path(f.filename).is_relative_to(TORCH)]
    users = [f for f in others if not Path(f.filename).is_relative_to(OURS)]
    found = (users or (others if ours else []))[-1:]
    return f" ({found[0].filename}, line {found[0].lineno}: {found[0].line})" if found else ""


def line_of(error: BaseException) -> str:
    """As `line_in`, where in a user's code an error came up."""
    return line_in(traceback.extract_tb(error.__traceback__), ours=False)


def first_line(error: BaseException) -> str:
    """The first sentence of an error's message."""
    return next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0]
