"""The delayed product as a torch operator: which kernel runs, and its gradient.

On the CPU two ways compute the same thing, and the cheaper one by measured costs is taken for each of
output, gradient of the synapses and gradient of the input: the taps of each synapse, over the non-zero
inputs only (`taps_cpu`), or frequency by frequency (`fourier`). A kernel without `taps` takes the latter, its
values and their gradients from torch. On CUDA devices `taps_cuda`, elsewhere the reference.
"""

import math
import threading
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from ..backend import BACKENDS, choose
from ..errors import ParameterError, ShapeError
from . import fourier, reference, shift_cpu, taps_cpu
from .kernel import resolve
from .synapses import Synapses

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
"""Kernel values below this share of the largest may be left out, by dtype."""

# nanoseconds of one core: per event and synapse and per output for each number of taps, per number
# transformed and per multiply-add for the frequencies
_TAP_FORWARD = {8: (0.8, 2.2), 16: (1.3, 2.2), 32: (2.4, 2.2)}
_TAP_GRADIENT = {8: (0.42, 2.5), 16: (0.75, 2.5), 32: (1.4, 2.5)}
_TRANSFORM, _MULTIPLY = 1.0, 0.032

_kept: OrderedDict[tuple[int, ...], taps_cpu.Events] = OrderedDict()
_lock = threading.Lock()
_KEEP = 256 << 20
"""Bytes of remembered events; beyond it the oldest are forgotten and listed again when needed."""


def _key(x: Tensor, window: int, steps_out: int) -> tuple[int, ...]:
    """Names x from its forward pass, which forgets what an earlier x left under that name, to its backward
    pass: till then autograd holds x, so nothing else can have its address, and its version tells whether
    it was written to."""
    return (x.data_ptr(), x._version, *x.shape, window, steps_out)


def _keep(x: Tensor, window: int, steps_out: int, events: taps_cpu.Events) -> None:
    """Remember the non-zero entries of x from the forward to the backward pass."""
    with _lock:
        _kept[_key(x, window, steps_out)] = events
        while len(_kept) > 32 or sum(e.nbytes for e in _kept.values()) > _KEEP:
            _kept.popitem(last=False)


def _take(x: Tensor, window: int, steps_out: int) -> taps_cpu.Events | None:
    """What `_keep` remembers of x, which is then forgotten."""
    with _lock:
        return _kept.pop(_key(x, window, steps_out), None)


@torch.compiler.assume_constant_result
def _backend(operation: str, device: str) -> str:
    available = ("reference", "numba") if operation == "channel_delay" else BACKENDS
    return choose(operation, device, available)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


def _taps(synapses: Synapses, tolerance: float) -> tuple[taps_cpu.Taps, int | None]:
    """All taps that are needed, and the vector width of the tap kernels that has them (None: too many)."""
    weight, position, sigma, window, version = synapses
    widest = float(sigma.abs().max()) if sigma.numel() else 0.0
    if not math.isfinite(widest):
        raise ParameterError("sigma has values that are not finite; it is a width in steps.")
    needed = taps_cpu.tap_count(widest, version, window, tolerance)
    # σ of every tap, in the shape and dtype of the weights
    each = _array(sigma.to(weight.dtype).expand(weight.shape))
    taps = taps_cpu.Taps(_array(weight), _array(position), each, window, version, needed)
    return taps, next((w for w in taps_cpu.WIDTHS if needed <= w), None)


