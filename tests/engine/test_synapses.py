"""Synapses one by one, and counted, for every kind of projection."""

import numpy as np
import pytest

from snnkit.engine import fan_out, synapses
from snnkit.graph import Graph, Population, Projection
from tests.helpers.engine_graphs import conv_graph, projection, random_graph

torch = pytest.importorskip("torch")


def all_graphs():
    rng = np.random.default_rng(0)
    yield random_graph(0)
    yield random_graph(1)
    for options in (
        {},
        {"stride": (2, 1), "padding": (1, 2)},
        {"groups": 2, "dilation": (1, 3), "padding": 3},
    ):
        yield conv_graph(rng, options)


def test_fan_out_counts_the_synapses_that_are_listed():
    left_out = {}
    for graph in all_graphs():
        for p in graph.projections:
            listed = synapses(graph, p)
            size = graph.populations[p.source].size
            stored, effective = fan_out(graph, p)
            np.testing.assert_array_equal(stored, np.bincount(listed.source, minlength=size))
            used = listed.source[listed.weight != 0]
            np.testing.assert_array_equal(effective, np.bincount(used, minlength=size))
            left_out[p.kind] = left_out.get(p.kind, 0) + (stored - effective).sum()
    assert all(left_out[kind] > 0 for kind in ("dense", "sparse", "conv")), "the examples have zeros"


def test_sources_without_synapses_count_none():
    a, b = Population("a", "input", (4,)), Population("b", "lif", (3,))
    p = Projection(
        "s",
        "a",
        "b",
        np.array([1.0, 0.0, 2.0]),
        np.int64(0),
        "sparse",
        np.array([0, 0, 2, 2, 3]),
        np.array([0, 1, 2]),
    )
    stored, effective = fan_out(Graph({"a": a, "b": b}, [p]), p)
    assert stored.tolist() == [0, 2, 0, 1]
    assert effective.tolist() == [0, 1, 0, 1]
    none = projection(np.random.default_rng(0), "n", a, b, "sparse")
    none.weight, none.indices, none.indptr = np.zeros(0), np.zeros(0, int), np.zeros(5, int)
    assert fan_out(Graph({"a": a, "b": b}, [none]), none)[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": (2, 1), "padding": (1, 2)}, {"groups": 2, "dilation": (1, 3), "padding": 3}],
    ids=str,
)
def test_a_convolution_is_torchs(options):
    graph = conv_graph(np.random.default_rng(1), options)
    p = graph.projections[0]
    shape = graph.populations["map"].shape
    listed = synapses(graph, p)
    x = np.random.default_rng(2).integers(0, 5, (4, 6, 7)).astype(float)
    got = np.zeros(graph.populations["map"].size)
    np.add.at(got, listed.target, listed.weight * x.reshape(-1)[listed.source])
    want = torch.nn.functional.conv2d(torch.as_tensor(x)[None], torch.as_tensor(p.weight), **options)
    np.testing.assert_array_equal(got.reshape(shape), want[0].numpy())
    assert (np.diff(listed.source) >= 0).all()
    delays = Projection("d", "in", "map", p.delays.astype(float), kind="conv", options=options)
    np.testing.assert_array_equal(synapses(graph, delays).weight, listed.delay)
