"""CUDA: equal to the CPU under Numba's simulator, and accepted by the PTX compiler."""

from pathlib import Path

import numba
import pytest

from tests.helpers.engine_graphs import random_graph

pytest.importorskip("numba_cuda")

CODE = """
import sys, warnings
import numpy as np
sys.path.insert(0, {folder!r})
from tests.helpers.engine_graphs import conv_graph, events, integer_graph, random_graph
from snnkit.engine import Engine, Poisson, simulate
from snnkit.graph import Graph, Population, Projection

def same(graph, batch, dtype, record):
    want = simulate(graph, batch, record=record, dtype=dtype, backend="numba")
    got = simulate(graph, batch, record=record, dtype=dtype, backend="cuda")
    assert sum(s.times.size for s in want.spikes.values()) > 10
    for name, spikes in want.spikes.items():
        np.testing.assert_array_equal(got.spikes[name].times, spikes.times)
        np.testing.assert_array_equal(got.spikes[name].neurons, spikes.neurons)
        np.testing.assert_array_equal(got.spikes[name].to_dense(), spikes.to_dense())
        assert got.counts["spike_sum"][name].tolist() == want.counts["spike_sum"][name].tolist()
    for key, rows in want.recorded.items():
        np.testing.assert_array_equal(got.recorded[key], rows)
    for key, synops in want.counts["synops"].items():
        np.testing.assert_array_equal(got.counts["synops"][key], synops)

rng = np.random.default_rng(1)
for seed, dtype in ((0, "float32"), (1, "float64")):
    graph = random_graph(seed, "lif", {{"refractory": True}}, sizes=(4, 5, 3))
    for p in graph.projections:
        p.weight = p.weight * rng.uniform(0.9, 1.1, p.weight.shape)
    same(graph, events(rng, 4, [12, 7], values=True), dtype, ["v", "x", "h"])
several = {{"reset": "soft", "max_spikes": 3, "floor": True}}
graph = random_graph(0, "lif", several, sizes=(4, 5, 3))
same(graph, events(rng, 4, [16, 9], rate=0.6), "float32", ["v", "rate"])
graph = conv_graph(rng, {{"stride": 2, "padding": 1, "groups": 2}})
same(graph, events(rng, 168, [7], rate=0.3), "float32", ["v"])
same(integer_graph(rng, 3), events(rng, 6, [10, 12], values=True), None, ["v"])
one = {{k: Population(k, "input", (6,)) for k in "ab"}}
passes = {{"decay": np.zeros(()), "gain": np.ones(())}}
two = {{k: Population(k, "li", (6,), passes) for k in ("a.copy", "b.copy")}}
passing = [Projection(k, k, k + ".copy", np.ones(6), kind="one_to_one") for k in "ab"]
graph = Graph({{**one, **two}}, passing, 1.0, list(two)).validate()
noise = {{k: Poisson(900.0) for k in "ab"}}
want, got = (simulate(graph, noise, 12, record=["v"], backend=b).recorded for b in ("numba", "cuda"))
for key in want:
    np.testing.assert_array_equal(got[key], want[key])
assert (got["a.copy", "v"] != got["b.copy", "v"]).mean() > 0.3
"""


def test_the_simulated_device_gives_the_same_bits(simulated):
    simulated(CODE.format(folder=str(Path(__file__).parents[2])))


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_kernels_compile_to_ptx(real, ptx):
    from snnkit.engine import kernels_cuda
    from snnkit.neurons.neuron import resolve

    i8, i4, r = numba.int64, numba.int32, getattr(numba, real)
    spikes = (i8[::1], i4[::1], r[::1])
    place = (r[::1], i8)
    signatures = {
        kernels_cuda.deliver_rows: (*spikes, i8[:, ::1], numba.uint32[::1], r[::1], numba.boolean, *place),
        kernels_cuda.deliver_dense: (*spikes, r[:, ::1], i8, *place),
        kernels_cuda.deliver_one_to_one: (*spikes, r[::1], i8[::1], *place),
        kernels_cuda.deliver_conv: (*spikes, r[:, :, :, ::1], i8[:, :, :, ::1], i8[::1], *place),
        kernels_cuda.update_kernel(resolve("lif", {"refractory": True}), real): (
            r[::1], i8[::1], i8[::1], i8, i8, i8, *[r[::1]] * 2, *[r[::1]] * 6, r[::1],
            numba.uint8[:, ::1], r[:, ::1], r[:, ::1], r[:, :, ::1],
        ),
        kernels_cuda.update_kernel(resolve("cuba", {"max_spikes": None, "floor": True}), real): (
            r[::1], i8[::1], i8[::1], i8, i8, i8, *[r[::1]] * 2, *[r[::1]] * 5, r[::1],
            r[:, ::1], r[:, ::1], r[:, ::1], r[:, :, ::1],
        ),
    }  # fmt: skip
    for kernel, signature in signatures.items():
        ptx(kernel, signature, real)


def test_without_a_device_the_message_says_so():
    from numba import cuda

    from snnkit.engine import Engine
    from snnkit.errors import BackendError

    if cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BackendError, match="no CUDA device was found"):
        Engine(random_graph(0), backend="cuda")
