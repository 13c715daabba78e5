"""Networks of SpikingJelly, Norse, snnTorch and sinabs with snnkit's neurons in place of theirs.

`snnkit.training.lower` takes such networks as they stand; this is to train them on here. Which neuron
computes the same is said by `snnkit.training.tracing.others.OTHERS`, once for both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import GraphError
from ..neurons import IF, LI, LIF, CubaLIF, NeuronModule, Registered
from ..training.tracing import BASES, BATCH, STEPS, Met, handler_of, lead_of
from ..training.tracing.others import OTHERS, Neurons

SEQUENCES = ("Sequential", "SequentialState", "SeqToANNContainer", "MultiStepContainer", "Lift", "Repeat")
"""Classes that call their parts one after the other."""

BY_STEP: tuple[type[nn.Module], ...] = (
    nn.Conv1d,
    nn.Conv2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.LPPool2d,
    nn.Flatten,
    nn.modules.batchnorm._BatchNorm,
)
"""Layers of torch that take [B, …]."""


PLAIN = ("Dropout", "Dropout2d", "Delay")
"""SpikingJelly's layers with a state that work on [T, B, …] as they are."""


class EachStep(nn.Module):
    """A layer of [B, …] on [T, B, …]."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, …] → what the layer gives for each step."""
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Scaled(nn.Module):
    """x · factor, a number or one a neuron."""

    def __init__(self, factor: np.ndarray) -> None:
        super().__init__()
        self.factor: Tensor
        self.register_buffer("factor", torch.as_tensor(factor, dtype=torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, …] in the dtype of the factor."""
        return x * self.factor


def to_snnkit(network: nn.Module, dt: float = 1.0) -> nn.Module:
    """The same network with snnkit's neurons, [T, B, …] → [T, B, …]; weights are shared, not copied.

    Sequences become one `nn.Sequential`, whatever they were called with; a module with a `forward` of its
    own stays as it is but for its neurons, which must take [T, B, …] (SpikingJelly's step_mode "m"). dt in ms
    is what a step means; surrogate gradients are snnkit's own. Raises `GraphError` naming a layer that has no
    counterpart, and neurons with a loop, which `lower` takes.
    """
    with _dtype_of(network):
        return _ours("", network, dt).train(network.training)


@contextmanager
def _dtype_of(network: nn.Module) -> Iterator[None]:
    """New parameters in the dtype of those that the network has."""
    before = torch.get_default_dtype()
    first = next(network.parameters(), None)
    torch.set_default_dtype(before if first is None else first.dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _ours(name: str, part: nn.Module, dt: float) -> nn.Module:
    handler_of(part)  # reads the rows of its framework
    kind = type(part)
    if kind in OTHERS:
        where = Met(name, kind.__name__)
        return module_of(where, OTHERS[kind](where, part), dt)
    if kind.__name__ in SEQUENCES:
        made = nn.Sequential()
        for key, one in part.named_children():
            ours = _ours(f"{name}.{key}".strip("."), one, dt)
            for inner, layer in ours.named_children() if type(ours) is nn.Sequential else [("", ours)]:
                made.add_module(f"{key}_{inner}".strip("_"), layer)
        return made
    if not any(type(one) in OTHERS or (one is not part and _refused(one)) for one in part.modules()):
        if _refused(part):
            raise GraphError(f"layer {name!r} ({kind.__name__}) has no counterpart in snnkit.")
        stepwise = isinstance(part, BY_STEP) and getattr(part, "step_mode", "s") == "s"
        return EachStep(part) if stepwise and getattr(part, "start_dim", 1) == 1 else part
    if _refused(part) or lead_of(part) != (STEPS, BATCH):
        raise GraphError(
            f"layer {name!r} ({kind.__name__}) has no counterpart in snnkit: a forward of one's own whose "
            "neurons do not take [T, B, …]. lower() takes it."
        )
    made_over = copy.copy(part)
    made_over._modules = {
        key: None if one is None else _ours(f"{name}.{key}".strip("."), one, dt)
        for key, one in part._modules.items()
    }
    return made_over


def _refused(part: nn.Module) -> bool:
    """Whether a framework's layer keeps a state and is no neuron of `OTHERS`."""
    kinds = type(part).__mro__
    return any(kind in BASES for kind in kinds) and kinds[0] not in OTHERS and kinds[0].__name__ not in PLAIN


def module_of(where: Met, made: Neurons, dt: float) -> nn.Module:
    """snnkit's module of neurons, behind a `Scaled` where their input has a factor.

    Raises `GraphError` naming the layer for neurons with a loop.
    """
    if made.back is not None:
        raise GraphError(f"{where}: neurons with a loop; lower() takes them, to_snnkit() does not.")
    factor = made.factor
    params: dict[str, Any] = dict(made.params)
    if made.neuron in ("lif", "li"):
        gain, decay = params["gain"], params["decay"]
        params["decay_input"] = bool((gain != 1).any() and np.allclose(gain, 1 - decay, rtol=1e-12, atol=0))
        if not params["decay_input"] and (gain != 1).any():
            factor = gain
    module = MODULES[made.neuron](params, _options(made, dt))
    if made.learn_tau:
        module = _learned(module, params, _options(made, dt))
    return module if factor is None or (factor == 1).all() else nn.Sequential(Scaled(factor), module)


def _options(made: Neurons, dt: float) -> dict[str, Any]:
    """Arguments that every module with a threshold has."""
    options: dict[str, Any] = {
        k: v for k, v in made.options.items() if k in ("reset", "strict", "max_spikes")
    }
    if "v_min" in made.params:
        options["v_min"] = made.params["v_min"]
    if "refractory" in made.params:
        options["refractory"] = made.params["refractory"].astype(int)
    given: dict[str, Any] = {k: made.params[k] for k in ("v_th", "v_reset") if k in made.params}
    return {"dt": dt, "detach_reset": made.detach_reset, **options, **given}


def _lif(params: dict[str, Any], options: dict[str, Any], learn_tau: bool = False) -> NeuronModule:
    own = {"decay_input": params["decay_input"], "v_rest": params["v_rest"], "learn_tau": learn_tau}
    return LIF(decay=params["decay"], **own, **options)


def _learned(module: NeuronModule, params: dict[str, Any], options: dict[str, Any]) -> NeuronModule:
    return _lif(params, options, learn_tau=True)


def _cuba(params: dict[str, Any], options: dict[str, Any]) -> NeuronModule:
    return CubaLIF(decay_syn=params["decay_syn"], decay_mem=params["decay_mem"], **options)


def _li(params: dict[str, Any], options: dict[str, Any]) -> NeuronModule:
    return LI(decay=params["decay"], decay_input=params["decay_input"], dt=options["dt"])


MODULES: dict[str, Any] = {
    "lif": _lif,
    "if": lambda params, options: IF(**options),
    "cuba": _cuba,
    "li": _li,
    "cuba_li": lambda params, options: Registered("cuba_li", dt=options["dt"], **params),
}
"""Neuron of `OTHERS` → (its parameters, options that all have) → snnkit's module."""
