"""Checkpoints: a network, the state of its training, and the run's record, in one file."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..files import PathLike, atomic
from .config import Config, parse_config
from .network import SpikingClassifier, build

FORMAT = "snnkit-checkpoint"
FORMAT_VERSION = 1


def save_checkpoint(path: PathLike, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, containers of them) whole or not at all."""
    with atomic(path) as temporary:
        torch.save({"format": FORMAT, "version": FORMAT_VERSION, **content}, temporary)


def load_checkpoint(path: PathLike) -> dict[str, Any]:
    """Read a checkpoint. No code is executed from the file. Raises `CheckpointError`."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, KeyError) as error:
        raise CheckpointError(f"{path} is no readable checkpoint; it may be truncated ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no snnkit checkpoint.")
    if content["version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {content['version']}; this snnkit reads up to {FORMAT_VERSION}."
        )
    return content


def load_network(path: PathLike, which: str = "best") -> tuple[SpikingClassifier, Config, dict[str, Any]]:
    """The network of a checkpoint in evaluation mode, its configuration, and the whole content.

    which  "best" for the epoch chosen on validation, "last" for the newest
    """
    content = load_checkpoint(path)
    config = parse_config(content["record"]["configuration"], str(path))
    network = build(config.model, content["inputs"], len(content["classes"]), config.data.dt)
    load_weights(network, content[which] or content["last"], path)
    return network.eval(), config, content


def load_weights(network: torch.nn.Module, state: dict[str, torch.Tensor], path: PathLike) -> None:
    """Copy weights into a network, or say in which tensors the architectures differ."""
    mine = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    if mine != theirs:
        differ = [
            f"{name}: {theirs.get(name, 'absent')} in the file, {mine.get(name, 'absent')} in the network"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise CheckpointError(
            f"{path} holds another architecture: {'; '.join(differ[:3])}{more}. "
            "Give the configuration that the checkpoint was trained with."
        )
    network.load_state_dict(state)
