"""Small networks and inputs that the hardware tests share."""

from itertools import pairwise

import numpy as np

from snnkit.events import EventBatch
from snnkit.graph import INPUT, Graph, Population, Projection


def lif(name, size, decay=0.8, v_th=1.0, bias=0.0, **options):
    params = {"decay": decay, "gain": 1.0, "v_th": v_th, "v_reset": 0.0, "v_rest": 0.0}
    return Population(name, "lif", size, params, np.asarray(bias), options)


def network(sizes=(21, 34, 33, 7), *, longest=25, seed=0, bias=0.1, decay=0.8, recurrent=False, gain=2.0):
    """A chain of dense layers with delays 0..longest − 1 and a leaky read-out "out"."""
    r = np.random.default_rng(seed)
    populations, projections = {"input": Population("input", INPUT, sizes[0])}, []
    last = "input"
    for i, (n, m) in enumerate(pairwise(sizes)):
        if i == len(sizes) - 2:
            p = Population("out", "li", m, {"decay": 0.9, "gain": 1.0}, bias * r.normal(size=m))
        else:
            p = lif(f"hidden{i}", m, decay, bias=bias * r.normal(size=m))
        populations[p.name] = p
        weight, delay = r.normal(size=(m, n)) * gain / np.sqrt(n), r.integers(0, longest, (m, n))
        projections.append(Projection(f"{last}→{p.name}", last, p.name, weight, delay))
        if recurrent and p.name != "out":
            weight, delay = 0.1 * r.normal(size=(m, m)), r.integers(1, 5, (m, m))
            projections.append(Projection(f"{p.name}→{p.name}", p.name, p.name, weight, delay))
        last = p.name
    metadata = {"readout": "softmax_sum", "steps_tail": longest}
    return Graph(populations, projections, 10.0, ["out"], metadata).validate()


def spikes(size=21, samples=6, steps=60, rate=0.08, seed=1, largest=1):
    """Random input; with largest > 1 it carries counts."""
    r = np.random.default_rng(seed)
    x = (r.random((steps, samples, size)) < rate) * r.integers(1, largest + 1, (steps, samples, size))
    return EventBatch.from_dense(x.astype(np.float32))
