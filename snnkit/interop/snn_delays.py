"""Checkpoints of SNN-delays (Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024), read and written.

Its ``state_dict`` numbers the parts of one ``nn.Sequential``: for every hidden layer Dcls1d, batch norm,
LIF, dropout (``model.0``, ``model.1``, …), then Dcls1d and LIF of the read-out. A position P counts from
the middle of the window: delay = window // 2 − P.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..delays import DelayedLinear
from ..errors import CheckpointError
from ..files import PathLike
from ..training.config import Model
from ..training.network import SpikingClassifier, build


def read(
    source: PathLike | Mapping[str, Tensor],
    *,
    window: int = 25,
    tau: float = 1.005,
    dt: float = 10.0,
    v_th: float = 1.0,
    padding: str = "grow",
) -> SpikingClassifier:
    """The network of a checkpoint, ready to be evaluated, trained on or lowered.

    source   a ``.pt`` file or its state_dict
    window   steps of the delay window (their ``max_delay``, 25 for SHD, 31 for SSC and GSC)
    tau      membrane time constant in steps (their ``init_tau``); learned ones (plif) are in the file
    dt       length of a step, ms
    padding  "grow" as published, or "tail"; see `snnkit.training.config.Model`

    Raises `CheckpointError` naming the key that is missing or does not fit.
    """
    state = dict(source) if isinstance(source, Mapping) else _load(Path(source))
    parts = _parts(state)
    weights = [parts[i]["weight"] for i in sorted(parts) if "P" in parts[i]]
    learned = [i for i in sorted(parts) if "w" in parts[i]]
    model = Model(
        hidden=tuple(int(w.shape[0]) for w in weights[:-1]),
        delays="learned",
        max_delay=window - 1,
        kernel_count=int(weights[0].shape[2]),
        tau_mem=tau * dt,
        v_th=v_th,
        learn_tau=bool(learned),
        padding=padding,
    )
    network = build(model, int(weights[0].shape[1]), int(weights[-1].shape[0]), dt)
    with torch.no_grad():
        _fill(network, parts, window)
    return network.eval()


def write(network: SpikingClassifier) -> dict[str, Tensor]:
    """The state_dict that SNN-delays loads with ``load_state_dict``.

    Raises `CheckpointError` for another network than layers of LIF neurons with delays at their synapses.
    """
    if not network.config.plain:
        raise CheckpointError(
            "SNN-delays has hidden layers of LIF neurons with delays at the synapses; this network has other "
            "neurons, recurrence or layers."
        )
    state: dict[str, Tensor] = {}
    index = 0
    parts: list[tuple[Any, Any]] = [(part.synapses, part.norm) for part in network.layers]
    for synapses, norm in [*parts, (network.readout_synapses, None)]:
        if not isinstance(synapses, DelayedLinear):
            raise CheckpointError("SNN-delays has delays in every layer; this network has none.")
        middle = synapses.window // 2
        state[f"model.{index}.weight"] = synapses.weight.detach().clone()
        position = (middle - synapses.position.detach())[None].clone()
        state[f"model.{index}.P"] = position
        state[f"model.{index}.SIG"] = torch.full_like(position, float(synapses.sigma))
        if norm is not None:
            for key, value in norm.state_dict().items():
                state[f"model.{index + 1}.{key}"] = value.clone()
        index += 4
    return state


def _load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what unpickling happens to meet
        raise CheckpointError(f"{path} is no readable PyTorch checkpoint ({error}).") from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, no state_dict.")
    return dict(state)


def _parts(state: Mapping[str, Tensor]) -> dict[int, dict[str, Any]]:
    """Part number → its tensors."""
    parts: dict[int, dict[str, Any]] = {}
    for key, value in state.items():
        found = re.fullmatch(r"model\.(\d+)\.(\w+)", key)
        if found:
            parts.setdefault(int(found[1]), {})[found[2]] = value
    delayed = [i for i in sorted(parts) if "P" in parts[i]]
    if len(delayed) < 2:
        raise CheckpointError(
            "no checkpoint of SNN-delays: it needs at least two layers with positions (keys 'model.N.P'), "
            f"found {len(delayed)} among {sorted(state)[:5]}…"
        )
    for i in delayed:
        if "weight" not in parts[i]:
            raise CheckpointError(f"key 'model.{i}.weight' is missing.")
        expected = tuple(parts[i]["weight"].shape)
        if tuple(parts[i]["P"].shape) != (1, *expected):
            raise CheckpointError(
                f"'model.{i}.P' has shape {tuple(parts[i]['P'].shape)}, expected {(1, *expected)}."
            )
    for before, after in pairwise(delayed):
        if parts[after]["weight"].shape[1] != parts[before]["weight"].shape[0]:
            raise CheckpointError(
                f"'model.{after}.weight' takes {parts[after]['weight'].shape[1]} inputs, but "
                f"'model.{before}' gives {parts[before]['weight'].shape[0]}."
            )
    return parts


def _fill(network: SpikingClassifier, parts: dict[int, dict[str, Any]], window: int) -> None:
    delayed = [i for i in sorted(parts) if "P" in parts[i]]
    targets: list[Any] = [part.synapses for part in network.layers] + [network.readout_synapses]
    for n, (i, synapses) in enumerate(zip(delayed, targets, strict=True)):
        position = window // 2 - parts[i]["P"][0]
        if position.min() < -1e-4 or position.max() > window - 1 + 1e-4:
            raise CheckpointError(
                f"'model.{i}.P' lies in {parts[i]['P'].min():g}..{parts[i]['P'].max():g}, outside a window "
                f"of {window} steps; pass the window that the network was trained with."
            )
        synapses.weight.copy_(parts[i]["weight"])
        synapses.position.copy_(position)
        if "SIG" in parts[i]:
            synapses.sigma = float(parts[i]["SIG"].reshape(-1)[0])
        last = n == len(delayed) - 1
        bias = parts[i].get("bias")
        if last:
            if bias is not None and bias.any():
                raise CheckpointError(f"'model.{i}.bias': a bias of the read-out has no place here.")
            _set_tau(network.readout, parts, i + 1)
            continue
        norm: Any = network.layers[n].norm
        found = parts.get(i + 1, {})
        for key in ("weight", "bias", "running_mean", "running_var"):
            if key not in found:
                raise CheckpointError(f"key 'model.{i + 1}.{key}' is missing (batch norm).")
            getattr(norm, key).copy_(found[key])
        if bias is not None:
            norm.running_mean.sub_(bias)
        _set_tau(network.layers[n].neuron, parts, i + 2)


def _set_tau(neuron: Any, parts: dict[int, dict[str, Any]], i: int) -> None:
    """ParametricLIFNode keeps w with 1/tau = σ(w): decay = 1 − σ(w) = σ(−w)."""
    if i not in parts or "w" not in parts[i]:
        return
    learned = dict(neuron.named_parameters()).get("decay_raw")
    if learned is not None:
        learned.copy_(-parts[i]["w"])
    else:
        neuron.decay.copy_(1 - torch.sigmoid(parts[i]["w"]))
