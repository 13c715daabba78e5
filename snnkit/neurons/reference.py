"""The definition of a neuron over time: its step, once per time step, differentiated by autograd.

    s[t], h[t], state[t] = step(state[t-1], x[t], params)

The kernels compute this, and the adjoints have its gradients: `run` stands in for the derivative of a
comparison with a surrogate's, see `Neuron`.
"""

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ParameterError
from .equations import LIBRARIES, differentiable, on_tensors
from .neuron import Neuron
from .surrogate import Surrogate

State = tuple[Tensor, ...]


class Run(NamedTuple):
    """What a run gives.

    s      [T, ...] spikes, 0 or 1 in the dtype of x; empty for a neuron that never spikes
    h      [T, ...] membrane potential before the reset; empty unless traced or needed
    state  variables after the last step, each [...], in the order of the neuron's `state`
    """

    s: Tensor
    h: Tensor
    state: State


class _Functions:
    """A module of functions of numbers, whose functions take tensors as torch's of the same name do."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Callable[..., Any]:
        own, of_tensors = getattr(self._module, name), getattr(torch, name, None)

        def call(*arguments: Any) -> Any:
            like = next((a for a in arguments if isinstance(a, Tensor)), None)
            if like is None:
                return own(*arguments)
            if not callable(of_tensors):
                raise ParameterError(
                    f"{self._module.__name__}.{name} has no counterpart of that name in torch, so a neuron "
                    "that calls it cannot be trained; write it with functions that both have."
                )
            return of_tensors(*(torch.as_tensor(a, dtype=like.dtype, device=like.device) for a in arguments))

        return call


_FUNCTIONS: dict[str, Any] = {name: _Functions(module) for name, module in LIBRARIES.items()}


class _Spike(torch.autograd.Function):
    """The step function, with a surrogate for its derivative."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, ds_dh: Callable[..., Tensor], alpha: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.ds_dh, ctx.alpha = ds_dh, alpha
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return grad[0] * ctx.ds_dh(u, ctx.alpha), None, None


@functools.lru_cache(maxsize=256)
def _on_tensors(function: Callable[..., Any]) -> Callable[..., Tensor]:
    return on_tensors(function)(**_FUNCTIONS)


def run(
    neuron: Neuron,
    x: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    surrogate: Surrogate,
    alpha: float,
    detach_reset: bool,
) -> Run:
    """The neuron over x [T, ...] from `state`, each [...]; params broadcast to x[0].

    Raises `ParameterError` naming what the step reads and torch cannot have.
    """
    ds_dh = _on_tensors(surrogate.ds_dh)

    def spike(h: Tensor, v_th: Tensor) -> Tensor:
        return _Spike.apply(h - v_th, ds_dh, alpha)  # type: ignore[no-untyped-call]

    def reset(h: Tensor, v_th: Tensor) -> Tensor:
        s = spike(h, v_th)
        return s.detach() if detach_reset else s

    step = differentiable(neuron.step)(_spike=spike, _reset=reset, **_FUNCTIONS)
    spikes, trace, now = [], [], tuple(state)
    for x_t in x:
        s, h, *new = step(*now, x_t, *params)
        spikes.append(s)
        trace.append(h)
        now = tuple(new)
    s = torch.stack(spikes) if neuron.spiking else x.new_empty(0)
    return Run(s, torch.stack(trace), now)
