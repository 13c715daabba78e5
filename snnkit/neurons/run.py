"""Any neuron over time: ``run`` takes inputs ``[T, ...]`` and gives spikes, state and gradients.

It checks what it is given and chooses a backend: `reference`, which says what is computed, or the
compiled loops of `operator`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor

from .. import backend
from ..errors import ParameterError, ShapeError
from . import operator, reference
from .neuron import encode, equations
from .reference import Run
from .surrogate import SURROGATES, Backward, backward_of


class Signature(NamedTuple):
    """What a neuron takes, keeps and gives: all that is asked of it where torch.compile traces.

    params, state  names, in the order of its `step`
    start          where each state variable starts
    trained        whether it has an adjoint
    spiking        False for a read-out
    """

    name: str
    params: tuple[str, ...]
    state: tuple[str, ...]
    start: tuple[float, ...]
    trained: bool
    spiking: bool


# Where torch.compile traces, these two are asked once and what they say is taken as given.
@torch.compiler.assume_constant_result
def signature(name: str, options: str) -> Signature:
    """The signature of neuron `name` with these options, as `encode` gives them."""
    neuron = equations(name, options)
    return Signature(
        name=name,
        params=neuron.params,
        state=neuron.state,
        start=tuple(neuron.start.values()),
        trained=neuron.adjoint is not None,
        spiking=neuron.spiking,
    )


@torch.compiler.assume_constant_result
def _backend(operation: str, device: str) -> str:
    return backend.choose(operation, device)


def run(
    name: str,
    x: Tensor,
    state: Sequence[Tensor] | None = None,
    params: Mapping[str, Tensor | float] | None = None,
    *,
    options: Mapping[str, Any] | str | None = None,
    trace: bool = False,
    initial: Mapping[str, Tensor] | None = None,
    **backward: Unpack[Backward],
) -> Run:
    """The neuron `name` of `NEURONS` over all steps of x.

    x             input [T, ...]
    state         the state to go on from, each variable [...]; None: as `initial`
    params        per-step parameters, each a number or a tensor that broadcasts to x[0]
    options       static choices of the neuron, e.g. {"reset": "soft"}, or `encode` of them
    trace         whether to return h
    initial       where variables start without `state`; broadcasts to x[0]. Others: the neuron's own start
    backward      see `Backward`

    Raises `ShapeError` for an x without steps or of integers and for states and parameters that do not fit
    it; `ParameterError` for an unknown neuron, option, parameter or surrogate, and for a neuron without
    adjoint where a gradient is asked for; `BackendError` for a backend that cannot run here.
    """
    text = options if isinstance(options, str) else encode(options or {})
    neuron = signature(name, text)
    surrogate, alpha, detach_reset = backward_of(**backward)
    if x.ndim < 1 or x.shape[0] < 1:
        raise ShapeError(f"{name} expects x of shape [T, ...] with T ≥ 1, got {list(x.shape)}.")
    if not x.is_floating_point():
        raise ShapeError(f"{name} expects a floating-point x, got {x.dtype}; use x.float().")
    dtype = x.dtype
    if dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    values = values_of(neuron, params or {}, x)
    start = start_of(neuron, state, initial or {}, x)
    used = _backend(name, x.device.type)
    if used == "reference":
        result = reference.run(
            equations(name, text), x, start, values, SURROGATES[surrogate], alpha, detach_reset
        )
    else:
        learned = zip(neuron.params, values, strict=True)
        learn = ",".join(n for n, p in learned if p.requires_grad and torch.is_grad_enabled())
        grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *start, *values))
        if grad and not neuron.trained:
            raise ParameterError(
                f"neuron {name!r} has no adjoint and cannot be trained; use torch.no_grad()."
            )
        variant = operator.Variant(
            name=name, options=text, surrogate=surrogate, alpha=alpha, through=not detach_reset, trace=trace,
            tape=grad, learn=learn, used=used,
        )  # fmt: skip
        out = torch.ops.snnkit.scan(x, start, values, *variant)
        result = Run(out[0], out[1], tuple(out[2 : 2 + len(neuron.state)]))
    if result.s.dtype != dtype:
        result = Run(result.s.to(dtype), result.h.to(dtype), result.state)
    return result


def values_of(neuron: Signature, params: Mapping[str, Tensor | float], x: Tensor) -> list[Tensor]:
    """The per-step parameters in the neuron's order, each of a shape that broadcasts to x[0]; x [T, ...].

    Raises `ParameterError` naming those missing and unknown, `ShapeError` naming one that does not fit.
    """
    missing = [n for n in neuron.params if n not in params]
    unknown = [n for n in params if n not in neuron.params]
    if missing or unknown:
        raise ParameterError(
            f"{neuron.name} takes the parameters {', '.join(neuron.params)}; missing {missing}, "
            f"unknown {unknown}."
        )
    values = []
    for n in neuron.params:
        value = torch.as_tensor(params[n], dtype=x.dtype, device=x.device)
        if value.numel() == 1:
            value = value.reshape(())
        shape = x.shape[1:]
        fits = value.ndim <= len(shape) and all(
            a in (1, b) for a, b in zip(reversed(value.shape), reversed(shape), strict=False)
        )
        if not fits:
            raise ShapeError(
                f"{neuron.name}: {n} has shape {list(value.shape)}, which does not broadcast to "
                f"{list(shape)}, one step of x."
            )
        values.append(value)
    return values


def start_of(
    neuron: Signature, state: Sequence[Tensor] | None, initial: Mapping[str, Tensor], x: Tensor
) -> list[Tensor]:
    """The state before the first step, each of the shape of x[0]: `state`, checked, or the initial one.

    Raises `ShapeError` naming the variable that does not fit x [T, ...].
    """
    if state is None:
        shape = x.shape[1:]
        return [
            initial[n].to(x.dtype).expand(shape) if n in initial else x.new_full(shape, start)
            for n, start in zip(neuron.state, neuron.start, strict=True)
        ]
    if len(state) != len(neuron.state):
        raise ShapeError(
            f"{neuron.name} has the state ({', '.join(neuron.state)}), got {len(state)} tensors."
        )
    for n, value in zip(neuron.state, state, strict=True):
        if value.shape != x.shape[1:]:
            raise ShapeError(
                f"{neuron.name}: state {n} has shape {list(value.shape)}, one step of x has "
                f"{list(x.shape[1:])}."
            )
    return [value.to(x.dtype) for value in state]
