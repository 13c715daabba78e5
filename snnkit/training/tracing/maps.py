"""Linear maps that layers and operations share: a matrix, a convolution, average pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.modules.utils import _pair

from ...errors import GraphError
from ...graph import Projection, conv_output_shape
from ..branches import Value
from .tracer import Met, Tracer


def as_numbers(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double().numpy()
    return np.asarray(value, np.float64)


def sent(
    tracer: Tracer, where: Met | str, value: Value, weight: Any, bias: Any, compose: bool = False
) -> Value:
    """Through a matrix; with `compose` also behind other synapses, with which it is multiplied."""
    weight = as_numbers(weight)
    if len(value.shape) > 1 or value.size != weight.shape[1]:
        raise GraphError(
            f"{where} expects {weight.shape[1]} inputs along the last axis and gets shape "
            f"{list(value.shape)}; flatten first."
        )
    sent = value.through(where, [Projection("", "", "", weight)], (len(weight),), tracer.compose or compose)
    return sent if bias is None else sent.shifted(as_numbers(bias))


def convolved(
    tracer: Tracer, where: Met | str, value: Value, weight: Any, bias: Any, geometry: Sequence[Any]
) -> Value:
    stride, padding, dilation, groups = geometry
    options = {
        "stride": [int(n) for n in _pair(stride)],
        "padding": [int(n) for n in _pair(padding)],
        "dilation": [int(n) for n in _pair(dilation)],
        "groups": int(groups),
    }
    projection = Projection("", "", "", as_numbers(weight), kind="conv", options=options)
    sent = value.through(
        where, [projection], conv_output_shape(str(where), projection, value.shape), tracer.compose
    )
    return sent if bias is None else sent.shifted(as_numbers(bias).reshape(-1, 1, 1))


def pooled(
    tracer: Tracer, where: Met | str, value: Value, kernel: Any, stride: Any, padding: Any, plain: bool
) -> Value:
    """Average pooling: over tiles it is merged into what follows, else it is a convolution of its own.

    plain  every window is divided by its whole size
    """
    if len(value.shape) != 3 or not plain:
        raise GraphError(
            f"{where}: average pooling of [C, H, W] whose windows are all divided by their size can be "
            f"lowered; the shape is {list(value.shape)}."
        )
    tiles = _whole(_pair(kernel))
    channels, height, width = value.shape
    if _whole(_pair(stride)) != tiles or _whole(_pair(padding)) != (0, 0):
        weight = torch.full((channels, 1, *tiles), 1 / math.prod(tiles), dtype=torch.float64)
        return convolved(tracer, where, value, weight, None, (stride, padding, 1, channels))
    rows, columns = height // tiles[0], width // tiles[1]
    c, y, x = np.indices(value.shape).reshape(3, -1)
    inside = (y < rows * tiles[0]) & (x < columns * tiles[1])
    row = np.where(inside, (c * rows + y // tiles[0]) * columns + x // tiles[1], -1)
    exact = (rows * tiles[0], columns * tiles[1]) == (height, width)
    gain = np.full(value.size, 1 / math.prod(tiles))
    return value.moved(where, row, (channels, rows, columns), gain, tiles if exact else None)


def adapted(tracer: Tracer, where: Met | str, value: Value, size: Any) -> Value:
    if len(value.shape) != 3:
        raise GraphError(f"{where} pools [C, H, W] and gets shape {list(value.shape)}.")
    wanted = [n if w is None else int(w) for n, w in zip(value.shape[1:], _pair(size), strict=True)]
    if any(n % w for n, w in zip(value.shape[1:], wanted, strict=True)):
        raise GraphError(f"{where}: {list(value.shape[1:])} does not divide into {wanted} equal tiles.")
    tiles = tuple(n // w for n, w in zip(value.shape[1:], wanted, strict=True))
    return pooled(tracer, where, value, tiles, tiles, 0, True)


def _whole(pair: Any) -> tuple[int, int]:
    y, x = pair
    return int(y), int(x)


def normalised(value: Value, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Value:
    """γ · (x − μ)/√(σ² + ε) + β by running statistics of the first axis."""
    spread = (-1, *[1] * (len(value.shape) - 1))
    factor = 1 / np.sqrt(as_numbers(variance) + eps)
    if weight is not None:
        factor = as_numbers(weight) / np.sqrt(as_numbers(variance) + eps)
    offset = -as_numbers(mean) * factor
    if bias is not None:
        offset = offset + as_numbers(bias)
    return value.scaled(factor.reshape(spread)).shifted(offset.reshape(spread))
