"""Neurons in a loop with delays: a step is computed when all spikes that reach it are known.

Forwards, the spikes of a step are pushed through the kernels of all delays into the input of the steps
to come. Backwards the same in reverse: each step's gradient is that of its spikes as outputs plus what
later inputs send back; the neuron's own vector-Jacobian product comes from autograd of its single step.
What weights and positions get is one delayed product over the whole sequence, at the end.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from . import reference
from .ops import delayed_product
from .synapses import Synapses


@runtime_checkable
class Stepped(Protocol):
    """A module of neurons that can be run step by step."""

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Input ``[B, N]`` and state → spikes ``[B, N]`` and the state after the step."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is learned."""


def _whole_precision(run: Callable[..., Any]) -> Callable[..., Any]:
    """Without autocast, whose products can't be added into memory of another dtype."""

    @functools.wraps(run)
    def wrapped(ctx: Any, first: Tensor, *rest: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return run(ctx, first, *rest)

    return wrapped


class _Loop(torch.autograd.Function):
    """x, synapses and parameters of the neuron → spikes."""

    @staticmethod
    @_whole_precision
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, position: Tensor, sigma: Tensor, window: int, version: str,
        neuron: Stepped, *params: Tensor,
    ) -> Tensor:  # fmt: skip
        kernel = reference.response(Synapses(weight, position, sigma, window, version))
        response = kernel.transpose(1, 2).contiguous()
        steps = x.shape[0]
        u = torch.cat([x, x.new_zeros(window, *x.shape[1:])])
        spikes = []
        states: list[tuple[Tensor, ...] | None] = []
        state = None
        for t in range(steps):
            states.append(state)
            s, state = neuron.step(u[t], state)
            spikes.append(s)
            # the shortest delay, 1, arrives in the next step
            u[t + 1 : t + 1 + window].baddbmm_(s.expand(window, -1, -1), response)
        s = torch.stack(spikes)
        ctx.save_for_backward(weight, position, sigma, kernel, u[:steps], s)
        ctx.neuron, ctx.states, ctx.params, ctx.version = neuron, states, params, version
        return s

    @staticmethod
    @_whole_precision
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        weight, position, sigma, kernel, u, s = ctx.saved_tensors
        steps, window = s.shape[0], kernel.shape[0]
        # the gradient of s[t], with what later inputs send back, is row t + window
        back = torch.cat([s.new_zeros(window, *s.shape[1:]), cotangents[0]])
        past = kernel.flip(0)
        gu = torch.empty_like(s)
        gstate: list[Tensor] = []
        gparams: list[Tensor | None] = [None] * len(ctx.params)
        for t in reversed(range(steps)):
            before = ctx.states[t] or ()
            with torch.enable_grad():
                point = u[t].detach().requires_grad_()
                start = [v.detach().requires_grad_() for v in before]
                spike, after = ctx.neuron.step(point, start or None)
            pairs = zip([spike, *after], [back[t + window], *gstate], strict=False)
            used = [(value, g) for value, g in pairs if value.requires_grad]
            found = torch.autograd.grad(
                [value for value, _ in used],
                [point, *start, *ctx.params],
                [g for _, g in used],
                allow_unused=True,
                materialize_grads=True,
            )
            gu[t] = found[0]
            gstate = list(found[1 : 1 + len(start)])
            for k, g in enumerate(found[1 + len(start) :]):
                old = gparams[k]
                gparams[k] = g if old is None else old + g
            # kernel[d] brought s[t − 1 − d] into u[t]
            back[t : t + window].baddbmm_(gu[t].expand(window, -1, -1), past)
        with torch.enable_grad():
            w, p, width = (v.detach().requires_grad_() for v in (weight, position, sigma))
            heard = delayed_product(s.detach(), Synapses(w, p, width, window, ctx.version))
        late = torch.cat([gu[1:], torch.zeros_like(gu[:1])])
        found = torch.autograd.grad(heard, [w, p, width], late, allow_unused=True)
        return gu, *found, None, None, None, *gparams


@torch.compiler.disable(reason="neurons in a loop run step by step; compile with fullgraph=False")  # type: ignore[no-untyped-call]
def recur(x: Tensor, synapses: Synapses, neuron: Stepped) -> Tensor:
    """Spikes ``[T, B, N]`` of neurons that hear x ``[T, B, N]``, and each other 1 + position steps later.

    The weights are ``[N, N, K]``; the result is in their dtype, under autocast too.
    """
    learned = [p for p in neuron.parameters() if p.requires_grad]
    x = x.to(synapses.weight.dtype)
    s: Tensor = _Loop.apply(x, *synapses, neuron, *learned)  # type: ignore[no-untyped-call]
    return s
