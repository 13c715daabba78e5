"""Rows of `OPERATIONS`: functions of torch and methods of tensors."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from ...errors import GraphError
from ..branches import Shape, Value
from .maps import adapted, as_numbers, convolved, normalised, pooled, sent
from .tracer import BATCH, ONE_STEP, STEPS, Tracer, factory, operation


@operation(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
def _dropped(
    tracer: Tracer, where: str, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    if training and p:
        raise GraphError(f"{where} drops out in evaluation too; pass training=self.training.")
    return x


@operation("contiguous", "detach", "float", "double", "to", "type_as")
def _same(tracer: Tracer, where: str, x: Value, *_: Any, **__: Any) -> Value:
    return x


@operation("clone", torch.clone)
def _copied(tracer: Tracer, where: str, x: Value, *_: Any, **__: Any) -> Value:
    return x.copied()


@factory(torch.zeros)
def _zeros(where: str, *size: Any, **options: Any) -> Value:
    return _constant(where, size, 0.0, options)


@factory(torch.ones)
def _ones(where: str, *size: Any, **options: Any) -> Value:
    return _constant(where, size, 1.0, options)


@factory(torch.full)
def _full(where: str, size: Any, fill_value: Any, **options: Any) -> Value:
    return _constant(where, (size,), fill_value, options)


@factory(torch.Tensor.expand, torch.broadcast_to)
def _expanded(where: str, x: torch.Tensor, *size: Any) -> Value:
    sizes = _sizes(size)
    given = [1] * (len(sizes) - x.ndim) + list(x.shape)
    made = _constant(where, [g if n == -1 else n for n, g in zip(sizes, given, strict=True)], 0.0, {})
    return _shifted(where, made, x)


@operation("expand_as")
def _expanded_as(tracer: Tracer, where: str, x: Any, y: Value) -> Value:
    if isinstance(x, Value):
        raise GraphError(f"{where} repeats spikes, which a Graph has no place for.")
    return _shifted(where, Value(y.shape, (), y.lead), x)


@operation(torch.zeros_like)
def _zeros_like(tracer: Tracer, where: str, x: Value, **_: Any) -> Value:
    return Value(x.shape, (), x.lead)


@operation(torch.ones_like)
def _ones_like(tracer: Tracer, where: str, x: Value, **_: Any) -> Value:
    return Value(x.shape, (), x.lead).shifted(np.ones(()))


@operation(torch.full_like)
def _full_like(tracer: Tracer, where: str, x: Value, fill_value: Any, **_: Any) -> Value:
    return _shifted(where, Value(x.shape, (), x.lead), fill_value)


@operation("new_zeros")
def _new_zeros(tracer: Tracer, where: str, x: Value, *size: Any, **options: Any) -> Value:
    return _constant(where, size, 0.0, options)


@operation("new_ones")
def _new_ones(tracer: Tracer, where: str, x: Value, *size: Any, **options: Any) -> Value:
    return _constant(where, size, 1.0, options)


@operation("new_full")
def _new_full(tracer: Tracer, where: str, x: Value, size: Any, fill_value: Any, **options: Any) -> Value:
    return _constant(where, (size,), fill_value, options)


def _constant(where: str, size: Sequence[Any], number: Any, options: dict[str, Any]) -> Value:
    """The same number in every place of a tensor of all steps and samples, which is never made."""
    lead, shape = _led(where, _sizes(options.get("size", size)))
    return _shifted(where, Value(shape, (), lead), number)


def _sizes(given: Sequence[Any]) -> list[int]:
    """Sizes that were given one by one, or as one sequence."""
    whole = given[0] if len(given) == 1 and isinstance(given[0], tuple | list) else given
    return [int(n) for n in whole]


@operation("size")
def _size(tracer: Tracer, where: str, x: Value, axis: int | None = None) -> Any:
    shape = (*x.lead, *x.shape)
    return shape if axis is None else shape[axis]


@operation("dim")
def _dim(tracer: Tracer, where: str, x: Value) -> int:
    return len(x.lead) + len(x.shape)


@operation(operator.add, operator.iadd, torch.add, "add", "add_")
def _added(tracer: Tracer, where: str, x: Any, y: Any, alpha: float = 1) -> Value:
    if isinstance(y, Value):
        y = y if alpha == 1 else y.scaled(np.asarray(float(alpha)))
        return x.plus(where, y) if isinstance(x, Value) else _shifted(where, y, x)
    return _shifted(where, x, as_numbers(y) * alpha)


@operation(operator.sub, operator.isub, torch.sub, "sub", "sub_")
def _subtracted(tracer: Tracer, where: str, x: Any, y: Any, alpha: float = 1) -> Value:
    if isinstance(y, Value):
        y = y.scaled(np.asarray(-float(alpha)))
        return x.plus(where, y) if isinstance(x, Value) else _shifted(where, y, x)
    return _shifted(where, x, -as_numbers(y) * alpha)


@operation(operator.neg, torch.neg, "neg")
def _negative(tracer: Tracer, where: str, x: Value) -> Value:
    return x.scaled(np.asarray(-1.0))


@operation(operator.mul, operator.imul, torch.mul, "mul", "mul_")
def _multiplied(tracer: Tracer, where: str, x: Any, y: Any) -> Value:
    value, factor = (x, _number(y)) if isinstance(x, Value) and x.branches else (y, _number(x))
    if isinstance(value, Value) and isinstance(factor, Value):
        raise GraphError(f"{where} multiplies spikes with spikes, which no synapse does.")
    return value.scaled(_of_a_step(where, value, factor))


def _number(x: Any) -> Any:
    """A value that depends on no spikes as the constant that it is."""
    return x.spread_bias.reshape(x.shape) if isinstance(x, Value) and not x.branches else x


@operation(operator.truediv, operator.itruediv, torch.div, "div", "div_")
def _divided(tracer: Tracer, where: str, x: Any, y: Any) -> Value:
    y = _number(y)
    if isinstance(y, Value):
        raise GraphError(f"{where} divides by spikes, which no synapse does.")
    return x.scaled(1 / _of_a_step(where, x, y))


def _shifted(where: str, x: Value, constant: Any) -> Value:
    return x.shifted(_of_a_step(where, x, constant))


def _of_a_step(where: str, x: Value, constant: Any) -> np.ndarray:
    """A constant that is the same in every step and sample, so that it broadcasts to x.shape."""
    numbers = as_numbers(constant)
    if numbers.ndim == 0 and _counted(float(numbers)):
        raise GraphError(
            f"{where} computes with the number of steps or samples, which a Graph does not know beforehand."
        )
    extra = numbers.ndim - len(x.shape)
    if extra > 0:
        if any(n != 1 for n in numbers.shape[:extra]):
            raise GraphError(
                f"{where}: a constant that differs between steps or samples has no place in a Graph."
            )
        numbers = numbers.reshape(numbers.shape[extra:])
    try:
        np.broadcast_to(numbers, x.shape)
    except ValueError:
        raise GraphError(f"{where}: {list(numbers.shape)} does not fit {list(x.shape)}.") from None
    return numbers


def _counted(number: float) -> bool:
    """Whether a factor is a multiple of `STEPS` or `BATCH`, or one over it: made from x.shape."""
    if not number or not math.isfinite(number):
        return False
    for n in (abs(number), abs(1 / number)):
        whole = round(n)
        if whole and abs(n - whole) <= 1e-12 * n and (whole % STEPS == 0 or whole % BATCH == 0):
            return True
    return False


@operation(torch.cat, torch.concat, torch.concatenate)
def _joined(tracer: Tracer, where: str, tensors: Sequence[Any], dim: int = 0) -> Value:
    parts = list(tensors)
    if not all(isinstance(p, Value) for p in parts):
        raise GraphError(f"{where} joins spikes with constants, which have no place in a Graph.")
    first = parts[0]
    axis = _axis(where, first, dim)
    sizes = [p.shape[axis] for p in parts]
    shape = (*first.shape[:axis], sum(sizes), *first.shape[axis + 1 :])
    places = np.arange(math.prod(shape)).reshape(shape)
    whole: Value | None = None
    for part, start in zip(parts, np.cumsum([0, *sizes[:-1]]), strict=True):
        if (
            part.lead != first.lead
            or part.shape[:axis] + part.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]
        ):
            raise GraphError(f"{where} joins shapes {[list(p.shape) for p in parts]}.")
        row = np.take(places, np.arange(start, start + part.shape[axis]), axis).reshape(-1)
        moved = part.moved(where, row, shape)
        whole = moved if whole is None else whole.plus(where, moved)
    assert whole is not None
    return whole


def _axis(where: str, x: Value, dim: int) -> int:
    """An axis of a step's shape, counted from its own first."""
    axis = (dim if dim >= 0 else dim + len(x.lead) + len(x.shape)) - len(x.lead)
    if not 0 <= axis < len(x.shape):
        raise GraphError(f"{where} acts along time or batch, which a Graph has no place for.")
    return axis


