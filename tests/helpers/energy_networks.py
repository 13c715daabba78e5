"""Small networks that the energy tests share, and what happens in them by definition."""

import numpy as np

from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection

LIF = {"decay": 0.8, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}


def recurrent(delays=True, seed=0):
    """Every kind of projection: conv (strided, grouped), dense, sparse and one-to-one, with delays."""
    rng = np.random.default_rng(seed)

    def delay(*shape, least=0):
        return rng.integers(least, 6, shape) if delays else np.full(shape, least)

    weight = rng.normal(0.4, 1.0, (7, 18))
    weight[rng.random(weight.shape) < 0.3] = 0
    return Graph(
        {
            "in": Population("in", "input", (2, 5, 4)),
            "conv": Population("conv", "lif", (2, 3, 3), LIF, np.array([0.0, 0.05])[:, None, None]),
            "hidden": Population("hidden", "lif", (7,), LIF, options={"reset": "soft"}),
            "out": Population("out", "li", (3,), {"decay": 0.9, "gain": 1.0}),
        },
        [
            Projection(
                "c",
                "in",
                "conv",
                rng.normal(0.4, 0.6, (2, 1, 3, 2)),
                delay(2, 1, 3, 2),
                "conv",
                options={"stride": [2, 1], "padding": [1, 0], "groups": 2},
            ),
            Projection("d", "conv", "hidden", weight, delay(7, 18)),
            Projection("r", "hidden", "hidden", rng.normal(0, 0.5, 7), delay(7, least=1), "one_to_one"),
            Projection(
                "s",
                "hidden",
                "out",
                rng.normal(0, 1, 9),
                delay(9),
                "sparse",
                np.array([0, 2, 2, 5, 6, 7, 7, 9]),
                np.array([0, 2, 0, 1, 2, 1, 2, 0, 1]),
            ),
        ],
        outputs=["out"],
    ).validate()


def events(graph, batch=3, steps=12, rate=0.25, seed=1, values=False):
    """Random input of unequal lengths."""
    rng = np.random.default_rng(seed)
    size = graph.populations["in"].size
    x = (rng.random((steps, batch, size)) < rate).astype(np.float32)
    if values:
        x *= rng.integers(1, 4, x.shape)
    return EventBatch.from_dense(x, steps - np.arange(batch) % 3)


def chain(rate=0.2, steps=30, sizes=(20, 16, 5), delay=0, seed=0, batch=4):
    """A plain feed-forward network and its input."""
    rng = np.random.default_rng(seed)
    names = ["in", *(f"layer{i}" for i in range(1, len(sizes)))]
    populations = {"in": Population("in", "input", (sizes[0],))}
    projections = []
    for source, name, n_in, n_out in zip(names, names[1:], sizes, sizes[1:], strict=False):
        populations[name] = Population(name, "lif", (n_out,), LIF)
        delays = rng.integers(0, delay + 1, (n_out, n_in))
        if delay:
            delays.flat[0] = delay
        projections.append(
            Projection(f"{source}→{name}", source, name, rng.normal(0.2, 0.4, (n_out, n_in)), delays)
        )
    graph = Graph(populations, projections, outputs=[names[-1]]).validate()
    x = (rng.random((steps, batch, sizes[0])) < rate).astype(np.float32)
    return graph, EventBatch.from_dense(x)
