"""What lies between two populations of a NIR file; `LINKS` says by a node's type what it does.

All nodes without neurons are affine and delay: so what arrives at a node is a sum of paths from
populations, each weights and a delay, and of constants (biases), each from a step on.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import ExportError
from ...graph import Projection
from .weights import IDENTITY, Shape, Weights, applied, convolution, masked, matrix, scaled, then, times

MOST = 10_000
"""Paths that may arrive at one node."""


@dataclass(frozen=True)
class Step:
    """What one node does to all that arrives at it.

    shape    of what comes out, without time
    weights  and the bias [O] added behind them, None: none
    delays   s, [N]: each value its own; None: none
    """

    shape: Shape
    weights: Weights = IDENTITY
    bias: np.ndarray | None = None
    delays: np.ndarray | None = None


@dataclass(frozen=True)
class Link:
    """A path from a population.

    name    of the last node with weights
    shapes  of the population that it starts from, and of what comes out
    delay   s
    before  s, [I] beside that: each of the source's neurons its own; None: none
    behind  s, [O] beside that: each value that comes out its own; None: none
    """

    name: str
    source: str
    shapes: tuple[Shape, Shape]
    weights: Weights = IDENTITY
    delay: float = 0.0
    before: np.ndarray | None = None
    behind: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of values that come out."""
        return int(np.prod(self.shapes[1]))


@dataclass(frozen=True)
class Flow:
    """What arrives at a node, or leaves it: paths, and constants (s from which on, [N])."""

    links: tuple[Link, ...] = ()
    constants: tuple[tuple[float, np.ndarray], ...] = ()

    def times(self, count: int) -> Flow:
        """The same, `count` times."""
        if count == 1:
            return self
        links = tuple(
            replace(a, weights=times(a.weights, count, int(np.prod(a.shapes[0])))) for a in self.links
        )
        return Flow(links, tuple((since, count * value) for since, value in self.constants))


def together(flows: Iterable[Flow]) -> Flow:
    """The sum of flows of one size; constants that begin together are one."""
    links: list[Link] = []
    constants: dict[float, np.ndarray] = {}
    for flow in flows:
        links += flow.links
        for since, value in flow.constants:
            constants[since] = constants[since] + value if since in constants else value
    return Flow(tuple(links), tuple(constants.items()))


def after(key: str, node: Any, flow: Flow, shape: Shape) -> Flow:
    """What leaves node `key` where `flow`, in `shape`, arrives.

    Raises `ExportError` for nodes without a row, `GraphError` for weights that do not fit, and
    `TooLargeError` for products that memory does not hold.
    """
    kind = type(node).__name__
    if kind not in LINKS:
        raise ExportError(f"NIR: node {key!r} is a {kind}, which a Graph has no place for.")
    step = LINKS[kind](key, node, shape)
    wrong = [link.size for link in flow.links if link.size != int(np.prod(shape))]
    if wrong:
        raise ExportError(f"NIR: values of {wrong[0]} and of {int(np.prod(shape))} meet at node {key!r}.")
    reshaped = (replace(link, shapes=(link.shapes[0], shape)) for link in flow.links)
    links = tuple(made for link in reshaped for made in _through(key, step, link))
    if len(links) > MOST:
        raise ExportError(f"NIR: more than {MOST:,} paths without a neuron lead to node {key!r}.")
    return together([Flow(links, tuple(_constants(step, flow)))])


def _through(key: str, step: Step, link: Link) -> Iterator[Link]:
    """The link with one more step; several where values between weights are delayed apart."""
    if step.delays is not None:
        yield _later(step.delays, link)
    elif step.weights.kind == "identity":
        yield replace(link, shapes=(link.shapes[0], step.shape))
    else:
        shapes = (*link.shapes, step.shape)
        for delay, weights in _parts(link):
            yield replace(
                link,
                name=key,
                shapes=(link.shapes[0], step.shape),
                weights=then(weights, step.weights, shapes),
                delay=link.delay + delay,
                behind=None,
            )


def _parts(link: Link) -> Iterator[tuple[float, Weights]]:
    """(delay, weights) of the values that come out with each delay of `behind`."""
    if link.behind is None:
        yield 0.0, link.weights
        return
    for delay in np.unique(link.behind):
        yield float(delay), masked(link.weights, link.behind == delay, link.shapes)


