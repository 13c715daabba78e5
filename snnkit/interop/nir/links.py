"""What lies between two populations of a NIR file; `LINKS` says by a node's type what it does to a link."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...engine import synapses
from ...errors import ExportError
from ...graph import INPUT, Graph, Population, Projection, conv_output_shape


@dataclass(frozen=True)
class Weights:
    """Weights of a projection's kind, or of none ("identity": what comes in goes out).

    weight  float64, in the shape of its kind
    shape   of what comes out, without time
    bias    [N] added to it, or None
    """

    kind: str = "identity"
    weight: np.ndarray | None = None
    options: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class Link:
    """A path from a population: weights and what they add up to.

    name          of the node with the weights
    source_shape  of the population that it starts from
    shape         of what comes out, without time; flattened where the path flattens
    delay         s
    delays        s, [N] beside that: each of the source's neurons its own; None: none
    """

    name: str
    source: str
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    weights: Weights = Weights()
    delay: float = 0.0
    delays: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of values that come out."""
        return int(np.prod(self.shape))

    @property
    def bias(self) -> np.ndarray | None:
        """[N] added to what comes out, or None."""
        return self.weights.bias


def after(key: str, node: Any, link: Link) -> Link:
    """The link with one more node at its end. Raises `ExportError` for nodes without a row."""
    kind = type(node).__name__
    if kind not in LINKS:
        raise ExportError(f"NIR: node {key!r} is a {kind}, which a Graph has no place for.")
    return LINKS[kind](key, node, link)


def _flatten(key: str, node: Any, link: Link) -> Link:
    return replace(link, shape=(link.size,))


def _delay(key: str, node: Any, link: Link) -> Link:
    delay = np.unique(node.delay)
    if link.weights.kind != "identity" and len(delay) > 1:
        raise ExportError(f"NIR: node {key!r} delays neurons differently behind weights.")
    if len(delay) > 1:
        each = np.broadcast_to(node.delay, link.shape).reshape(-1).astype(np.float64)
        return replace(link, delays=each + (0 if link.delays is None else link.delays))
    return replace(link, delay=link.delay + float(delay[0]))


def _linear(key: str, node: Any, link: Link, bias: np.ndarray | None = None) -> Link:
    weight = np.asarray(node.weight, np.float64)
    if weight.shape[1] != link.size:
        raise ExportError(f"NIR: node {key!r} has weights {weight.shape}, but gets {link.size} inputs.")
    return _then(key, link, Weights("dense", weight, {}, (weight.shape[0],), bias))


def _affine(key: str, node: Any, link: Link) -> Link:
    return _linear(key, node, link, np.asarray(node.bias, np.float64).reshape(-1))


def _scale(key: str, node: Any, link: Link) -> Link:
    scale = np.broadcast_to(np.asarray(node.scale, np.float64), link.shape).reshape(-1)
    return _then(key, link, Weights("one_to_one", scale, {}, link.shape))


def _convolution(key: str, node: Any, link: Link) -> Link:
    _needs_image(key, link)
    if isinstance(node.padding, str):
        raise ExportError(f"NIR: node {key!r} has padding {node.padding!r}; write it as numbers.")
    geometry = {"stride": node.stride, "padding": node.padding, "dilation": node.dilation}
    weight, bias = np.asarray(node.weight, np.float64), np.asarray(node.bias, np.float64)
    return _convolved(key, link, weight, _pairs(geometry) | {"groups": int(node.groups)}, bias)


def _sum_pool(key: str, node: Any, link: Link) -> Link:
    return _pooled(key, node, link, 1.0)


def _average_pool(key: str, node: Any, link: Link) -> Link:
    return _pooled(key, node, link, 1.0 / np.broadcast_to(node.kernel_size, 2).astype(int).prod())


def _pooled(key: str, node: Any, link: Link, value: float) -> Link:
    """A pooling as the convolution of each channel with `value` everywhere."""
    _needs_image(key, link)
    size = np.broadcast_to(node.kernel_size, 2).astype(int)
    weight = np.full((link.shape[0], 1, *size), value)
    geometry = {"stride": node.stride, "padding": node.padding, "dilation": 1}
    return _convolved(key, link, weight, _pairs(geometry) | {"groups": link.shape[0]}, np.zeros(1))


def _needs_image(key: str, link: Link) -> None:
    if len(link.shape) != 3:
        raise ExportError(f"NIR: node {key!r} needs an image (C, H, W), gets shape {link.shape}.")


def _pairs(geometry: dict[str, Any]) -> dict[str, Any]:
    return {k: [int(n) for n in np.broadcast_to(np.asarray(v), 2)] for k, v in geometry.items()}


