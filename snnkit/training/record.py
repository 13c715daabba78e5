"""What a later reader must know of a run: configuration, versions, seed, revision, hardware."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numba
import torch

from .. import __version__
from ..machine import processor
from .config import Config


def machine() -> str:
    """Processor, number of cores this process may use, and GPU."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}{gpu}"


def versions() -> dict[str, str]:
    """Versions of snnkit, Python and the packages that a result depends on."""
    found = {"snnkit": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "numba", "lightning-fabric"):
        found[package] = importlib.metadata.version(package)
    return found


def revision() -> str | None:
    """The git revision of the source, with "+" if it has uncommitted changes; None outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def run_record(config: Config) -> dict[str, Any]:
    """The record as JSON-able data."""
    return {
        "configuration": config.model_dump(mode="json"),
        "versions": versions(),
        "seed": config.train.seed,
        "revision": revision(),
        "machine": machine(),
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def stamp(seed: int) -> dict[str, Any]:
    """The columns that every row of a results file carries: machine, versions, seed, date."""
    return {
        "machine": machine(),
        "versions": versions(),
        "seed": seed,
        "date": datetime.now(UTC).date().isoformat(),
    }