def _later(delays: np.ndarray, link: Link) -> Link:
    if (delays == delays[0]).all():
        return replace(link, delay=link.delay + float(delays[0]))
    if link.weights.kind == "identity":
        return replace(link, before=delays if link.before is None else link.before + delays)
    return replace(link, behind=delays if link.behind is None else link.behind + delays)


def _constants(step: Step, flow: Flow) -> Iterator[tuple[float, np.ndarray]]:
    for since, value in flow.constants:
        if step.delays is None:
            yield since, applied(step.weights, value)
            continue
        for delay in np.unique(step.delays[value != 0]):
            yield since + float(delay), np.where(step.delays == delay, value, 0.0)
    if step.bias is not None and step.bias.any():
        yield 0.0, step.bias


def _flatten(key: str, node: Any, shape: Shape) -> Step:
    return Step((int(np.prod(shape)),))


def _delay(key: str, node: Any, shape: Shape) -> Step:
    delay = np.asarray(node.delay, np.float64)
    return Step(shape, delays=_each(key, "delays", delay, shape))


def _linear(key: str, node: Any, shape: Shape) -> Step:
    weight, size = np.asarray(node.weight, np.float64), int(np.prod(shape))
    if weight.ndim != 2 or weight.shape[1] != size:
        raise ExportError(f"NIR: node {key!r} has weights {weight.shape}, but gets {size} inputs.")
    return Step((weight.shape[0],), Weights("dense", weight))


def _affine(key: str, node: Any, shape: Shape) -> Step:
    step = _linear(key, node, shape)
    return replace(step, bias=_each(key, "biases", np.asarray(node.bias, np.float64), step.shape))


def _scale(key: str, node: Any, shape: Shape) -> Step:
    scale = _each(key, "factors", np.asarray(node.scale, np.float64), shape)
    return Step(shape, Weights("one_to_one", scale))


def _convolution(key: str, node: Any, shape: Shape) -> Step:
    if isinstance(node.padding, str):
        raise ExportError(f"NIR: node {key!r} has padding {node.padding!r}; write it as numbers.")
    geometry = {"stride": node.stride, "padding": node.padding, "dilation": node.dilation}
    weight = np.asarray(node.weight, np.float64)
    step = _convolved(key, shape, weight, _pairs(geometry) | {"groups": int(node.groups)})
    bias = np.asarray(node.bias, np.float64).reshape(-1, 1, 1)
    return replace(step, bias=np.broadcast_to(bias, step.shape).reshape(-1))


def _sum_pool(key: str, node: Any, shape: Shape) -> Step:
    return _pooled(key, node, shape, 1.0)


def _average_pool(key: str, node: Any, shape: Shape) -> Step:
    return _pooled(key, node, shape, 1.0 / np.broadcast_to(node.kernel_size, 2).astype(int).prod())


def _pooled(key: str, node: Any, shape: Shape, value: float) -> Step:
    """A pooling as the convolution of each channel with `value` everywhere."""
    _needs_image(key, shape)
    weight = np.full((shape[0], 1, *np.broadcast_to(node.kernel_size, 2).astype(int)), value)
    geometry = {"stride": node.stride, "padding": node.padding, "dilation": 1}
    return _convolved(key, shape, weight, _pairs(geometry) | {"groups": shape[0]})


def _each(key: str, what: str, value: np.ndarray, shape: Shape) -> np.ndarray:
    """One value for each of what arrives, float64 [N]."""
    try:
        return np.broadcast_to(value.reshape(shape) if value.size > 1 else value, shape).reshape(-1)
    except ValueError:
        raise ExportError(f"NIR: node {key!r} has {value.size} {what} for values of shape {shape}.") from None


