"""A neuron that somebody else wrote runs like a built-in one."""

import subprocess
import sys

import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.errors import ParameterError
from snnkit.graph import Graph, Population, Projection
from snnkit.neurons.equations import step_source
from snnkit.neurons.neuron import NEURONS, Neuron, register
from tests.helpers.engine_graphs import events

SLOPE = 2.0
HALF = np.float64(0.5)
TABLE = [1.0, 2.0]


def softened(v):
    return v / (1 + SLOPE * abs(v))


def step(u, v, w, x, decay, v_th):
    """A quadratic neuron with a slow variable: helpers, constants of the module, three states."""
    u = HALF * u + x
    h = decay * v + softened(u) - 0.1 * w
    fires = h >= v_th
    return fires, h, u, (h < v_th) * h, 0.9 * w + fires * 1.0


def sine(v, x, decay):
    return (v > 2) * 1.0, v, decay * v + np.sin(x)


def needs_a_table(v, x):
    return 0 * v, v, v + TABLE[0] * x


def net(neuron, params, n=9):
    rng = np.random.default_rng(1)
    a = Population("a", neuron, (n,), params)
    return Graph(
        {"in": Population("in", "input", (6,)), "a": a},
        [
            Projection("w", "in", "a", rng.normal(0, 2, (n, 6)), rng.integers(0, 4, (n, 6))),
            Projection("r", "a", "a", rng.normal(0, 1, (n, n)), rng.integers(1, 4, (n, n))),
        ],
    )


@pytest.fixture
def registered():
    before = set(NEURONS)
    yield
    for name in set(NEURONS) - before:
        del NEURONS[name]


@pytest.mark.parametrize("each", [False, True], ids=["one value", "one a neuron"])
def test_it_gives_what_the_reference_gives(registered, each):
    register("soft neuron/2", lambda: Neuron("soft neuron/2", ("decay", "v_th"), ("u", "v", "w"), step))
    params = {"decay": np.linspace(0.5, 0.9, 9) if each else 0.8, "v_th": 0.6}
    graph, batch = net("soft neuron/2", params), events(np.random.default_rng(2), 6, [50, 31])
    run = {"record": ["u", "v", "w", "h"], "dtype": "float64"}
    want = simulate(graph, batch, backend="reference", **run)
    got = simulate(graph, batch, **run)
    assert 20 < want.counts["spikes"]["a"].sum() < 600
    np.testing.assert_array_equal(got.spikes["a"].to_dense(), want.spikes["a"].to_dense())
    for key, rows in want.recorded.items():
        np.testing.assert_allclose(got.recorded[key], rows, rtol=1e-10, atol=1e-12)


def test_functions_of_numpy_may_be_used(registered):
    register("sine", lambda: Neuron("sine", ("decay",), ("v",), sine))
    graph, batch = net("sine", {"decay": 0.8}), events(np.random.default_rng(2), 6, [40])
    run = {"record": ["v"], "dtype": "float64"}
    want = simulate(graph, batch, backend="reference", **run)
    got = simulate(graph, batch, **run)
    np.testing.assert_allclose(got.recorded["a", "v"], want.recorded["a", "v"], rtol=1e-9, atol=1e-12)


def test_what_cannot_be_compiled_is_named():
    with pytest.raises(ParameterError, match="'needs_a_table' uses 'TABLE', a list"):
        step_source(step=needs_a_table)


SECOND = """
import numpy as np
from snnkit.engine import simulate
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.engine import kernels_cpu

params = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
graph = Graph(
    {"in": Population("in", "input", (2,)), "a": Population("a", "lif", (2,), params)},
    [Projection("w", "in", "a", np.eye(2), np.array([[1, 2], [2, 1]]))],
)
result = simulate(graph, EventBatch([0], [0], [0, 1], [5], 2))
assert result.spikes["a"].times.tolist() == [1]
from snnkit.neurons.neuron import resolve
update = kernels_cpu.update_kernel(resolve("lif"), "float32").update
for kernel in (update, kernels_cpu.deliver_rows, kernels_cpu.pack_rows):
    print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


def test_a_second_process_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    runs = [
        subprocess.run([sys.executable, "-c", SECOND], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0].split() == ["0", "1"] * 3
    assert runs[1].split() == ["1", "0"] * 3
