"""Batch norm, a neuron over time and dropout as one layer, in as few passes over memory as there can be.

    x̂ = (x − mean)/√(var + eps)      mean, var of each neuron over time and samples of the batch
    s = neuron(γ·x̂ + β)              over time, from the neuron's initial state
    d = s·mask                        mask [B, N]: 0 where dropped, 1/(1 − p) elsewhere

Layer by layer this takes a dozen passes over memory, which cost more than the arithmetic. What the
neuron saw is not stored; the backward pass works it out again (`kernels_cpu.backward_source`), and with
g = ∂L/∂(γ·x̂ + β), M = T·B, sums over time and samples,

    ∂L/∂β = Σ g      ∂L/∂γ = Σ g·x̂      ∂L/∂x = γ/√(var + eps) · (g − Σ g/M − x̂·Σ g·x̂/M)

Sergey Ioffe and Christian Szegedy, ICML 2015 (arXiv 1502.03167), section 3.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from .. import backend
from . import kernels_cpu
from .neuron import encode, equations
from .operator import Layout, along_columns, as_rows, dtype_of, empty_like, layout, narrow, scalars_of
from .run import run as run_neuron
from .run import signature, start_of, values_of
from .surrogate import SURROGATES, Backward, backward_of

ROWS = 64
"""Rows of a block, whose mean and variance are worked out while it is in cache."""


@njit(cache=True, nogil=True, error_model="numpy")
def _moments(x, out, share, first, last):  # type: ignore[no-untyped-def]
    """Mean and sum of squared deviations of each column of x ``[rows, N]``, blocks `first` to `last`.

    Blocks of `ROWS` rows are put together by Chan's formula, in float64.
    """
    rows, n = x.shape
    count = 0
    mean, squares = np.zeros(n), np.zeros(n)
    here, there = np.zeros(n, x.dtype), np.zeros(n, x.dtype)
    for block in range(first, last):
        lo, hi = block * ROWS, min(rows, (block + 1) * ROWS)
        size = hi - lo
        here[:] = 0
        for k in range(lo, hi):
            for j in range(n):
                here[j] += x[k, j]
        inverse = x.dtype.type(1 / size)
        for j in range(n):
            here[j] *= inverse
        there[:] = 0
        for k in range(lo, hi):
            for j in range(n):
                off = x[k, j] - here[j]
                there[j] += off * off
        whole = count + size
        for j in range(n):
            step = here[j] - mean[j]
            mean[j] += step * size / whole
            squares[j] += there[j] + step * step * count * size / whole
        count = whole
    for j in range(n):
        out[share, 0, j], out[share, 1, j], out[share, 2, j] = count, mean[j], squares[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _centre(gx, x, mean, a, b, first, last):  # type: ignore[no-untyped-def]
    """gx −= a + b·(x − mean), rows `first` to `last`."""
    for k in range(first, last):
        for j in range(x.shape[1]):
            gx[k, j] -= a[j] + b[j] * (x[k, j] - mean[j])


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of each column of x ``[rows, N]``, float64."""
    blocks = -(-len(x) // ROWS)
    threads = min(torch.get_num_threads(), blocks)
    parts = np.empty((threads, 3, x.shape[1]))

    def shares(first: int, last: int) -> None:
        for k in range(first, last):
            _moments(x, parts, k, blocks * k // threads, blocks * (k + 1) // threads)

    kernels_cpu.spread(shares, threads, threads)
    count, mean, squares = parts[0]
    for other in parts[1:]:
        whole, step = count + other[0], other[1] - mean
        squares = squares + other[2] + step**2 * count * other[0] / whole
        mean, count = mean + step * other[0] / whole, whole
    return mean, squares / count


class Variant(NamedTuple):
    """What a call computes, besides its tensors: the trailing arguments of both operators, in their order.

    eps               of the norm
    name, options     the neuron, options as `encode` gives them
    surrogate, alpha  name in `SURROGATES` and its sharpness
    through           whether the reset takes part in the backward pass
    """

    eps: float
    name: str
    options: str
    surrogate: str
    alpha: float
    through: bool


_STATIC = "float eps, str name, str options, str surrogate, float alpha, bool through"


class _Norm(NamedTuple):
    """A batch norm as scale · x + shift, each ``[N]`` in float64; rstd is 1/√(var + eps)."""

    scale: np.ndarray
    shift: np.ndarray
    mean: np.ndarray
    rstd: np.ndarray

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> _Norm:
        """From γ, β and the statistics, each ``[N]``."""
        rstd = 1 / np.sqrt(var.numpy() + eps)
        scale = weight.detach().numpy() * rstd
        shift = bias.detach().numpy() - mean.numpy() * scale
        return cls(scale=scale, shift=shift, mean=mean.numpy(), rstd=rstd)


class _Columns:
    """The parameters of a layer as its kernels read them: per column of `view`."""

    def __init__(self, x: Tensor, params: Sequence[Tensor], widest: int, norm: Sequence[np.ndarray]) -> None:
        n, dtype = x.shape[-1], dtype_of(x)
        like = x.new_empty(n)
        self.view: Layout = layout(x.shape[1:], [*params, like], widest)
        self.params = [along_columns(p, x.shape[1:], 1, self.view) for p in params]
        self.norm = [np.tile(v.astype(dtype), self.view.columns // n) for v in norm]
        self.none = [np.empty((0,) * k, dtype) for k in range(4)]

    def steps(self, t: Tensor | None) -> np.ndarray:
        """[T, rows, columns] of a tensor of all steps, or nothing."""
        return self.none[3] if t is None else as_rows(t, self.view)

    def step(self, t: Tensor | None) -> np.ndarray:
        """[rows, columns] of a tensor of one step, or nothing."""
        return self.none[2] if t is None else as_rows(t, self.view)[0]


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, state: Sequence[Tensor],
    params: Sequence[Tensor], *static: Any,
) -> list[Tensor]:  # fmt: skip
    variant = Variant(*static)
    neuron = equations(variant.name, variant.options)
    x = x.contiguous()
    mean, var = (torch.from_numpy(v) for v in _statistics(x.view(-1, x.shape[2]).numpy()))
    s, d = empty_like(x), x.new_empty(0) if mask is None else empty_like(x)
    norm = _Norm.of(weight, bias, mean, var, variant.eps)
    c = _Columns(x, params, kernels_cpu.WIDTH, [norm.scale, norm.shift])
    scalar = scalars_of(neuron, params)
    call = functools.partial(
        kernels_cpu.forward(neuron, dtype_of(x), scalar, False, True, mask is not None).forward,
        c.steps(x),
        c.steps(s),
        c.none[3],
        c.steps(None if mask is None else d),
        c.step(mask),
        *c.norm,
        *(c.step(v.clone(memory_format=torch.contiguous_format)) for v in state),
        *c.params,
        c.view.width,
        c.view.per_neuron,
    )
    kernels_cpu.spread(call, c.view.items, torch.get_num_threads())
    return [s, d, mean, var]


def _backward(
    gs: Tensor | None, gd: Tensor | None, x: Tensor, statistics: Sequence[Tensor], mask: Tensor | None,
    state: Sequence[Tensor], params: Sequence[Tensor], *static: Any,
) -> list[Tensor]:  # fmt: skip
    variant = Variant(*static)
    neuron = equations(variant.name, variant.options)
    weight, bias, mean, var = statistics
    x = x.contiguous()
    steps, batch, n = x.shape
    dtype = np.dtype(dtype_of(x))
    gx = empty_like(x)
    norm = _Norm.of(weight, bias, mean, var, variant.eps)
    c = _Columns(x, params, narrow(steps), norm)
    sums = torch.zeros((2, batch, n), dtype=x.dtype)
    zeros = [x.new_zeros(x.shape[1:]) for _ in state]
    grads = ("s" if gs is not None else "") + ("d" if gd is not None else "")
    scalar = scalars_of(neuron, params)
    surrogate = SURROGATES[variant.surrogate]
    call = functools.partial(
        kernels_cpu.backward(neuron, surrogate, dtype.name, scalar, grads, (), True).backward,
        c.steps(gs),
        c.none[3],
        c.steps(gd),
        c.step(None if gd is None else mask),
        c.steps(x),
        *c.norm,
        *(c.step(v) for v in state),
        *(c.step(v) for v in zeros),
        c.steps(gx),
        sums.view(2, c.view.rows, c.view.columns).numpy(),
        *c.params,
        dtype.type(variant.alpha),
        dtype.type(variant.through),
        c.view.width,
        c.view.per_neuron,
    )
    kernels_cpu.spread(call, c.view.items, torch.get_num_threads())
    total = sums.double().sum(1)
    a, b = (norm.scale * total.numpy() / (steps * batch)).astype(dtype)
    b = (b * norm.rstd).astype(dtype)
    centre: Any = _centre
    finish = functools.partial(
        centre, gx.view(-1, n).numpy(), x.view(-1, n).numpy(), norm.mean.astype(dtype), a, b
    )
    kernels_cpu.spread(finish, steps * batch, torch.get_num_threads())
    return [gx, total[1].to(weight.dtype, copy=True), total[0].to(bias.dtype, copy=True)]


_forward_op = torch.library.custom_op(
    "snnkit::normalised",
    _forward,
    mutates_args=(),
    schema="(Tensor x, Tensor weight, Tensor bias, Tensor? mask, Tensor[] state, Tensor[] params, "
    f"{_STATIC}) -> Tensor[]",
)
_backward_op = torch.library.custom_op(
    "snnkit::normalised_backward",
    _backward,
    mutates_args=(),
    schema="(Tensor? gs, Tensor? gd, Tensor x, Tensor[] statistics, Tensor? mask, Tensor[] state, "
    f"Tensor[] params, {_STATIC}) -> Tensor[]",
)


@_forward_op.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, *others: Any) -> list[Tensor]:
    like = torch.empty_like(x, memory_format=torch.contiguous_format)
    d = x.new_empty(0) if mask is None else torch.empty_like(like)
    return [like, d, *(x.new_empty(x.shape[-1], dtype=torch.float64) for _ in range(2))]


@_backward_op.register_fake
def _(
    gs: Tensor | None, gd: Tensor | None, x: Tensor, statistics: Sequence[Tensor], *others: Any
) -> list[Tensor]:
    like = torch.empty_like(x, memory_format=torch.contiguous_format)
    return [like, *map(torch.empty_like, statistics[:2])]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, weight, bias, mask, state, params, *static = inputs
    ctx.set_materialize_grads(False)
    ctx.static, ctx.counts = static, (len(state), len(params))
    ctx.save_for_backward(x, weight, bias, *output[2:], mask, *state, *params)


def _gradients(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    x, weight, bias, mean, var, mask, *rest = ctx.saved_tensors
    count, others = ctx.counts
    gs, gd = grads[:2]
    found: Sequence[Tensor | None] = [None] * 3
    if gs is not None or gd is not None:
        found = torch.ops.snnkit.normalised_backward(
            gs, gd, x, [weight, bias, mean, var], mask, rest[:count], rest[count:], *ctx.static
        )
    return (*found, None, [None] * count, [None] * others, *(None for _ in ctx.static))


torch.library.register_autograd("snnkit::normalised", _gradients, setup_context=_save)


@torch.compiler.assume_constant_result
def _compiled() -> bool:
    return backend.requested() in ("auto", "numba") and backend.declines("numba", "cpu") is None


def run(
    name: str,
    x: Tensor,
    norm: nn.BatchNorm1d,
    params: Mapping[str, Tensor | float],
    *,
    mask: Tensor | None = None,
    options: Mapping[str, Any] | str | None = None,
    initial: Mapping[str, Tensor] | None = None,
    **backward: Unpack[Backward],
) -> tuple[Tensor, Tensor]:
    """Spikes ``[T, B, N]`` of the neuron `name` over all steps of ``norm(x)``, and ``spikes · mask``.

    In one pass on the CPU in training mode where nothing of the neuron is learned, else operation by
    operation. Running statistics of `norm` are kept as `nn.BatchNorm1d` keeps them.

    mask    [B, N], the same in all steps; None: the spikes come back twice
    others  as in `run.run`
    """
    text = options if isinstance(options, str) else encode(options or {})
    neuron = signature(name, text)
    surrogate, alpha, detach_reset = backward_of(**backward)
    fits = (
        _compiled()
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and x.ndim == 3
        and x.shape[2] == norm.num_features
        and x.shape[0] > 0
        and x.shape[0] * x.shape[1] > 1
        and norm.training
        and norm.affine
        and norm.weight.dtype == x.dtype
        and norm.momentum is not None
        and neuron.spiking
        and neuron.trained
        and all(not isinstance(p, Tensor) or (p.ndim <= 1 and not p.requires_grad) for p in params.values())
    )
    if not fits:
        y = nn.BatchNorm1d.forward(norm, x.flatten(0, 1)).view_as(x)
        result = run_neuron(name, y, None, params, options=text, initial=initial, **backward)
        s = result.s if neuron.spiking else result.h
        return s, s if mask is None else s * mask
    values = values_of(neuron, params, x)
    start = start_of(neuron, None, initial or {}, x)
    variant = Variant(
        eps=norm.eps, name=name, options=text, surrogate=surrogate, alpha=alpha, through=not detach_reset
    )
    s, d, mean, var = torch.ops.snnkit.normalised(x, norm.weight, norm.bias, mask, start, values, *variant)
    if norm.track_running_stats:
        _follow(norm, mean.detach(), var.detach(), x.shape[0] * x.shape[1])
    return s, s if mask is None else d


@torch.no_grad()
def _follow(norm: nn.BatchNorm1d, mean: Tensor, var: Tensor, count: int) -> None:
    """Move the running statistics towards those of a batch, the variance without bias."""
    unbiased = var * (count / (count - 1))
    for running, now in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        assert running is not None
        assert norm.momentum is not None
        running.lerp_(now.to(running.dtype), norm.momentum)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
