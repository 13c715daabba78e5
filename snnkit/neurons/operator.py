"""The compiled loops of a neuron over time as torch's custom operators, ``snnkit::scan`` and its backward.

They compute what `reference` defines, with the kernels of `kernels_cpu` and `kernels_cuda`, built from
the neuron's `step` and `adjoint`. As operators they go through torch.compile and autocast.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .. import memory
from . import kernels_cpu, kernels_cuda
from .neuron import Neuron, equations
from .surrogate import SURROGATES, Surrogate


class Variant(NamedTuple):
    """What a call computes, besides its tensors: the trailing arguments of both operators, in their order.

    name, options     the neuron, options as `encode` gives them
    surrogate, alpha  name in `SURROGATES` and its sharpness
    through           whether the reset takes part in the backward pass
    trace             whether h is returned
    tape              whether there will be a backward pass
    learn             names of the parameters with a gradient, joined by commas
    used              "numba" or "cuda"
    """

    name: str
    options: str
    surrogate: str
    alpha: float
    through: bool
    trace: bool
    tape: bool
    learn: str
    used: str

    @property
    def neuron(self) -> Neuron:
        """The equations."""
        return equations(self.name, self.options)

    @property
    def derivative(self) -> Surrogate:
        """The surrogate."""
        return SURROGATES[self.surrogate]

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the parameters with a gradient."""
        return tuple(self.learn.split(",")) if self.learn else ()

    @property
    def keeps_h(self) -> bool:
        """Whether the forward pass writes h; on the CPU the backward pass works it out again."""
        return self.trace or (self.tape and self.used == "cuda") or not self.neuron.spiking

    @property
    def taped(self) -> tuple[str, ...]:
        """State variables that the forward pass stores before each step."""
        on_device = self.tape and self.used == "cuda"
        return kernels_cuda.tape(self.neuron, bool(self.learn)) if on_device else ()