def _needs_image(key: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise ExportError(f"NIR: node {key!r} needs an image (C, H, W), gets shape {shape}.")


def _pairs(geometry: dict[str, Any]) -> dict[str, Any]:
    return {k: [int(n) for n in np.broadcast_to(np.asarray(v), 2)] for k, v in geometry.items()}


def _convolved(key: str, shape: Shape, weight: np.ndarray, options: dict[str, Any]) -> Step:
    _needs_image(key, shape)
    weights = convolution(f"NIR node {key!r}", weight, options, shape)
    return Step(weights.images[1], weights)


LINKS: dict[str, Callable[[str, Any, Shape], Step]] = {
    "Flatten": _flatten,
    "Delay": _delay,
    "Linear": _linear,
    "Affine": _affine,
    "Scale": _scale,
    "Conv2d": _convolution,
    "SumPool2d": _sum_pool,
    "AvgPool2d": _average_pool,
}
"""Type of a node without neurons → function of its name, itself and the shape that arrives → what it does."""


def projection(link: Link, target: str, gain: np.ndarray, dt: float) -> Projection:
    """The projection of a link whose target multiplies its input by `gain` [N]; dt in seconds.

    Raises `ExportError` for delays that are no whole number of steps.
    """
    weights, (before, behind) = scaled(link.weights, gain, link.shapes), (link.before, link.behind)
    indptr = indices = None
    if weights.kind == "identity":
        weights = Weights("one_to_one", np.ones(link.size))
    elif weights.kind == "dense" and behind is not None:
        behind = behind[:, None]
    elif weights.kind == "conv" and (before is not None or behind is not None):
        channels = None if behind is None else behind.reshape(weights.images[1][0], -1)
        if channels is None or before is not None or np.ptp(channels, axis=1).any():
            weights = Weights("sparse", matrix(weights, link.shapes))
        else:
            behind = channels[:, :1, None, None]
    if weights.kind == "sparse":
        columns = weights.weight.tocsc()
        indptr, indices = columns.indptr.astype(np.int64), columns.indices.astype(np.int32)
        before = None if before is None else np.repeat(before, np.diff(indptr))
        behind = None if behind is None else behind[indices]
        weights = replace(weights, weight=columns.data)
    delay = np.asarray(link.delay) + sum(d for d in (before, behind) if d is not None)
    return Projection(
        name=link.name,
        source=link.source,
        target=target,
        weight=weights.weight,
        delay=whole_steps(delay, dt, link.name),
        kind=weights.kind,
        indptr=indptr,
        indices=indices,
        options=dict(weights.options),
    )


def whole_steps(delay: Any, dt: float, before: str) -> np.ndarray:
    """Delays (s) in steps of dt (s), int32. Raises `ExportError` naming the node that they are `before`."""
    steps = np.asarray(delay, np.float64) / dt
    whole = np.round(steps)
    wrong = np.abs(steps - whole) > 1e-3
    if wrong.any():
        raise ExportError(
            f"NIR: the delay before {before!r}, {1e3 * float(np.asarray(delay)[wrong].flat[0]):g} ms, is no "
            f"whole number of steps of {1e3 * dt:g} ms; pass another dt."
        )
    return whole.astype(np.int32)


def merged(projections: list[Projection], parts: Mapping[str, str]) -> list[Projection]:
    """Projections between the same ends that differ in delay only, as one with a delay a synapse.

    parts  node → the projection that it was written for; parts of two projections are not merged
    """
    groups: dict[Any, list[Projection]] = {}
    for p in projections:
        options = json.dumps(p.options, sort_keys=True)
        whole = parts.get(p.name)
        groups.setdefault((p.source, p.target, p.kind, options, p.weight.shape, whole), []).append(p)
    merged: list[Projection] = []
    for (*_, whole), same in groups.items():
        used = np.sum([p.weight != 0 for p in same], axis=0)
        if same[0].kind == "sparse" or len(same) == 1 or (used > 1).any():
            merged += [p if whole is None else replace(p, name=whole) for p in same]
            continue
        weight = np.sum([p.weight for p in same], axis=0)
        delay = np.sum([np.where(p.weight != 0, p.delays, 0) for p in same], axis=0).astype(np.int32)
        name = re.sub(r"\.d\d+$", "", same[0].name) if whole is None else whole
        merged.append(replace(same[0], name=name, weight=weight, delay=delay))
    return merged


def named_apart(projections: list[Projection]) -> list[Projection]:
    """The same with a name for each: NAME, or NAME.TARGET where a node's weights lead to several."""
    count = Counter(p.name for p in projections)
    taken = {name for name, n in count.items() if n == 1}
    for p in projections:
        if count[p.name] == 1:
            continue
        names = [f"{p.name}.{p.target}", f"{p.source}.{p.name}.{p.target}"]
        names += [f"{names[-1]}.{k}" for k in range(2, len(projections) + 2)]
        p.name = next(n for n in names if n not in taken)
        taken.add(p.name)
    return projections
