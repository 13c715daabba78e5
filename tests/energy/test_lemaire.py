"""Lemaire's model against SpikingJelly 2.0.0's estimators, live, and their stored figures."""

import numpy as np
import pytest

from snnkit.energy import count, price
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection

T = 10


def toy(counts=(26, 19, 5)):
    """8-16-4 without bias, LIF, T = 10, with so many input, hidden and output spikes."""
    params = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    rng = np.random.default_rng(1)
    graph = Graph(
        {
            "in": Population("in", "input", (8,)),
            "hidden": Population("hidden", "lif", (16,), params, options={"reset": "soft"}),
            "out": Population("out", "lif", (4,), params, options={"reset": "soft"}),
        },
        [
            Projection("in→hidden", "in", "hidden", rng.normal(size=(16, 8))),
            Projection("hidden→out", "hidden", "out", rng.normal(size=(4, 16))),
        ],
    ).validate()
    spikes = {}
    for (name, population), n in zip(graph.populations.items(), counts, strict=True):
        x = np.zeros(T * population.size, np.float32)
        x[rng.permutation(x.size)[:n]] = 1
        spikes[name] = EventBatch.from_dense(x.reshape(T, 1, population.size))
    return graph, spikes


@pytest.mark.parametrize(
    ("curve", "total"), [("piecewise", 1455.9953125), ("regression", 26465.89), ("bank8k", 10466.0)]
)
def test_the_toy_costs_what_each_memory_curve_says(curve, total):
    result = price(count(*toy()), "lemaire45", memory_curve=curve)
    assert result.total_pj == pytest.approx(total, rel=1e-12 if curve == "piecewise" else 1e-4)


def test_the_toys_parts_are_those_of_spikingjelly():
    by = price(count(*toy()), "lemaire45").by("operation")
    parts = {
        "operations": by["AC"] + by["reset AC"] + by["leak MAC"],
        "addressing": by["address AC"],
        "in and out": by["read input"] + by["write output"],
        "parameters": by["read weight"],
        "potentials": sum(e for name, e in by.items() if "potential" in name),
    }
    assert parts == pytest.approx(
        {
            "operations": 691.6,
            "addressing": 49.2,
            "in and out": 336.9140625,
            "parameters": 283.75,
            "potentials": 94.53125,
        },
        rel=1e-12,
    )


def spikingjelly_network(kind, bias):
    """A network, its input and the graph and spikes of the same; weights large enough to fire."""
    import torch
    from spikingjelly.activation_based import functional, layer, neuron

    torch.manual_seed(0)

    def lif():
        return neuron.LIFNode(tau=2.0, decay_input=False, v_reset=None, step_mode="m")

    if kind == "linear":
        first, shape_in, shape = layer.Linear(8, 16, bias=bias, step_mode="m"), (8,), (16,)
    else:
        first = layer.Conv2d(2, 3, kernel_size=3, stride=2, padding=1, bias=bias, step_mode="m")
        shape_in, shape = (2, 6, 6), (3, 3, 3)
    net = torch.nn.Sequential(first, lif()).eval()
    x = (torch.rand(T, 1, *shape_in) < 0.3).float()
    with torch.no_grad():
        first.weight.mul_(3)
        functional.reset_net(net)
        out = net(x)
        functional.reset_net(net)
    params = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    b = first.bias.detach().numpy() if bias else np.zeros(())
    options = {} if kind == "linear" else {"stride": [2, 2], "padding": [1, 1]}
    graph = Graph(
        {
            "in": Population("in", "input", shape_in),
            "out": Population(
                "out", "lif", shape, params, b if kind == "linear" or not bias else b[:, None, None]
            ),
        },
        [
            Projection(
                "p",
                "in",
                "out",
                first.weight.detach().numpy(),
                kind="dense" if kind == "linear" else "conv",
                options=options,
            )
        ],
    ).validate()
    spikes = {
        "in": EventBatch.from_dense(x.flatten(2).numpy()),
        "out": EventBatch.from_dense(out.flatten(2).numpy()),
    }
    return net, x, graph, spikes


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_the_total_is_spikingjellys(kind, bias):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import op_counter

    net, x, graph, spikes = spikingjelly_network(kind, bias)
    assert len(spikes["out"].times) > 0

    got = price(count(graph, spikes), "lemaire45")

    want = op_counter.estimate_lemaire_energy(net, x)
    assert got.total_pj == pytest.approx(want.total_pj, rel=1e-9)