_STATIC = (
    "str name, str options, str surrogate, float alpha, bool through, bool trace, bool tape, str learn, "
    "str used"
)


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
    """A parameter as the kernels read it: one number, or one value per column, [columns]."""
    if p.ndim == 0:
        return p.numpy()[()]
    one = p.broadcast_to(shape[len(shape) - axes :]).reshape(-1).numpy()
    return np.tile(one, layout.columns // max(one.size, 1))


def scalars_of(neuron: Neuron, params: Sequence[Tensor]) -> tuple[str, ...]:
    """Names of the parameters that are one number (shape [])."""
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


def as_rows(t: Tensor, layout: Layout) -> np.ndarray:
    """``[T, rows, columns]`` of a tensor of all steps; of one step, T = 1."""
    t = t.contiguous()
    return t.view(-1, layout.rows, layout.columns).numpy()


def empty_like(like: Tensor) -> Tensor:
    """An unwritten contiguous tensor of this shape, on large pages where it is large."""
    new = torch.empty_like(like, memory_format=torch.contiguous_format)
    if new.device.type == "cpu" and not isinstance(new, FakeTensor) and new.nbytes >= memory.LARGE:
        memory.huge_pages(new.data_ptr(), new.nbytes)
    return new


def dtype_of(t: Tensor) -> str:
    """NumPy's name of a tensor's number type."""
    return str(t.dtype)[6:]


def _outputs(
    x: Tensor, state: Sequence[Tensor], variant: Variant
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Unwritten s and h [T, ...] (empty where there is none), final state [...] and tapes [T, ...]."""
    s = empty_like(x) if variant.neuron.spiking else x.new_empty(0)
    h = empty_like(x) if variant.keeps_h else x.new_empty(0)
    tapes = [empty_like(x) for _ in variant.taped]
    return s, h, [torch.empty_like(v, memory_format=torch.contiguous_format) for v in state], tapes


def _forward(x: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], *static: Any) -> list[Tensor]:
    variant = Variant(*static)
    neuron = variant.neuron
    s, h, final, tapes = _outputs(x, state, variant)
    for new, old in zip(final, state, strict=True):
        new.copy_(old)
    if x.numel() == 0:
        return [s, h, *final, *tapes]
    if variant.used == "cuda":
        steps = [_steps(t, x) for t in (x, s, h, *tapes)]
        arguments = [*steps, *(v.view(-1) for v in final), *_per_column(params, x.shape[1:])]
        kernel = kernels_cuda.forward(neuron, dtype_of(x), h.numel() > 0, variant.taped)
        kernels_cuda.launch(kernel.forward, final[0].numel(), arguments)
        return [s, h, *final, *tapes]
    shape = x.shape[1:]
    view = layout(shape, params)
    axes = max((p.ndim for p in params), default=0)
    none = [np.empty((0,) * n, dtype_of(x)) for n in range(4)]
    call = functools.partial(
        kernels_cpu.forward(neuron, dtype_of(x), scalars_of(neuron, params), h.numel() > 0).forward,
        as_rows(x, view),
        as_rows(s, view) if neuron.spiking else none[3],
        as_rows(h, view) if h.numel() else none[3],
        none[3],
        none[2],
        none[1],
        none[1],
        *(as_rows(v, view)[0] for v in final),
        *(along_columns(p, shape, axes, view) for p in params),
        view.width,
        view.per_neuron,
    )
    kernels_cpu.spread(call, view.items, torch.get_num_threads())
    return [s, h, *final, *tapes]


def _backward(
    gs: Tensor | None,
    gh: Tensor | None,
    gstate: Sequence[Tensor],
    h: Tensor | None,
    tapes: Sequence[Tensor],
    x: Tensor | None,
    state: Sequence[Tensor],
    params: Sequence[Tensor],
    *static: Any,
) -> list[Tensor]:
    variant = Variant(*static)
    neuron, names, surrogate = variant.neuron, variant.learned, variant.derivative
    like = _either(x, h)
    gx = empty_like(like)
    g0 = [g.clone(memory_format=torch.contiguous_format) for g in gstate]
    gp = [like.new_zeros(like.shape[1:]) for _ in names]
    if like.numel() == 0:
        return [gx, *g0, *gp]
    grads = ("s" if gs is not None else "") + ("h" if gh is not None else "")
    shape = like.shape[1:]
    dtype = np.dtype(dtype_of(like))
    scalars = dtype.type(variant.alpha), dtype.type(variant.through)
    if variant.used == "cuda":
        steps = [_steps(t, like) for t in (gs, gh, h, *tapes, x)]
        columns = [v.contiguous().view(-1) for v in (*state, *g0)]
        arguments = [*steps, *columns, _steps(gx, like), *(g.view(-1) for g in gp)]
        kernel = kernels_cuda.backward(neuron, surrogate, dtype.name, grads, names, variant.taped)
        arguments += [*_per_column(params, shape), *scalars]
        kernels_cuda.launch(kernel.backward, g0[0].numel(), arguments)
        return [gx, *g0, *gp]
    view = layout(shape, params, narrow(len(like)))
    axes = max((p.ndim for p in params), default=0)
    none = [np.empty((0,) * n, dtype) for n in range(4)]
    scalar = scalars_of(neuron, params)
    call = functools.partial(
        kernels_cpu.backward(neuron, surrogate, dtype.name, scalar, grads, names).backward,
        none[3] if gs is None else as_rows(gs, view),
        none[3] if gh is None else as_rows(gh, view),
        none[3],
        none[2],
        none[3] if x is None else as_rows(x, view),
        *(none[1] for _ in ("scale", "shift", "mean", "rstd")),
        *(as_rows(v, view)[0] for v in state),
        *(as_rows(g, view)[0] for g in g0),
        as_rows(gx, view),
        *(as_rows(g, view)[0] for g in gp),
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


_forward_op = torch.library.custom_op(
    "snnkit::scan",
    _forward,
    mutates_args=(),
    schema=f"(Tensor x, Tensor[] state, Tensor[] params, {_STATIC}) -> Tensor[]",
)
_backward_op = torch.library.custom_op(
    "snnkit::scan_backward",
    _backward,
    mutates_args=(),
    schema="(Tensor? gs, Tensor? gh, Tensor[] gstate, Tensor? h, Tensor[] tapes, Tensor? x, Tensor[] state, "
    f"Tensor[] params, {_STATIC}) -> Tensor[]",
)


@_forward_op.register_fake
def _(x: Tensor, state: Sequence[Tensor], params: Sequence[Tensor], *static: Any) -> list[Tensor]:
    s, h, final, tapes = _outputs(x, state, Variant(*static))
    return [s, h, *final, *tapes]


@_backward_op.register_fake
def _(
    gs: Tensor | None, gh: Tensor | None, gstate: Sequence[Tensor], h: Tensor | None,
    tapes: Sequence[Tensor], x: Tensor | None, *others: Any,
) -> list[Tensor]:  # fmt: skip
    like = _either(x, h)
    learned = Variant(*others[2:]).learned
    return [
        torch.empty_like(like, memory_format=torch.contiguous_format),
        *(like.new_empty(like.shape[1:]) for _ in [*gstate, *learned]),
    ]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, state, params, *static = inputs
    variant = Variant(*static)
    neuron = variant.neuron
    ctx.set_materialize_grads(False)
    ctx.variant = variant
    tapes = output[2 + len(neuron.state) :]
    ctx.counts = len(state), len(params), len(tapes)
    keeps_x = bool(variant.learn) or (neuron.spiking and variant.used != "cuda")
    keeps_h = not keeps_x or variant.used == "cuda"
    ctx.save_for_backward(x if keeps_x else None, output[1] if keeps_h else None, *tapes, *state, *params)


def _gradients(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    variant: Variant = ctx.variant
    n_state, n_params, n_tapes = ctx.counts
    x, h, *saved = ctx.saved_tensors
    tapes, saved = saved[:n_tapes], saved[n_tapes:]
    state, params = saved[:n_state], saved[n_state:]
    neuron = variant.neuron
    like = _either(x, h)
    gs = grads[0] if neuron.spiking else None
    gh = grads[1]
    if gs is None and gh is None:
        gh = torch.zeros_like(like)
    gstate = [like.new_zeros(like.shape[1:]) if g is None else g for g in grads[2 : 2 + n_state]]
    gx, *others = torch.ops.snnkit.scan_backward(gs, gh, gstate, h, tapes, x, state, params, *variant)
    gparams: list[Tensor | None] = [None] * n_params
    for n, g in zip(variant.learned, others[n_state:], strict=True):
        i = neuron.params.index(n)
        gparams[i] = g.sum_to_size(params[i].shape)
    return (gx, others[:n_state], gparams, *(None for _ in variant))


torch.library.register_autograd("snnkit::scan", _gradients, setup_context=_save)
torch.library.register_autocast("snnkit::scan", "cpu", torch.float32)
torch.library.register_autocast("snnkit::scan", "cuda", torch.float32)