def _convolved(key: str, link: Link, weight: np.ndarray, options: dict[str, Any], bias: np.ndarray) -> Link:
    probe = Projection(key, "", "", weight, options=options)
    shape = conv_output_shape(f"NIR node {key!r}", probe, link.shape)
    spread = np.broadcast_to(bias.reshape(-1, 1, 1), shape).reshape(-1) if bias.any() else None
    return _then(key, link, Weights("conv", weight, options, shape, spread))


LINKS: dict[str, Callable[[str, Any, Link], Link]] = {
    "Flatten": _flatten,
    "Delay": _delay,
    "Linear": _linear,
    "Affine": _affine,
    "Scale": _scale,
    "Conv2d": _convolution,
    "SumPool2d": _sum_pool,
    "AvgPool2d": _average_pool,
}
"""Type of a node without neurons → function of its name, itself and the link up to it → the link behind."""


def _then(key: str, link: Link, more: Weights) -> Link:
    """The link with more weights at its end: two matrices behind each other are one."""
    if link.weights.kind != "identity":
        second, first = _matrix(more, link.shape), _matrix(link.weights, link.source_shape)
        carried = None if link.bias is None else second @ link.bias
        total = carried if more.bias is None else more.bias if carried is None else more.bias + carried
        more = Weights("dense", np.asarray((second @ first).todense()), {}, more.shape, total)
    return replace(link, name=key, shape=more.shape, weights=more)


def _matrix(weights: Weights, source: tuple[int, ...]) -> Any:
    """Weights of any kind as a sparse matrix [O, I]; `source` is the shape of what comes in."""
    from scipy.sparse import csr_matrix

    assert weights.weight is not None
    target = weights.shape
    graph = Graph({"a": Population("a", INPUT, source), "b": Population("b", "li", target)}, [])
    if weights.kind == "dense":
        graph.populations["a"].shape = (int(np.prod(source)),)
    s = synapses(graph, Projection("p", "a", "b", weights.weight, kind=weights.kind, options=weights.options))
    return csr_matrix((s.weight, (s.target, s.source)), shape=(int(np.prod(target)), int(np.prod(source))))


def projection(link: Link, target: str, gain: np.ndarray, dt: float) -> Projection:
    """The projection of a link whose target multiplies its input by `gain` [N]; dt in seconds.

    Raises `ExportError` for gains and delays that the weights cannot take up.
    """
    kind, weight = link.weights.kind, link.weights.weight
    if weight is None:
        kind, weight = "one_to_one", np.ones(link.size)
    if (gain != 1).any():
        if kind == "conv":
            per_channel = gain.reshape(link.shape[0], -1)
            if np.ptp(per_channel, axis=1).any():
                raise ExportError(f"NIR: gains of {target!r} differ within a channel of a convolution.")
            weight = weight * per_channel[:, :1, None, None]
        else:
            weight = weight * (gain[:, None] if kind == "dense" else gain)
    steps = link.delay / dt
    each = np.asarray(steps if link.delays is None else steps + link.delays / dt)
    whole = np.round(each)
    if (np.abs(each - whole) > 1e-3).any():
        raise ExportError(
            f"NIR: the delay before {link.name!r}, {1e3 * link.delay:g} ms, is no whole number of steps "
            f"of {1e3 * dt:g} ms; pass another dt."
        )
    delay = whole.astype(np.int32)
    if delay.ndim and kind == "conv":
        raise ExportError(f"NIR: different delays before the convolution {link.name!r}.")
    options = dict(link.weights.options)
    return Projection(link.name, link.source, target, weight, delay, kind, options=options)


def merged(projections: list[Projection], names: Collection[str] = ()) -> list[Projection]:
    """Projections between the same ends that differ in delay only, as one with a delay a synapse.

    names  of projections that were written in parts, NAME.d0, NAME.d1, …; parts of two are not merged
    """
    groups: dict[Any, list[Projection]] = {}
    for p in projections:
        options = json.dumps(p.options, sort_keys=True)
        whole = next((n for n in (p.name, p.name.rsplit(".d", 1)[0]) if n in names), None)
        groups.setdefault((p.source, p.target, p.kind, options, p.weight.shape, whole), []).append(p)
    merged: list[Projection] = []
    for same in groups.values():
        used = np.sum([p.weight != 0 for p in same], axis=0)
        if len(same) == 1 or (used > 1).any():
            merged += same
            continue
        weight = np.sum([p.weight for p in same], axis=0)
        delay = np.sum([np.where(p.weight != 0, p.delays, 0) for p in same], axis=0).astype(np.int32)
        name = same[0].name.rsplit(".d", 1)[0]
        merged.append(replace(same[0], name=name, weight=weight, delay=delay))
    return merged
