"""A NIR graph's nodes in one namespace, and the shape of what each gives."""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import DataError, ExportError
from .links import LINKS
from .weights import Shape


@dataclass
class Nodes:
    """Nodes of a graph and of those nested in it, each by its full name OUTER.INNER.

    into     node → the nodes before it, one entry an edge
    passing  ports of nested graphs, which only pass on what enters or leaves
    """

    nodes: dict[str, Any] = field(default_factory=dict)
    into: dict[str, list[str]] = field(default_factory=dict)
    passing: set[str] = field(default_factory=set)

    def kind(self, key: str) -> str:
        """Type of a node; of a nested graph's port, "" ."""
        return "" if key in self.passing else type(self.nodes[key]).__name__


def unused(name: str, taken: Collection[str]) -> str:
    """`name`, or one with a number behind it that is not taken."""
    return next(n for n in (name, *(f"{name}_{k}" for k in range(1, len(taken) + 2))) if n not in taken)


def inlined(graph: Any) -> Nodes:
    """Nodes and edges of a `nir.NIRGraph`.

    Raises `DataError` for edges that lead nowhere and names that clash, `ExportError` for an edge to a nested
    graph with several ports.
    """
    made = Nodes()
    _inline(made, graph, "")
    return made


def _inline(made: Nodes, graph: Any, prefix: str) -> None:
    for name, node in graph.nodes.items():
        key = prefix + name
        if type(node).__name__ == "NIRGraph":
            _inline(made, node, key + ".")
            continue
        if key in made.nodes:
            raise DataError(f"NIR: two nodes are named {key!r}, one of them in a nested graph; rename one.")
        made.nodes[key] = _of_arrays(node)
        made.into.setdefault(key, [])
        if prefix and type(node).__name__ in ("Input", "Output"):
            made.passing.add(key)
    for edge in graph.edges:
        a, b = (str(n.decode() if isinstance(n, bytes) else n) for n in edge)
        made.into[_port(graph, prefix, b, "Input")].append(_port(graph, prefix, a, "Output"))


def _of_arrays(node: Any) -> Any:
    """The node, its torch tensors as arrays."""
    tensors = {k: v for k, v in vars(node).items() if type(v).__module__.partition(".")[0] == "torch"}
    arrays = {k: v.detach().cpu().numpy() for k, v in tensors.items() if k != "input_type"}
    if not arrays:
        return node
    made = copy(node)
    vars(made).update(arrays)
    return made


def _port(graph: Any, prefix: str, name: str, side: str) -> str:
    """The node that stands for `name` at this end of an edge."""
    node = graph.nodes.get(name)
    if node is None:
        raise DataError(f"NIR: an edge names {prefix + name!r}, which is no node.")
    if type(node).__name__ != "NIRGraph":
        return prefix + name
    ports = [n for n, inner in node.nodes.items() if type(inner).__name__ == side]
    if len(ports) != 1:
        raise ExportError(
            f"NIR: the nested graph {prefix + name!r} has {len(ports)} nodes {side}; an edge to it as a "
            "whole needs one."
        )
    return f"{prefix}{name}.{ports[0]}"


def shapes(nodes: Nodes, own: Callable[[str], Shape | None]) -> dict[str, Shape]:
    """Shape of what each node gives, without time.

    own  node → the shape that its own parameters tell, or None

    A node's own parameters count, then what arrives, then the weights that it leads to. Raises `ExportError`
    naming the nodes whose shapes none of these tell.
    """
    known: dict[str, Shape] = {}
    leads: dict[str, list[str]] = {key: [] for key in nodes.nodes}
    for key, before in nodes.into.items():
        for other in before:
            leads[other].append(key)
    for _ in range(2 * len(nodes.nodes) + 1):
        found = dict(known)
        for key in nodes.nodes:
            shape = _between(nodes, key, known) if nodes.kind(key) in LINKS else None
            shape = shape or _neurons(nodes, key, own(key), known, leads[key])
            if shape is not None:
                known[key] = shape
        if found == known:
            break
    unknown = [key for key in nodes.nodes if key not in known]
    if unknown:
        raise ExportError(f"NIR: the shapes of {unknown} cannot be told from the file.")
    return known


def arriving(nodes: Nodes, key: str, known: dict[str, Shape]) -> Shape:
    """Shape of what arrives at a node; an image if it is one on some way."""
    before = [known[b] for b in nodes.into[key]] or [_asked(nodes.nodes[key]) or known[key]]
    return next((shape for shape in before if len(shape) == 3), before[0])


def _between(nodes: Nodes, key: str, known: dict[str, Shape]) -> Shape | None:
    """The shape that a node between neurons gives, where its own parameters or what arrives tell it."""
    node, kind = nodes.nodes[key], nodes.kind(key)
    if kind in ("Linear", "Affine"):
        return (int(np.shape(node.weight)[0]),)
    if all(b in known for b in nodes.into[key]) and nodes.into[key]:
        return LINKS[kind](key, node, arriving(nodes, key, known)).shape
    each = {"Delay": "delay", "Scale": "scale"}.get(kind)
    return np.shape(getattr(node, each)) if each and np.size(getattr(node, each)) > 1 else None


def _neurons(
    nodes: Nodes, key: str, told: Shape | None, known: dict[str, Shape], leads: list[str]
) -> Shape | None:
    """The shape of a node of neurons, of a port, or of a node between neurons that nothing else tells."""
    before = [known[b] for b in nodes.into[key] if b in known]
    asked = [shape for b in leads if (shape := _asked(nodes.nodes[b])) is not None]
    told = told or next(iter([*before, *asked]), None)
    if told is not None and nodes.kind(key) != "Input":  # an image tells more than flat parameters
        told = next((shape for shape in before if len(shape) == 3 and np.prod(shape) == np.prod(told)), told)
    return told


def _asked(node: Any) -> Shape | None:
    """The shape that a node's weights ask for."""
    if type(node).__name__ in ("Linear", "Affine") and np.ndim(node.weight) == 2:
        return (int(np.shape(node.weight)[1]),)
    return None
