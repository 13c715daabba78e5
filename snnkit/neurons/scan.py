"""Any neuron over time: ``run`` takes inputs ``[T, ...]`` and gives spikes, state and gradients.

The loops are built from the neuron's `step` and `adjoint`: `reference` as plain torch that autograd
differentiates, `kernels_cpu` and `kernels_cuda` compiled. The compiled ones are the custom operators
``snnkit::scan`` and ``snnkit::scan_backward``, so that torch.compile and autocast go on working.
"""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .. import backend, memory
from ..errors import ParameterError, ShapeError
from . import kernels_cpu, kernels_cuda
from .equations import differentiable
from .neuron import Neuron, resolve
from .surrogate import SURROGATES, checked

State = tuple[Tensor, ...]


class Run(NamedTuple):
    """What `run` gives.

    s      spikes, 0 or 1 in the dtype of x; empty for a neuron that never spikes
    h      membrane potential before the reset, in every step; empty unless traced or needed
    state  variables after the last step, in the order of the neuron's `state`
    """

    s: Tensor
    h: Tensor
    state: State


def encode(options: Mapping[str, Any]) -> str:
    """A neuron's options as text, the form that the operators take."""
    return json.dumps(dict(options), sort_keys=True)


class Facts(NamedTuple):
    """What `run` has to know of a neuron."""

    name: str
    params: tuple[str, ...]
    state: tuple[str, ...]
    initial: tuple[tuple[str, float], ...]
    trainable: bool
    spiking: bool


@functools.lru_cache(maxsize=256)
def equations(name: str, options: str) -> Neuron:
    """The neuron `name` with these options (JSON)."""
    return resolve(name, json.loads(options))


# Where torch.compile traces, these two are asked once and what they say is taken as given.
@torch.compiler.assume_constant_result
def facts(name: str, options: str) -> Facts:
    """What is asked of the neuron `name` with these options (JSON)."""
    neuron = equations(name, options)
    return Facts(
        name, neuron.params, neuron.state, neuron.initial, neuron.adjoint is not None, neuron.spiking
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
    surrogate: str = "atan",
    alpha: float | None = None,
    detach_reset: bool = True,
    trace: bool = False,
    initial: Mapping[str, Tensor] | None = None,
) -> Run:
    """The neuron `name` of `NEURONS` over all steps of x.

    x             input [T, ...]
    state         the state to go on from, each variable [...]; None: as `initial`
    params        per-step parameters, each a number or a tensor that broadcasts to x[0]
    options       static choices of the neuron, e.g. {"reset": "soft"}, or `encode` of them
    surrogate     name in `SURROGATES`, and its sharpness `alpha` (None: the source's)
    detach_reset  whether the backward pass leaves out what a spike does to the state
    trace         whether to return h
    initial       where variables start without `state`; broadcasts to x[0]. Others: the neuron's own start
    """
    text = options if isinstance(options, str) else encode(options or {})
    neuron = facts(name, text)
    surrogate, alpha = checked(surrogate, alpha)
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
        result = reference(equations(name, text), x, start, values, surrogate, alpha, detach_reset)
    else:
        learned = zip(neuron.params, values, strict=True)
        learn = ",".join(n for n, p in learned if p.requires_grad and torch.is_grad_enabled())
        grad = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *start, *values))
        if grad and not neuron.trainable:
            raise ParameterError(
                f"neuron {name!r} has no adjoint and cannot be trained; use torch.no_grad()."
            )
        out = torch.ops.snnkit.scan(
            x, start, values, name, text, surrogate, alpha, not detach_reset, trace, grad, learn, used
        )
        result = Run(out[0], out[1], tuple(out[2 : 2 + len(neuron.state)]))
    if result.s.dtype != dtype:
        result = Run(result.s.to(dtype), result.h.to(dtype), result.state)
    return result