@operation(operator.getitem)
def _picked(tracer: Tracer, where: str, x: Any, index: Any) -> Any:
    if not isinstance(x, Value):
        return x[index]
    parts = index if isinstance(index, tuple) else (index,)
    at = next((k for k, p in enumerate(parts) if p is Ellipsis), None)
    if at is not None:
        others = (*parts[:at], *parts[at + 1 :])
        missing = len(x.lead) + len(x.shape) - sum(_axes(p) for p in others)
        parts = (*parts[:at], *[slice(None)] * missing, *parts[at + 1 :])
    if any(p != slice(None) for p in parts[: len(x.lead)]):
        raise GraphError(f"{where} picks steps or samples, which a Graph has no place for. {ONE_STEP}")
    places = np.arange(x.size).reshape(x.shape)
    plain = tuple(p.numpy() if isinstance(p, torch.Tensor) else p for p in parts[len(x.lead) :])
    kept = places[plain]
    return _taken(where, x, kept)


def _axes(part: Any) -> int:
    """Axes that one part of an index stands for."""
    if part is None:
        return 0
    return part.ndim if isinstance(part, torch.Tensor) and part.dtype == torch.bool else 1


def _taken(where: str, x: Value, kept: np.ndarray) -> Value:
    """The neurons `kept` (flat indices in their new shape), each at most once."""
    row = np.full(x.size, -1)
    if len(np.unique(kept)) != kept.size:
        raise GraphError(f"{where} takes a neuron twice, which a Graph has no place for.")
    row[kept.reshape(-1)] = np.arange(kept.size)
    return x.moved(where, row, kept.shape)


