"""Checkpoints: a network, the state of its training, and the run's record, in one file."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import parametrize

from ..chips import CHIPS
from ..errors import CheckpointError, ConfigError
from ..files import PathLike, atomic
from .aware import builder, prepare
from .config import MACHINE, Config, parse_config
from .facts import KEY, Facts
from .own import build_named, layers_of, module

FORMAT = "snnkit-checkpoint"
FORMAT_VERSION = 1
LAST = "last.pt"
"""Name of the checkpoint in a run's folder."""
HDF5 = b"\x89HDF\r\n\x1a\n"
"""What a file of HDF5 begins with."""
UNREADABLE = (
    RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile, KeyError, IndexError,
    ValueError, TypeError, AttributeError,
)  # fmt: skip
"""What `torch.load` raises on bytes that are no checkpoint."""


def save_checkpoint(path: PathLike, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, containers of them) whole or not at all."""
    with atomic(path) as temporary:
        try:
            torch.save({"format": FORMAT, "version": FORMAT_VERSION, **content}, temporary)
        except RuntimeError as error:  # torch's writer hides the OSError of a full disk
            raise OSError(f"torch could not write it: {str(error).splitlines()[0]}") from error


def checkpoint_of(path: PathLike) -> Path:
    """A checkpoint's path: of a folder its last.pt."""
    path = Path(path)
    return path / LAST if path.is_dir() else path


def load_checkpoint(path: PathLike) -> dict[str, Any]:
    """Read a checkpoint, or the last.pt of a run's folder. No code is executed from the file.

    Raises `CheckpointError` saying what the file is, or is not.
    """
    path = checkpoint_of(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    with open(path, "rb") as file:
        if file.read(len(HDF5)) == HDF5:
            beside = path.parent / LAST
            raise CheckpointError(
                f"{path} is a network in HDF5, a Graph or of another format, and no checkpoint; give the "
                f"run's {beside if beside.is_file() else LAST}."
            )
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except UNREADABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{path} is no readable checkpoint; it may be truncated ({reason}).") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no snnkit checkpoint.")
    if missing := {"version", "record", "classes", "inputs", "best", "last"} - content.keys():
        raise CheckpointError(f"{path} is an incomplete checkpoint: it lacks {', '.join(sorted(missing))}.")
    if not isinstance(content["version"], int) or content["version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {content['version']}; this snnkit reads up to {FORMAT_VERSION}."
        )
    return content


def check_configuration(path: PathLike, content: dict[str, Any], config: Config) -> None:
    """Raise `CheckpointError` if a checkpoint's run had another configuration, output and machine aside.

    What the file does not say, since it was written before there was such a setting, is today's default.
    """
    then, now = content["record"]["configuration"], config.model_dump(mode="json")
    with contextlib.suppress(ConfigError):  # of a setting that is gone: compared as it stands
        then = parse_config(then, str(path)).model_dump(mode="json")
    for section in ("data", "augment", "model", "train"):
        old, new = then.get(section, {}), now[section]
        for key in new | old:
            if (section, key) not in MACHINE and old.get(key) != new.get(key):
                raise CheckpointError(
                    f"{path} was trained with {section}.{key} = {old.get(key)!r}, not {new.get(key)!r}; "
                    "resume with its own configuration or choose another folder."
                )


def check_data(path: PathLike, content: dict[str, Any], data: Facts) -> None:
    """Raise `CheckpointError` naming both if a checkpoint's run had other data than these."""
    known = facts_of(content)
    if known is not None and (found := known.difference(data)):
        raise CheckpointError(
            f"{path} was trained on {known}, not on {data} ({found}); resume with the data of the run, or "
            "choose another folder."
        )


def check_layers(path: PathLike, content: dict[str, Any], network: torch.nn.Module) -> None:
    """Raise `CheckpointError` naming a layer of a module handed over that is another than the run's."""
    then, now = content.get("layers") or {}, layers_of(network)
    for name, mine in now.items():
        if then.get(name, mine) != mine:  # `load_weights` names those that only one has
            raise CheckpointError(
                f"{path} was trained with {name or 'the network'} = ({then[name]}), not ({mine}); hand "
                "over the module as it was built for the run."
            )