def values_of(neuron: Facts, params: Mapping[str, Tensor | float], x: Tensor) -> list[Tensor]:
    """The per-step parameters in the neuron's order, checked against one step of x."""
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
    neuron: Facts, state: Sequence[Tensor] | None, initial: Mapping[str, Tensor], x: Tensor
) -> list[Tensor]:
    """The state before the first step: `state`, checked, or the initial one."""
    if state is None:
        own, shape = dict(neuron.initial), x.shape[1:]
        return [
            initial[n].to(x.dtype).expand(shape) if n in initial else x.new_full(shape, own.get(n, 0.0))
            for n in neuron.state
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


def _with_torch_exp(ds_dh: Callable[..., Any]) -> Callable[..., Tensor]:
    assert isinstance(ds_dh, FunctionType)
    return FunctionType(ds_dh.__code__, {**ds_dh.__globals__, "exp": torch.exp})


def reference(
    neuron: Neuron,
    x: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    surrogate: str,
    alpha: float,
    detach_reset: bool,
) -> Run:
    """The definition: the neuron's step, once per time step, differentiated by autograd."""
    ds_dh = _with_torch_exp(SURROGATES[surrogate].ds_dh)

    def spike(h: Tensor, v_th: Tensor) -> Tensor:
        return _Spike.apply(h - v_th, ds_dh, alpha)  # type: ignore[no-untyped-call]

    def reset(h: Tensor, v_th: Tensor) -> Tensor:
        s = spike(h, v_th)
        return s.detach() if detach_reset else s

    step = differentiable(neuron.step)(spike, reset)
    spikes, trace, now = [], [], tuple(state)
    for x_t in x:
        s, h, *new = step(*now, x_t, *params)
        spikes.append(s)
        trace.append(h)
        now = tuple(new)
    s = torch.stack(spikes) if neuron.spiking else x.new_empty(0)
    return Run(s, torch.stack(trace), now)


class Layout(NamedTuple):
    """How [T, ...] is seen by the kernels: [T, rows, columns], parameters along the columns."""

    rows: int
    columns: int
    width: int
    per_neuron: bool

    @property
    def items(self) -> int:
        """Number of blocks of columns."""
        return self.rows * -(-self.columns // self.width)


def layout(shape: Sequence[int], params: Sequence[Tensor], widest: int = kernels_cpu.WIDTH) -> Layout:
    """How the kernels see ``[T, *shape]``, in blocks of at most `widest` columns (but 64 at least)."""
    size = math.prod(shape)
    axes = max((p.ndim for p in params), default=0)
    share = -(-size // (4 * torch.get_num_threads()))
    width = max(64, min(widest, -(-share // 16) * 16))
    if axes == 0:
        return Layout(1, size, width, False)
    neurons = math.prod(shape[len(shape) - axes :])
    rows = size // max(neurons, 1)
    # Several short rows side by side are one row with its parameters repeated.
    together = max((k for k in range(1, rows + 1) if rows % k == 0 and k * neurons <= width), default=1)
    return Layout(rows // together, neurons * together, width, True)


def along_columns(p: Tensor, shape: Sequence[int], axes: int, layout: Layout) -> Any:
    """A parameter as the kernels read it: one number, or one value per column."""
    if p.ndim == 0:
        return p.numpy()[()]
    one = p.broadcast_to(shape[len(shape) - axes :]).reshape(-1).numpy()
    return np.tile(one, layout.columns // max(one.size, 1))


def scalars_of(neuron: Neuron, params: Sequence[Tensor]) -> tuple[str, ...]:
    """Names of the parameters that are one number."""
    return tuple(n for n, p in zip(neuron.params, params, strict=True) if p.ndim == 0)


def narrow(steps: int) -> int:
    """The widest block of a backward pass."""
    return min(kernels_cpu.NARROW, kernels_cpu.KEPT // max(steps, 1))


def _steps(t: Tensor | None, like: Tensor) -> Tensor:
    """[T, M] for a CUDA kernel; what is not there is empty."""
    if t is None or t.numel() == 0:
        return like.new_empty(0, 0)
    return t.contiguous().view(t.shape[0], -1)


def _per_column(params: Sequence[Tensor], shape: Sequence[int]) -> list[Tensor]:
    """Parameters for a CUDA kernel, all of one length that repeats along the columns."""
    axes = max((p.ndim for p in params), default=0)
    return [p.broadcast_to(shape[len(shape) - axes :]).contiguous().view(-1) for p in params]


def seen(t: Tensor, layout: Layout) -> np.ndarray:
    """``[T, rows, columns]`` of a tensor of all steps; of one step, T = 1."""
    t = t.contiguous()
    return t.view(-1, layout.rows, layout.columns).numpy()


def _keeps_h(neuron: Neuron, trace: bool, tape: bool, used: str) -> bool:
    """On the CPU the backward pass works h out again."""
    return trace or (tape and used == "cuda") or not neuron.spiking


def _tape(neuron: Neuron, tape: bool, learn: str, used: str) -> tuple[str, ...]:
    return kernels_cuda.tape(neuron, bool(learn)) if tape and used == "cuda" else ()


def room(like: Tensor) -> Tensor:
    """An unwritten contiguous tensor of this shape, on large pages where it is large."""
    new = torch.empty_like(like, memory_format=torch.contiguous_format)
    if new.device.type == "cpu" and not isinstance(new, FakeTensor) and new.nbytes >= memory.LARGE:
        memory.huge_pages(new.data_ptr(), new.nbytes)
    return new


def _outputs(
    neuron: Neuron, x: Tensor, state: Sequence[Tensor], trace: bool, tape: bool, learn: str, used: str
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Unwritten s, h, final state and tape."""
    s = room(x) if neuron.spiking else x.new_empty(0)
    h = room(x) if _keeps_h(neuron, trace, tape, used) else x.new_empty(0)
    tapes = [room(x) for _ in _tape(neuron, tape, learn, used)]
    return s, h, [torch.empty_like(v, memory_format=torch.contiguous_format) for v in state], tapes


def _scan(
    x: Tensor,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    name: str,
    options: str,
    surrogate: str,
    alpha: float,
    through: bool,
    trace: bool,
    tape: bool,
    learn: str,
    used: str,
) -> list[Tensor]:
    neuron = equations(name, options)
    s, h, final, tapes = _outputs(neuron, x, state, trace, tape, learn, used)
    for new, old in zip(final, state, strict=True):
        new.copy_(old)
    if x.numel() == 0:
        return [s, h, *final, *tapes]
    variant = (name, options, surrogate, str(x.dtype)[6:])
    if used == "cuda":
        steps = [_steps(t, x) for t in (x, s, h, *tapes)]
        arguments = [*steps, *(v.view(-1) for v in final), *_per_column(params, x.shape[1:])]
        kernel = kernels_cuda.forward(*variant, h.numel() > 0, _tape(neuron, tape, learn, used))
        kernels_cuda.launch(kernel.forward, final[0].numel(), arguments)
        return [s, h, *final, *tapes]
    shape = x.shape[1:]
    view = layout(shape, params)
    axes = max((p.ndim for p in params), default=0)
    none = [np.empty((0,) * n, str(x.dtype)[6:]) for n in range(4)]
    call = functools.partial(
        kernels_cpu.forward(*variant, scalars_of(neuron, params), h.numel() > 0).forward,
        seen(x, view),
        seen(s, view) if neuron.spiking else none[3],
        seen(h, view) if h.numel() else none[3],
        none[3],
        none[2],
        none[1],
        none[1],
        *(seen(v, view)[0] for v in final),
        *(along_columns(p, shape, axes, view) for p in params),
        view.width,
        view.per_neuron,
    )
    kernels_cpu.spread(call, view.items, torch.get_num_threads())
    return [s, h, *final, *tapes]


def _scan_backward(
    gs: Tensor | None,
    gh: Tensor | None,
    gstate: Sequence[Tensor],
    h: Tensor | None,
    tapes: Sequence[Tensor],
    x: Tensor | None,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    name: str,
    options: str,
    surrogate: str,
    alpha: float,
    through: bool,
    learn: str,
    used: str,
) -> list[Tensor]:
    neuron = equations(name, options)
    like = _either(x, h)
    gx = room(like)
    g0 = [g.clone(memory_format=torch.contiguous_format) for g in gstate]
    names = tuple(learn.split(",")) if learn else ()
    gp = [like.new_zeros(like.shape[1:]) for _ in names]
    if like.numel() == 0:
        return [gx, *g0, *gp]
    grads = ("s" if gs is not None else "") + ("h" if gh is not None else "")
    variant = (name, options, surrogate, str(like.dtype)[6:])
    shape = like.shape[1:]
    dtype = np.dtype(str(like.dtype)[6:])
    scalars = dtype.type(alpha), dtype.type(through)
    if used == "cuda":
        steps = [_steps(t, like) for t in (gs, gh, h, *tapes, x)]
        columns = [v.contiguous().view(-1) for v in (*state, *g0)]
        arguments = [*steps, *columns, _steps(gx, like), *(g.view(-1) for g in gp)]
        kernel = kernels_cuda.backward(*variant, grads, names, kernels_cuda.tape(neuron, bool(learn)))
        arguments += [*_per_column(params, shape), *scalars]
        kernels_cuda.launch(kernel.backward, g0[0].numel(), arguments)
        return [gx, *g0, *gp]
    view = layout(shape, params, narrow(len(like)))
    axes = max((p.ndim for p in params), default=0)
    none = [np.empty((0,) * n, dtype) for n in range(4)]
    call = functools.partial(
        kernels_cpu.backward(*variant, scalars_of(neuron, params), grads, names).backward,
        none[3] if gs is None else seen(gs, view),
        none[3] if gh is None else seen(gh, view),
        none[3],
        none[2],
        none[3] if x is None else seen(x, view),
        *(none[1] for _ in ("scale", "shift", "mean", "rstd")),
        *(seen(v, view)[0] for v in state),
        *(seen(g, view)[0] for g in g0),
        seen(gx, view),
        *(seen(g, view)[0] for g in gp),
        none[3],
        *(along_columns(p, shape, axes, view) for p in params),
        *scalars,
        view.width,
        view.per_neuron,
    )
    kernels_cpu.spread(call, view.items, torch.get_num_threads())
    return [gx, *g0, *gp]


def _either(x: Tensor | None, h: Tensor | None) -> Tensor:
    """What tells the shape of the input in a backward pass."""
    like = h if x is None else x
    assert like is not None
    return like


_scan_op = torch.library.custom_op(
    "snnkit::scan",
    _scan,
    mutates_args=(),
    schema="(Tensor x, Tensor[] state, Tensor[] params, str name, str options, str surrogate, float alpha, "
    "bool through, bool trace, bool tape, str learn, str used) -> Tensor[]",
)
_scan_backward_op = torch.library.custom_op(
    "snnkit::scan_backward",
    _scan_backward,
    mutates_args=(),
    schema="(Tensor? gs, Tensor? gh, Tensor[] gstate, Tensor? h, Tensor[] tapes, Tensor? x, Tensor[] state, "
    "Tensor[] params, str name, str options, str surrogate, float alpha, bool through, str learn, "
    "str used) -> Tensor[]",
)


@_scan_op.register_fake
def _(
    x: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], name: str, options: str, surrogate: str,
    alpha: float, through: bool, trace: bool, tape: bool, learn: str, used: str,
) -> list[Tensor]:  # fmt: skip
    s, h, final, tapes = _outputs(equations(name, options), x, state, trace, tape, learn, used)
    return [s, h, *final, *tapes]


@_scan_backward_op.register_fake
def _(
    gs: Tensor | None, gh: Tensor | None, gstate: Sequence[Tensor], h: Tensor | None,
    tapes: Sequence[Tensor], x: Tensor | None, state: Sequence[Tensor], params: Sequence[Tensor],
    name: str, options: str, surrogate: str, alpha: float, through: bool, learn: str, used: str,
) -> list[Tensor]:  # fmt: skip
    like = _either(x, h)
    learned = learn.split(",") if learn else []
    return [
        torch.empty_like(like, memory_format=torch.contiguous_format),
        *(like.new_empty(like.shape[1:]) for _ in [*gstate, *learned]),
    ]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, state, params, *static = inputs
    name, options, learn, used = static[0], static[1], static[7], static[8]
    neuron = equations(name, options)
    ctx.set_materialize_grads(False)
    ctx.static = static
    tapes = output[2 + len(neuron.state) :]
    ctx.counts = len(state), len(params), len(tapes)
    keeps_x = bool(learn) or (neuron.spiking and used != "cuda")
    keeps_h = not keeps_x or used == "cuda"
    ctx.save_for_backward(x if keeps_x else None, output[1] if keeps_h else None, *tapes, *state, *params)


def _backward(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    name, options, surrogate, alpha, through, _, _, learn, used = ctx.static
    n_state, n_params, n_tapes = ctx.counts
    x, h, *saved = ctx.saved_tensors
    tapes, saved = saved[:n_tapes], saved[n_tapes:]
    state, params = saved[:n_state], saved[n_state:]
    neuron = equations(name, options)
    like = _either(x, h)
    gs = grads[0] if neuron.spiking else None
    gh = grads[1]
    if gs is None and gh is None:
        gh = torch.zeros_like(like)
    gstate = [like.new_zeros(like.shape[1:]) if g is None else g for g in grads[2 : 2 + n_state]]
    gx, *others = torch.ops.snnkit.scan_backward(
        gs, gh, gstate, h, tapes, x, state, params,
        name, options, surrogate, alpha, through, learn, used,
    )  # fmt: skip
    gparams: list[Tensor | None] = [None] * n_params
    for n, g in zip(learn.split(",") if learn else (), others[n_state:], strict=True):
        i = neuron.params.index(n)
        gparams[i] = g.sum_to_size(params[i].shape)
    return (gx, others[:n_state], gparams, *(None for _ in ctx.static))


torch.library.register_autograd("snnkit::scan", _backward, setup_context=_setup)
torch.library.register_autocast("snnkit::scan", "cpu", torch.float32)
torch.library.register_autocast("snnkit::scan", "cuda", torch.float32)
