"""Checkpoints of SNN-delays (Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024), read and written.

Its ``state_dict`` numbers the parts of one ``nn.Sequential``: for every hidden layer Dcls1d, batch norm,
LIF, dropout and, with stateful_synapse, a filter (``model.0``, ``model.1``, …), then Dcls1d and LIF of the
read-out. A position P counts from the middle of the window: delay = window // 2 − P. What stands in its
configuration alone (time constants, thresholds, loss, dropout) has to be said.
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
    v_th: float | tuple[float, float] = 1.0,
    padding: str = "grow",
    readout: str = "softmax_sum",
    dropout: float = 0.4,
) -> SpikingClassifier:
    """The network of a checkpoint, ready to be evaluated, trained on or lowered.

    source   a ``.pt`` file or its state_dict
    window   steps of the delay window (their ``max_delay``, 25 for SHD, 31 for SSC and GSC)
    tau      membrane time constant in steps (their ``init_tau``); learned ones (plif) are in the file. 1 for
             their ``spiking_neuron_type = 'heaviside'``, a neuron without memory
    dt       length of a step, ms
    v_th     threshold (their ``v_threshold``), or that and the outputs' (``output_v_threshold``), which is 2
             where they spike and it is not given
    padding  "grow" as published, or "tail"; see `snnkit.training.config.Model`
    readout  what scores are made of, their ``loss``: "softmax_sum" is 'sum', "max_over_time" 'max', "mean"
             and "spike_count" are named alike
    dropout  of hidden spikes, for training on (their ``dropout_p``)

    A bias of a hidden layer goes into its batch norm, the read-out's stays one. Raises `CheckpointError`
    naming the key that is missing or does not fit, and for ``stateful_synapse = True`` and
    ``use_batchnorm = False``, which the numbering of the parts shows.
    """
    state = dict(source) if isinstance(source, Mapping) else _load(Path(source))
    parts = _parts(state)
    delayed = [i for i in sorted(parts) if "P" in parts[i]]
    weights = [parts[i]["weight"] for i in delayed]
    own, outputs = v_th if isinstance(v_th, tuple) else (v_th, 2.0)
    learned = [i for i in sorted(parts) if "w" in parts[i]]
    model = Model(
        hidden=tuple(int(w.shape[0]) for w in weights[:-1]),
        delays="learned",
        max_delay=window - 1,
        kernel_count=int(weights[0].shape[2]),
        tau_mem=tau * dt,
        v_th=own,
        learn_tau=bool(learned),
        padding=padding,
        readout=readout,
        readout_bias="bias" in parts[delayed[-1]],
        dropout=dropout,
    )
    network = build(model, int(weights[0].shape[1]), int(weights[-1].shape[0]), dt)
    with torch.no_grad():
        _fill(network, parts, window)
        if network.readout.spiking:
            network.readout.v_th.fill_(outputs)
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
        if network.config.readout_bias:
            bias = synapses.bias
            state[f"model.{index}.bias"] = (
                torch.zeros(len(synapses.weight)) if bias is None else bias.detach().clone()
            )
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
        _hold_numbering(parts, before, after)
        if parts[after]["weight"].shape[1] != parts[before]["weight"].shape[0]:
            raise CheckpointError(
                f"'model.{after}.weight' takes {parts[after]['weight'].shape[1]} inputs, but "
                f"'model.{before}' gives {parts[before]['weight'].shape[0]}."
            )
    return parts


def _hold_numbering(parts: Mapping[int, Mapping[str, Any]], before: int, after: int) -> None:
    """Raise `CheckpointError` for a layer between two numbers that is not Dcls1d, norm, LIF and dropout."""
    norm = parts.get(before + 1, {}).keys() & {"weight", "bias", "running_mean", "running_var"}
    if norm and after - before == 5:
        raise CheckpointError(
            f"'model.{before}' to 'model.{after}' are five parts, with a filter of the spikes: "
            "stateful_synapse = True. It would be the current of the next layer's neurons, and that layer's "
            "batch norm shifts their potential past the current, which no neuron here does. Train with "
            "stateful_synapse = False."
        )
    if not norm:
        raise CheckpointError(
            f"'model.{before + 1}' is no batch norm (weight, bias, running_mean, running_var): a network "
            "of use_batchnorm = False has no place here, whose hidden layers have one. Train with "
            "use_batchnorm = True."
        )


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
            if bias is not None:
                synapses.bias.copy_(bias)
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