@operation("view", "reshape", torch.reshape)
def _reshaped(tracer: Tracer, where: str, x: Value, *sizes: Any) -> Value:
    flat = _sizes(sizes)
    total = math.prod(x.lead) * x.size
    if flat.count(-1) == 1:
        rest = -math.prod(flat)
        if rest and total % rest == 0:
            flat[flat.index(-1)] = total // rest
    if math.prod(flat) != total:
        raise GraphError(
            f"{where}: {list(sizes)} does not fit a tensor [T, B, {', '.join(map(str, x.shape))}]."
        )
    for k in range(1, len(flat) + 1):
        if math.prod(flat[:k]) == math.prod(x.lead):
            lead = tuple(flat[:k])
            folded = (math.prod(tracer.lead),)
            if lead == x.lead or (lead in (tracer.lead, folded) and x.lead in (tracer.lead, folded)):
                return x.reshaped(tuple(flat[k:]) or (1,), lead)
    raise GraphError(f"{where} mixes time or batch with neurons, which a Graph has no place for.")


def _led(where: str, sizes: Sequence[int]) -> tuple[Shape, Shape]:
    """The sizes of time and batch, and behind them those of a step."""
    for k in (1, 2):
        lead = tuple(sizes[:k])
        if lead in ((STEPS, BATCH), (BATCH, STEPS), (STEPS * BATCH,)):
            return lead, tuple(sizes[k:]) or (1,)
    raise GraphError(f"{where} mixes time or batch with neurons, which a Graph has no place for.")


