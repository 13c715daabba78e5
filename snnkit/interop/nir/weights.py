"""Weights of several kinds, one behind the other: put together without losing what they are.

A convolution stays one behind a pooling, a scale or another convolution wherever that is exact; other
products are of matrices, sparse ones where zeros prevail, and memory is asked before any is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...engine import synapses
from ...errors import TooLargeError
from ...graph import INPUT, Graph, Population, Projection, conv_geometry, conv_output_shape
from ...machine import available_memory

Shape = tuple[int, ...]

DENSE = 0.5
"""Share of weights ≠ 0 from which a product is kept as a dense matrix."""

ENTRY = 40
"""Bytes that one synapse takes while a sparse matrix is made of its convolution."""


@dataclass(frozen=True)
class Weights:
    """Weights from what goes in to what comes out, float64.

    kind     "identity" (what goes in comes out), "one_to_one" [N], "dense" [O, I], "conv"
             [C_out, C_in/groups, kH, kW] or "sparse", a scipy matrix [O, I]
    options  geometry of a convolution, as `Projection` has it
    images   shapes (C, H, W) that a convolution goes between
    """

    kind: str = "identity"
    weight: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    images: tuple[Shape, Shape] = ((), ())


IDENTITY = Weights()


def require_memory(what: str, size: float) -> None:
    """Raise `TooLargeError` naming `what` unless memory has `size` bytes left."""
    limit = available_memory()
    if size > limit:
        raise TooLargeError(f"{what} takes {size / 1e9:.1f} GB, of which {limit / 1e9:.1f} GB are there.")


def convolution(where: str, weight: np.ndarray, options: dict[str, Any], image: Shape) -> Weights:
    """A convolution of an image. Raises `GraphError` beginning with `where` if it does not fit."""
    probe = Projection("w", "", "", weight, options=options)
    return Weights("conv", weight, options, (image, conv_output_shape(where, probe, image)))


def times(weights: Weights, factor: float, size: int) -> Weights:
    """All weights times one factor; `size` values go in."""
    if factor == 1:
        return weights
    if weights.kind == "identity":
        return Weights("one_to_one", np.full(size, float(factor)))
    return replace(weights, weight=weights.weight * factor)


def scaled(weights: Weights, gain: np.ndarray, shapes: tuple[Shape, Shape]) -> Weights:
    """What comes out times `gain` [O]; shapes of what goes in and comes out."""
    if (gain == 1).all():
        return weights
    return then(weights, Weights("one_to_one", gain), (shapes[0], shapes[1], shapes[1]))


def masked(weights: Weights, chosen: np.ndarray, shapes: tuple[Shape, Shape]) -> Weights:
    """Only what leads to the `chosen` of what comes out, bool [O]."""
    return scaled(weights, chosen.astype(np.float64), shapes)


def then(first: Weights, second: Weights, shapes: tuple[Shape, Shape, Shape]) -> Weights:
    """`second` behind `first`; shapes before, between and behind them. Raises `TooLargeError`."""
    if first.kind == "identity":
        return second
    if second.kind == "identity":
        return first
    for rule in (_scale_behind, _scale_before, _convolutions):
        made = rule(first, second, shapes)
        if made is not None:
            return made
    if first.kind == second.kind == "dense":
        require_memory(f"A product of weights [{_size(shapes[2])}, {_size(shapes[0])}]", 8 * _area(shapes))
        return Weights("dense", second.weight @ first.weight)
    a, b = matrix(second, shapes[1:]), matrix(first, shapes[:2])
    most = min(float(np.bincount(a.indices, minlength=a.shape[1]) @ np.diff(b.indptr)), _area(shapes))
    require_memory(f"A product of weights [{a.shape[0]}, {b.shape[1]}] with {most:.3g} of them", 12 * most)
    product = a @ b
    if product.nnz > DENSE * _area(shapes):
        return Weights("dense", product.toarray())
    return Weights("sparse", product)


def _size(shape: Shape) -> int:
    return math.prod(shape)


def _area(shapes: tuple[Shape, Shape, Shape]) -> float:
    return float(_size(shapes[0])) * _size(shapes[2])


def _scale_behind(first: Weights, second: Weights, shapes: tuple[Shape, Shape, Shape]) -> Weights | None:
    if second.kind != "one_to_one":
        return None
    scale = second.weight
    if first.kind == "one_to_one":
        return replace(first, weight=first.weight * scale)
    if first.kind == "dense":
        return replace(first, weight=first.weight * scale[:, None])
    if first.kind == "conv":
        channels = scale.reshape(first.images[1][0], -1)
        if not np.ptp(channels, axis=1).any():
            return replace(first, weight=first.weight * channels[:, :1, None, None])
    return None


def _scale_before(first: Weights, second: Weights, shapes: tuple[Shape, Shape, Shape]) -> Weights | None:
    if first.kind != "one_to_one":
        return None
    if second.kind == "dense":
        return replace(second, weight=second.weight * first.weight)
    if second.kind == "conv":
        channels = first.weight.reshape(second.images[0][0], -1)
        if not np.ptp(channels, axis=1).any():
            groups = int(second.options.get("groups", 1))
            each = np.repeat(channels[:, 0].reshape(groups, -1), second.weight.shape[0] // groups, axis=0)
            return replace(second, weight=second.weight * each[:, :, None, None])
    return None


def _convolutions(first: Weights, second: Weights, shapes: tuple[Shape, Shape, Shape]) -> Weights | None:
    """Two convolutions as one, or None where one does not compute the same.

    Taps lie at a·d₁ + b·s₁·d₂, the strides multiply, the padding is p₁ + s₁·p₂. What the second pads with
    zeros must be zeros of the one too: no window of the first may reach from there into the image.
    """
    if not first.kind == second.kind == "conv":
        return None
    axes = [_axis(first, second, axis) for axis in (0, 1)]
    if None in axes:
        return None
    (size_y, dil_y, taps_y), (size_x, dil_x, taps_x) = axes  # type: ignore[misc]
    (strides, pads, _), (strides_2, pads_2, _) = _geometry(first), _geometry(second)
    g1, g2 = (int(w.options.get("groups", 1)) for w in (first, second))
    groups = math.gcd(g1, g2)
    into, middle, out = first.images[0][0], second.images[0][0], second.images[1][0]
    require_memory(f"A convolution of {out} channels", 16.0 * out * into * size_y * size_x)
    one, two = _ungrouped(first, into), _ungrouped(second, middle)
    full = np.zeros((out, into, size_y, size_x))
    for a in np.ndindex(one.shape[2:]):
        for b in np.ndindex(two.shape[2:]):
            full[:, :, taps_y[a[0], b[0]], taps_x[a[1], b[1]]] += two[..., b[0], b[1]] @ one[..., a[0], a[1]]
    blocks = full.reshape(groups, out // groups, groups, into // groups, size_y, size_x)
    weight = np.concatenate([blocks[g, :, g] for g in range(groups)])
    options = {
        "stride": [strides[k] * strides_2[k] for k in (0, 1)],
        "padding": [pads[k] + strides[k] * pads_2[k] for k in (0, 1)],
        "dilation": [dil_y, dil_x],
        "groups": groups,
    }
    made = convolution("", weight, options, first.images[0])
    return made if made.images[1] == second.images[1] else None


def _geometry(weights: Weights) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    return conv_geometry(Projection("w", "", "", weights.weight, options=weights.options))


def _axis(first: Weights, second: Weights, axis: int) -> tuple[int, int, np.ndarray] | None:
    """Along one axis: (size, dilation, place of each pair of taps [k₁, k₂]); None where it is not exact."""
    (s1, p1, d1), (s2, p2, d2) = ([g[axis] for g in _geometry(w)] for w in (first, second))
    k1, k2 = (w.weight.shape[2 + axis] for w in (first, second))
    before, middle, behind = (shape[1 + axis] for shape in (*first.images, second.images[1]))
    reach = (behind - 1) * s2 - p2 + d2 * (k2 - 1)  # the last value between them that the second reads
    if p2 and d1 * (k1 - 1) >= s1 + p1:
        return None
    if reach >= middle and middle * s1 - p1 < before:
        return None
    places = np.arange(k1)[:, None] * d1 + np.arange(k2) * s1 * d2
    dilation = math.gcd(*places.ravel().tolist()) or 1
    size = int(places.max()) // dilation + 1
    if len(np.unique(places)) < size:
        return None  # holes would be stored, and counted, as weights
    return size, dilation, places // dilation


def _ungrouped(weights: Weights, into: int) -> np.ndarray:
    """[C_out, C_in, kH, kW], zeros between groups."""
    groups, (out, part, *window) = int(weights.options.get("groups", 1)), weights.weight.shape
    full = np.zeros((groups, out // groups, groups, part, *window))
    for g in range(groups):
        full[g, :, g] = weights.weight.reshape(groups, out // groups, part, *window)[g]
    return full.reshape(out, into, *window)


def matrix(weights: Weights, shapes: tuple[Shape, Shape]) -> Any:
    """Weights of any kind as a scipy matrix [O, I] of compressed rows. Raises `TooLargeError`."""
    from scipy.sparse import csr_matrix, diags_array

    into, out = (_size(shape) for shape in shapes)
    if weights.kind == "sparse":
        return weights.weight
    if weights.kind in ("identity", "one_to_one"):
        return csr_matrix(diags_array(np.ones(out) if weights.weight is None else weights.weight))
    if weights.kind == "dense":
        return csr_matrix(weights.weight)
    most = float(weights.weight.size) * _size(weights.images[1][1:])
    require_memory(f"A convolution written out, with {most:.3g} synapses,", ENTRY * most)
    image, made = weights.images
    graph = Graph({"a": Population("a", INPUT, image), "b": Population("b", "li", made)}, [])
    s = synapses(graph, Projection("p", "a", "b", weights.weight, kind="conv", options=weights.options))
    return csr_matrix((s.weight, (s.target, s.source)), shape=(out, into))


def applied(weights: Weights, x: np.ndarray) -> np.ndarray:
    """The weights times values x [I], without writing a convolution out: [O]."""
    if weights.kind == "identity":
        return x
    if weights.kind == "one_to_one":
        return np.asarray(weights.weight * x)
    if weights.kind != "conv":
        return np.asarray(weights.weight @ x)
    (sy, sx), (py, px), (dy, dx) = _geometry(weights)
    groups, (out, part, k_y, k_x) = int(weights.options.get("groups", 1)), weights.weight.shape
    height, width = weights.images[1][1:]
    y = np.zeros((groups, out // groups, height, width))
    padded = np.pad(x.reshape(weights.images[0]), ((0, 0), (py, py), (px, px)))
    padded = padded.reshape(groups, part, *padded.shape[1:])
    taps = weights.weight.reshape(groups, out // groups, part, k_y, k_x)
    for a in range(k_y):
        for b in range(k_x):
            rows = slice(a * dy, a * dy + (height - 1) * sy + 1, sy)
            columns = slice(b * dx, b * dx + (width - 1) * sx + 1, sx)
            y += np.einsum("goc,gchw->gohw", taps[..., a, b], padded[:, :, rows, columns])
    return y.reshape(-1)