def facts_of(content: dict[str, Any]) -> Facts | None:
    """What a checkpoint knows of its data; None for one that was written before this was kept."""
    return Facts.from_json(content.get(KEY))


def load_network(
    path: PathLike, which: str = "best", *, network: torch.nn.Module | None = None
) -> tuple[Any, Config, dict[str, Any]]:
    """The network of a checkpoint in evaluation mode, its configuration, and the whole content.

    path     of the checkpoint, or the folder of its run
    which    "best" for the epoch chosen on validation, "last" for the newest
    network  the module that gets the weights, for a run whose network was handed over in Python, built as it
             was then; what is no weight, no buffer and no argument of snnkit's neurons and delays is not
             compared

    Its step is that of the data it was trained on. Raises `CheckpointError` for a file that is damaged or
    of another architecture, or whose network has to be handed over.
    """
    content = load_checkpoint(path)
    config = parse_config(content["record"]["configuration"], str(path))
    if network is None:
        network = _made(path, config, content)
    else:
        network = handed(network, config)
        check_layers(path, content, network)
    load_weights(network, content[which] or content["last"], path)
    return network.eval(), config, content


def _made(path: PathLike, config: Config, content: dict[str, Any]) -> torch.nn.Module:
    """A network for the weights of a checkpoint, as its configuration says."""
    facts, classes = facts_of(content), len(content["classes"])
    dt = config.data.dt if facts is None else facts.dt
    if content.get("network") is not None:
        raise CheckpointError(
            f"{path} was trained with a network of one's own, a {content['network']} that was handed over "
            "in Python: load_network(path, network=module); or train with model.network = "
            "'package.module:build'."
        )
    if config.model.network is not None:
        shape = (content["inputs"],) if facts is None else facts.shape
        return handed(build_named(config.model.network, shape, classes, dt), config)
    return builder(config.train.hardware_aware)(config.model, content["inputs"], classes, dt)


def handed(network: torch.nn.Module, config: Config) -> torch.nn.Module:
    """A network of one's own as a run trains it: with the chip's roundings if it is trained for one."""
    network, chip = module(network), config.train.hardware_aware
    if chip != "none" and not any(parametrize.is_parametrized(part) for part in network.modules()):
        prepare(network, CHIPS[chip])
    return network


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


@torch.no_grad()
def start_weights(network: torch.nn.Module, path: PathLike) -> dict[str, str]:
    """Give a network the best weights of another run's checkpoint, by name: parameters and statistics.

    Roundings for a chip aside, a name is the same in a network trained for one and in a float one. What
    neither learns nor measures (time constants, σ) stays as the network's own configuration says; σ that is
    not learned begins anew with the schedule, which is no difference between the two.

    Returns what did not come over, name → why. Raises `CheckpointError` if nothing did.
    """
    content = load_checkpoint(path)
    theirs = {_plain(name): value for name, value in (content["best"] or content["last"]).items()}
    learned = {_plain(name) for name, _ in network.named_parameters()}
    left: dict[str, str] = {}
    taken = 0
    state = network.state_dict()
    for full, mine in state.items():
        name = _plain(full)
        given = theirs.pop(name, None)
        if given is None:
            left[name] = "absent in the file"
        elif given.shape != mine.shape:
            left[name] = f"{tuple(given.shape)} in the file, {tuple(mine.shape)} in the network"
        elif name in learned or name.rpartition(".")[2] in STATISTICS:
            mine.copy_(given)
            taken += 1
        elif name.rpartition(".")[2] not in SCHEDULED and not torch.equal(given.to(mine), mine):
            left[name] = "as this configuration says"
    left |= dict.fromkeys(theirs, "only in the file")
    if not taken:
        some = "; ".join(f"{name}: {why}" for name, why in list(left.items())[:3])
        raise CheckpointError(
            f"train.start_from = {str(path)!r}: no weight of it has the name and shape of one of this "
            f"network ({some}); give a run of the same architecture."
        )
    return left


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Buffers that are measured in training, by their last names."""
SCHEDULED = ("_sigma",)
"""Buffers that training sets in every epoch, by their last names."""


def _plain(name: str) -> str:
    """The name of a weight without a rounding around it."""
    return name.replace("parametrizations.", "").removesuffix(".original")