@operation("flatten", torch.flatten)
def _flattened(tracer: Tracer, where: str, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    shape = [*x.lead, *x.shape]
    start, end = start_dim % len(shape), end_dim % len(shape)
    return _reshaped(tracer, where, x, *shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


@operation("unflatten", torch.unflatten)
def _unflattened(tracer: Tracer, where: str, x: Value, dim: int, sizes: Sequence[int]) -> Value:
    shape = [*x.lead, *x.shape]
    at = dim % len(shape)
    whole = list(sizes)
    if whole.count(-1) == 1:
        whole[whole.index(-1)] = shape[at] // -math.prod(whole)
    return _reshaped(tracer, where, x, *shape[:at], *whole, *shape[at + 1 :])


@operation("squeeze", torch.squeeze)
def _squeezed(tracer: Tracer, where: str, x: Value, dim: int) -> Value:
    axis = _axis(where, x, dim)
    return x.reshaped((*x.shape[:axis], *x.shape[axis + 1 :])) if x.shape[axis] == 1 else x


@operation("unsqueeze", torch.unsqueeze)
def _unsqueezed(tracer: Tracer, where: str, x: Value, dim: int) -> Value:
    axis = (dim if dim >= 0 else dim + len(x.lead) + len(x.shape) + 1) - len(x.lead)
    if not 0 <= axis <= len(x.shape):
        raise GraphError(f"{where} puts an axis before time or batch, which a Graph has no place for.")
    return x.reshaped((*x.shape[:axis], 1, *x.shape[axis:]))


@operation(torch.stack)
def _stacked(tracer: Tracer, where: str, tensors: Sequence[Any], dim: int = 0) -> Value:
    parts = [_unsqueezed(tracer, where, p, dim) if isinstance(p, Value) else p for p in tensors]
    return _joined(tracer, where, parts, dim)


@operation("split", torch.split)
def _parted(
    tracer: Tracer, where: str, x: Value, size: int | Sequence[int], dim: int = 0
) -> tuple[Value, ...]:
    axis = _axis(where, x, dim)
    ends = range(size, x.shape[axis] + size, size) if isinstance(size, int) else np.cumsum(size)
    places = np.arange(x.size).reshape(x.shape)
    parts = np.split(places, [int(n) for n in ends][:-1], axis)
    return tuple(_taken(where, x, part) for part in parts)


@operation("chunk", torch.chunk)
def _chunked(tracer: Tracer, where: str, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    return _parted(tracer, where, x, -(-x.shape[_axis(where, x, dim)] // chunks), dim)


@operation("flip", torch.flip)
def _flipped(tracer: Tracer, where: str, x: Value, *dims: Any) -> Value:
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    axes = tuple(_axis(where, x, d) for d in given)
    return _taken(where, x, np.flip(np.arange(x.size).reshape(x.shape), axes))


@operation("permute", torch.permute)
def _permuted(tracer: Tracer, where: str, x: Value, *dims: Any) -> Value:
    order = [int(d) % (len(x.lead) + len(x.shape)) for d in (dims[0] if len(dims) == 1 else dims)]
    if sorted(order[: len(x.lead)]) != list(range(len(x.lead))):
        raise GraphError(f"{where} moves time or batch among neurons; layers here take [T, B, …].")
    x = replace(x, lead=tuple(x.lead[d] for d in order[: len(x.lead)]))
    axes = [d - len(x.lead) for d in order[len(x.lead) :]]
    return _taken(where, x, np.arange(x.size).reshape(x.shape).transpose(axes))


@operation("transpose", torch.transpose)
def _transposed(tracer: Tracer, where: str, x: Value, dim0: int, dim1: int) -> Value:
    order = list(range(len(x.lead) + len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permuted(tracer, where, x, *order)


@operation(F.pad)
def _padded(
    tracer: Tracer, where: str, x: Value, pad: Sequence[int], mode: str = "constant", value: float = 0
) -> Value:
    if mode != "constant" or value:
        raise GraphError(f"{where}: only padding with zeros can be lowered.")
    if any(n < 0 for n in pad):
        raise GraphError(f"{where}: negative padding; slice instead.")
    pairs = [(pad[k], pad[k + 1]) for k in range(0, len(pad), 2)][::-1]
    if len(pairs) > len(x.shape):
        raise GraphError(f"{where} pads along time or batch, which a Graph has no place for.")
    pairs = [(0, 0)] * (len(x.shape) - len(pairs)) + pairs
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True))
    places = np.arange(math.prod(shape)).reshape(shape)
    inner = places[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pairs, strict=True))]
    return x.moved(where, inner.reshape(-1), shape).copied()


@operation(F.linear)
def _linear_function(tracer: Tracer, where: str, x: Value, weight: Any, bias: Any = None) -> Value:
    return sent(tracer, where, x, weight, bias)


@operation(operator.matmul, torch.matmul, "matmul")
def _product(tracer: Tracer, where: str, x: Any, y: Any) -> Value:
    if not isinstance(x, Value) or isinstance(y, Value):
        raise GraphError(f"{where}: spikes times a constant matrix, x @ w, is what a Graph has a place for.")
    return sent(tracer, where, x, y.T, None)


@operation(F.conv2d)
def _conv_function(
    tracer: Tracer, where: str, x: Value, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    if isinstance(padding, str):
        raise GraphError(f"{where}: only zero padding given as numbers can be lowered.")
    return convolved(tracer, where, x, weight, bias, (stride, padding, dilation, groups))


@operation(F.batch_norm)
def _norm_function(
    tracer: Tracer, where: str, x: Value, running_mean: Any, running_var: Any, weight: Any = None,
    bias: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    if training or running_mean is None or len(x.lead) != 1:
        raise GraphError(f"{where}: running statistics over [T·B, C, …] can be lowered, nothing else.")
    if x.shape[0] != as_numbers(running_mean).size:
        raise GraphError(f"{where} normalises {as_numbers(running_mean).size} of {x.shape[0]} features.")
    return normalised(x, running_mean, running_var, weight, bias, eps)


@operation(F.avg_pool2d)
def _average_function(
    tracer: Tracer, where: str, x: Value, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Value:  # fmt: skip
    whole = not ceil_mode and divisor_override is None
    whole = whole and (count_include_pad or not any(_pair(padding)))
    return pooled(tracer, where, x, kernel_size, kernel_size if stride is None else stride, padding, whole)


@operation(F.adaptive_avg_pool2d)
def _adaptive_function(tracer: Tracer, where: str, x: Value, output_size: Any) -> Value:
    return adapted(tracer, where, x, output_size)
