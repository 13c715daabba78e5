"""Which connections of a loop take a step by themselves, as NIR's edges have no time of their own."""

from __future__ import annotations

import re
from typing import Any

from ...graph import Graph


def returning(graph: Graph) -> set[tuple[str, str]]:
    """(source, target) of the connections that lead back: to a population that led to their source.

    The network is walked in depth from its inputs, then from what no input reaches, and at each population
    by the names of those behind it (numbers in them by size); so the answer depends on names and
    connections alone, not on the order of a file. All other connections together have no loop.
    """
    behind: dict[str, list[str]] = {name: [] for name in graph.populations}
    for p in graph.projections:
        behind[p.source].append(p.target)
    todo = {name: sorted(set(targets), key=_natural, reverse=True) for name, targets in behind.items()}
    back: set[tuple[str, str]] = set()
    done: set[str] = set()
    for start in [*sorted(graph.inputs, key=_natural), *sorted(graph.populations, key=_natural)]:
        path = {start: None} if start not in done else {}
        while path:
            here = next(reversed(path))
            if not todo[here]:
                done.add(here)
                del path[here]
                continue
            target = todo[here].pop()
            if target in path:
                back.add((here, target))
            elif target not in done:
                path[target] = None
    return back


def _natural(name: str) -> list[Any]:
    """A key that sorts "10" behind "2"."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]