def _density(x: Tensor) -> float:
    """Share of x that is not 0, from some eight of its steps."""
    some = x[:: max(1, len(x) // 8)]
    return int(torch.count_nonzero(some)) / max(1, some.numel())


def _cheaper_by_taps(
    costs: dict[int, tuple[float, float]], width: int | None, synaptic: float, outputs: int, other: float
) -> bool:
    if width is None:
        return False
    event, output = costs[width]
    return event * synaptic + output * outputs <= other


@torch.library.custom_op("snnkit::delayed_product", mutates_args=(), device_types="cpu")
def _product(
    x: Tensor,
    weight: Tensor,
    position: Tensor,
    sigma: Tensor,
    window: int,
    version: str,
    padding_right: int,
    tolerance: float,
    keep: bool,
    bfloat16: bool,
) -> Tensor:
    # a copy has an address that anything may have next
    keep = keep and x.is_contiguous()
    x = x.contiguous()
    steps_out = x.shape[0] + padding_right
    _take(x, window, steps_out)
    outputs, inputs, count = weight.shape
    if x.numel() == 0:
        return x.new_zeros((steps_out, x.shape[1], outputs))
    taps, width = _taps(Synapses(weight, position, sigma, window, version), tolerance)
    batch = x.shape[1]
    if width is not None:
        points = fourier.Geometry(x.shape[0], window, steps_out).points
        columns = batch * (inputs + outputs) + inputs * outputs
        dense = points * (_TRANSFORM * columns + _MULTIPLY * batch * inputs * outputs)
        synaptic = _density(x) * x.numel() * outputs * count
        if _cheaper_by_taps(_TAP_FORWARD, width, synaptic, steps_out * batch * outputs, dense):
            events = taps_cpu.find_events(x.numpy(), window, steps_out, width)
            if keep:
                _keep(x, window, steps_out, events)
            return torch.from_numpy(taps_cpu.forward(events, taps._replace(width=width), steps_out))
    return fourier.product(x, torch.from_numpy(taps_cpu.dense_kernel(taps)), steps_out)


@_product.register_fake
def _(x, weight, position, sigma, window, version, padding_right, *_):  # type: ignore[no-untyped-def]
    return x.new_empty((x.shape[0] + padding_right, x.shape[1], weight.shape[0]))


@torch.library.custom_op("snnkit::delayed_product_gradient", mutates_args=(), device_types="cpu")
def _gradient(
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    position: Tensor,
    sigma: Tensor,
    window: int,
    version: str,
    tolerance: float,
    of_input: bool,
    of_synapses: bool,
    bfloat16: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    events = _take(x, window, g.shape[0]) if x.is_contiguous() else None
    g, x = g.contiguous(), x.contiguous()
    none = x.new_empty(0)
    gx, gw, gp, gs = none, none.clone(), none.clone(), none.clone()
    if x.numel() == 0:
        if of_synapses:
            gw, gp, gs = (torch.zeros_like(weight) for _ in range(3))
        return torch.zeros_like(x) if of_input else gx, gw, gp, gs
    outputs, inputs, count = weight.shape
    steps_out, batch, _ = g.shape
    taps, width = _taps(Synapses(weight, position, sigma, window, version), tolerance)
    by_taps = False
    if of_synapses and width is not None:
        points = fourier.Geometry(x.shape[0], window, steps_out).points
        columns = batch * (inputs + outputs * (not of_input)) + inputs * outputs
        dense = points * (_TRANSFORM * columns + _MULTIPLY * batch * inputs * outputs)
        synaptic = _density(x) * x.numel() * outputs * count
        by_taps = _cheaper_by_taps(_TAP_GRADIENT, width, synaptic, steps_out * batch * outputs, dense)
        if by_taps:
            if events is None:
                events = taps_cpu.find_events(x.numpy(), window, steps_out, width)
            found = taps_cpu.gradient(events, g.numpy(), taps._replace(width=width))
            gw, gp, gs = (torch.from_numpy(a) for a in found)
    if of_input or (of_synapses and not by_taps):
        kernel = torch.from_numpy(taps_cpu.dense_kernel(taps)) if of_input else None
        input_gradient, gk = fourier.gradient(g, x, kernel, window, of_synapses and not by_taps, bfloat16)
        gx = gx if input_gradient is None else input_gradient
        if gk is not None:
            found = taps_cpu.dense_adjoint(gk.numpy(), taps)
            gw, gp, gs = (torch.from_numpy(a) for a in found)
    return gx, gw, gp, gs


@_gradient.register_fake
def _(g, x, weight, *rest):  # type: ignore[no-untyped-def]
    *_, of_input, of_synapses, _bfloat16 = rest

    def made(like: Tensor, wanted: bool) -> Tensor:
        return torch.empty_like(like, memory_format=torch.contiguous_format) if wanted else x.new_empty(0)

    return made(x, of_input), *(made(weight, of_synapses) for _ in range(3))


def _setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, weight, position, sigma, window, version, _, tolerance, _, bfloat16 = inputs
    ctx.save_for_backward(x, weight, position, sigma)
    ctx.options = window, version, tolerance, bfloat16


def _backward(ctx, g):  # type: ignore[no-untyped-def]
    x, weight, position, sigma = ctx.saved_tensors
    window, version, tolerance, bfloat16 = ctx.options
    of_input, *of_synapses = ctx.needs_input_grad[:4]
    gx, gw, gp, gs = torch.ops.snnkit.delayed_product_gradient(
        g, x, weight, position, sigma, window, version, tolerance, of_input, any(of_synapses), bfloat16
    )
    if sigma.ndim == 0 and of_synapses[2]:
        gs = gs.sum().to(sigma.dtype)
    wanted = zip((gx, gw, gp, gs), ctx.needs_input_grad, strict=False)
    return *(value if needed else None for value, needed in wanted), *(None,) * 6


_product.register_autograd(_backward, setup_context=_setup)
_product.register_autocast("cpu", torch.float32)


@torch.library.custom_op("snnkit::delayed_response", mutates_args=(), device_types="cpu")
def _response_product(x: Tensor, response: Tensor, padding_right: int, bfloat16: bool) -> Tensor:
    """y ``[T + padding_right, B, O]``, y[t] = Σ_d response[d]·x[t − d], for a response ``[window, O, I]``."""
    steps_out = x.shape[0] + padding_right
    if x.numel() == 0:
        return x.new_zeros((steps_out, x.shape[1], response.shape[1]))
    return fourier.product(x.contiguous(), response, steps_out)


@_response_product.register_fake
def _(x, response, padding_right, bfloat16):  # type: ignore[no-untyped-def]
    return x.new_empty((x.shape[0] + padding_right, x.shape[1], response.shape[1]))


@torch.library.custom_op("snnkit::delayed_response_gradient", mutates_args=(), device_types="cpu")
def _response_gradient(
    g: Tensor, x: Tensor, response: Tensor, of_input: bool, of_response: bool, bfloat16: bool
) -> tuple[Tensor, Tensor]:
    """∂L/∂x and ∂L/∂response, or empty where not asked for."""
    if x.numel() == 0:
        return torch.zeros_like(x), torch.zeros_like(response)
    window = response.shape[0]
    kernel = response if of_input else None
    found = fourier.gradient(g.contiguous(), x.contiguous(), kernel, window, of_response, bfloat16)
    gx, gr = (x.new_empty(0) if a is None else a for a in found)
    return gx, gr


@_response_gradient.register_fake
def _(g, x, response, of_input, of_response, bfloat16):  # type: ignore[no-untyped-def]
    wanted = ((x, of_input), (response, of_response))
    gx, gr = (x.new_empty(like.shape if found else 0) for like, found in wanted)
    return gx, gr


def _response_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, response, _, ctx.bfloat16 = inputs
    ctx.save_for_backward(x, response)


def _response_backward(ctx, g):  # type: ignore[no-untyped-def]
    needed = ctx.needs_input_grad[:2]
    found = torch.ops.snnkit.delayed_response_gradient(g, *ctx.saved_tensors, *needed, ctx.bfloat16)
    return *(value if wanted else None for value, wanted in zip(found, needed, strict=True)), None, None


_response_product.register_autograd(_response_backward, setup_context=_response_setup)
_response_product.register_autocast("cpu", torch.float32)


def _check(
    name: str, x: Tensor, shape: str, synapses: Synapses, padding_right: int, tolerance: float | None
) -> None:
    """Raise where kernels would read past an array or mean something else; weight is ``[…, inputs, K]``."""
    weight, position, sigma, window, version = synapses
    if weight.ndim != len(shape.split(",")):
        raise ShapeError(f"{name} expects weight {shape}, got {list(weight.shape)}.")
    inputs = weight.shape[-2]
    if x.ndim != 3 or x.shape[2] != inputs:
        raise ShapeError(f"{name} expects x [T, B, {inputs}] for these weights, got {list(x.shape)}.")
    if position.shape != weight.shape or (sigma.ndim and sigma.shape != weight.shape):
        raise ShapeError(
            f"{name}: weight {list(weight.shape)} and position {list(position.shape)} should have one shape, "
            f"and sigma {list(sigma.shape)} that or none."
        )
    resolve(version)
    if window < 1 or padding_right < 0:
        raise ParameterError(
            f"{name} needs window ≥ 1 and padding_right ≥ 0, got {window} and {padding_right}."
        )
    if tolerance is not None and not 0 <= tolerance < 1:
        raise ParameterError(f"{name} needs 0 ≤ tolerance < 1, got {tolerance}.")


def _computed(x: Tensor, synapses: Synapses) -> tuple[Tensor, Synapses]:
    """In the dtype that kernels compute in: that of the weights if kernels have it, else float32."""
    weight, position, sigma, window, version = synapses
    if weight.dtype not in TOLERANCE:
        weight, position = weight.float(), position.float()
    return x.to(weight.dtype), Synapses(weight, position, sigma, window, version)


def delayed_product(
    x: Tensor,
    synapses: Synapses,
    padding_right: int = 0,
    tolerance: float | None = None,
    bfloat16: bool = False,
) -> Tensor:
    """`reference.delayed_product` by the backend that `snnkit.backend` chooses.

        y[t, b, o] = Σ_i Σ_k weight[o, i, k] · Σ_d K(d; position[o, i, k], σ) · x[t − d, b, i]

    x              ``[T, B, I]``; the result is ``[T + padding_right, B, O]`` in the dtype of the weights
    synapses       of weights ``[O, I, K]``
    padding_right  steps that the output is longer than the input
    tolerance      kernel values below this share of the largest may be left out; 0 for none; default 1e-5 in
                   float32, 1e-13 in float64
    bfloat16       products of the input's gradient with factors of 8 bits: about three times as fast where
                   the CPU has the instruction, an error of less than 1 % in that gradient; on CUDA devices
                   without effect

    Raises `ShapeError` or `ParameterError` for arguments that don't fit.
    """
    _check("delayed_product", x, "[O, I, K]", synapses, padding_right, tolerance)
    chosen = _backend("delayed_product", x.device.type)
    if chosen == "reference":
        return reference.delayed_product(x.to(synapses.weight.dtype), synapses, padding_right)
    dtype = synapses.weight.dtype
    x, synapses = _computed(x, synapses)
    weight, position, *_ = synapses
    if tolerance is None:
        tolerance = TOLERANCE[weight.dtype]
    if chosen == "cuda" and x.numel() and padding_right + x.shape[0] > 0:
        from . import taps_cuda

        return taps_cuda.delayed_product(x, synapses, padding_right, tolerance).to(dtype)
    y: Tensor
    if resolve(synapses.version).taps is None:
        response = reference.response(synapses)
        y = torch.ops.snnkit.delayed_response(x, response, padding_right, bfloat16)
        return y.to(dtype)
    needed = torch.is_grad_enabled() and (weight.requires_grad or position.requires_grad)
    y = torch.ops.snnkit.delayed_product(x, *synapses, padding_right, tolerance, needed, bfloat16)
    return y.to(dtype)


def _one_output(synapses: Synapses) -> Synapses:
    """Parameters ``[N, K]`` as ``[1, N, K]``, which the loops read."""
    weight, position, sigma, window, version = synapses
    return Synapses(weight[None], position[None], sigma, window, version)


@torch.library.custom_op("snnkit::channel_delay", mutates_args=(), device_types="cpu")
def _channel(
    x: Tensor,
    weight: Tensor,
    position: Tensor,
    sigma: Tensor,
    window: int,
    version: str,
    padding_right: int,
    tolerance: float,
) -> Tensor:
    taps, _ = _taps(_one_output(Synapses(weight, position, sigma, window, version)), tolerance)
    return torch.from_numpy(shift_cpu.forward(_array(x), taps, x.shape[0] + padding_right))


@_channel.register_fake
def _(x, weight, position, sigma, window, version, padding_right, tolerance):  # type: ignore[no-untyped-def]
    return x.new_empty((x.shape[0] + padding_right, *x.shape[1:]))


@torch.library.custom_op("snnkit::channel_delay_gradient", mutates_args=(), device_types="cpu")
def _channel_gradient(
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    position: Tensor,
    sigma: Tensor,
    window: int,
    version: str,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    taps, _ = _taps(_one_output(Synapses(weight, position, sigma, window, version)), tolerance)
    gx, *found = shift_cpu.gradient(_array(g), _array(x), taps)
    gw, gp, gs = (torch.from_numpy(a[0]) for a in found)
    return torch.from_numpy(gx), gw, gp, gs


@_channel_gradient.register_fake
def _(g, x, weight, position, sigma, window, version, tolerance):  # type: ignore[no-untyped-def]
    made = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, weight, weight, weight))
    return tuple(made)


def _channel_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, weight, position, sigma, window, version, _, tolerance = inputs
    ctx.save_for_backward(x, weight, position, sigma)
    ctx.options = window, version, tolerance


def _channel_backward(ctx, g):  # type: ignore[no-untyped-def]
    sigma = ctx.saved_tensors[3]
    gx, gw, gp, gs = torch.ops.snnkit.channel_delay_gradient(g, *ctx.saved_tensors, *ctx.options)
    if sigma.ndim == 0:
        gs = gs.sum().to(sigma.dtype)
    wanted = zip((gx, gw, gp, gs), ctx.needs_input_grad, strict=False)
    return *(value if needed else None for value, needed in wanted), *(None,) * 4


_channel.register_autograd(_channel_backward, setup_context=_channel_setup)
_channel.register_autocast("cpu", torch.float32)


def channel_delay(
    x: Tensor, synapses: Synapses, padding_right: int = 0, tolerance: float | None = None
) -> Tensor:
    """`reference.channel_delay` by the backend that `snnkit.backend` chooses.

        y[t, b, n] = Σ_k weight[n, k] · Σ_d K(d; position[n, k], σ) · x[t − d, b, n]

    x ``[T, B, N]``, weight and position ``[N, K]``, sigma a scalar tensor or ``[N, K]``; the result is
    ``[T + padding_right, B, N]``. The rest, and what is raised, as in `delayed_product`.
    """
    _check("channel_delay", x, "[N, K]", synapses, padding_right, tolerance)
    chosen = _backend("channel_delay", x.device.type)
    if chosen != "numba" or resolve(synapses.version).taps is None:
        return reference.channel_delay(x.to(synapses.weight.dtype), synapses, padding_right)
    dtype = synapses.weight.dtype
    x, synapses = _computed(x, synapses)
    if tolerance is None:
        tolerance = TOLERANCE[synapses.weight.dtype]
    y: Tensor = torch.ops.snnkit.channel_delay(x, *synapses, padding_right, tolerance)
    return y.to(dtype)
