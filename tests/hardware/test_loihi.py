"""The integer model against vectors that real Lava made, and its two forms against each other."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkit.errors import ExportError, ParameterError, ShapeError
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.hardware import loihi, vectors
from snnkit.neurons.loihi import step
from tests.helpers import networks

GOLDEN = Path(__file__).parent / "golden"
FORMS = {"reference": loihi.reference, "engine": loihi.simulate}
FULL = 1 << 23


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.npz")), ids=lambda p: p.stem)
def test_u_v_and_spikes_equal_lavas_at_every_step(path, form):
    assert vectors.check_vector(path, FORMS[form]) is None


def python_neuron(u, v, a, du, dv, vth, bias):
    """The chip's update in Python's own integers, written from the published order of operations."""
    decayed = u * (4096 - (du + 1))
    u = (abs(decayed) // 4096) * (1 if decayed >= 0 else -1) + 64 * a
    if u > FULL:
        u -= 2 * FULL
    elif u <= -FULL:
        u += 2 * FULL
    decayed = v * (4096 - dv)
    h = (abs(decayed) // 4096) * (1 if decayed >= 0 else -1) + u + bias
    h = max(min(h, FULL - 1), 1 - FULL)
    spike = h > vth * 64
    return spike, h, u, 0 if spike else h


STATE = st.one_of(st.integers(-FULL, FULL), st.sampled_from([0, 1, -1, FULL, -FULL, FULL - 1, 1 - FULL]))


@given(
    STATE,
    STATE,
    st.integers(-(1 << 19), 1 << 19),
    st.integers(-1, 4096),
    st.integers(0, 4096),
    st.integers(0, (1 << 18) - 1),
    st.integers(-(1 << 19), 1 << 19),
)
def test_the_step_is_the_chips_arithmetic(u, v, a, du, dv, vth, bias):
    want = python_neuron(u, v, a, du, dv, vth, bias)
    assert tuple(int(x) for x in step(u, v, a, du, dv, vth, bias)) == tuple(int(x) for x in want)
    for dtype in (np.int64, np.int32):
        arrays = [np.array([x, x], dtype) for x in (u, v, a, du, dv, vth, bias)]
        assert all((got == w).all() for got, w in zip(step(*arrays), want, strict=True))


@pytest.mark.parametrize(
    ("weight", "bits", "mode", "want"),
    [
        ([-3, 3, 5], 8, "auto", [-4, 2, 4]),  # mixed: even numbers, by floor
        ([-300, 300, 1], 8, "auto", [-256, 254, 0]),
        ([3, 300, 0], 8, "auto", [3, 255, 0]),
        ([-3, -300, 0], 8, "auto", [-3, -255, 0]),
        ([13, 7, 255], 5, "auto", [8, 0, 248]),
        ([-13, -7, -255], 5, "auto", [-8, 0, -248]),  # towards zero
        ([-13, 7, 100], 5, "auto", [-16, 0, 96]),
        ([-13, 7, 100], 8, "excitatory", [0, 7, 100]),
        ([-13, 7, 100], 8, "inhibitory", [-13, 0, 0]),
        ([13, 7, 100], 8, "mixed", [12, 6, 100]),
    ],
)
def test_weights_are_clipped_and_cut_as_the_chip_does(weight, bits, mode, want):
    assert loihi.effective_weights(np.array(weight), bits, mode).tolist() == want


def test_a_delay_of_d_acts_d_plus_one_steps_later_and_the_shift_meets_each_group():
    graph = Graph({"in": Population("in", INPUT, 2)}, [])
    graph.populations["n"] = loihi.population("n", 1, du=4095, dv=4096, vth=loihi.SILENT)
    graph.projections.append(
        loihi.projection(
            "p", "in", "n", np.array([[2, 6]]), np.array([[0, 3]]), weight_exp=-2, mode="excitatory"
        )
    )
    x = np.zeros((8, 1, 2), int)
    x[1] = 1
    for run in FORMS.values():
        u = run(graph, x).u["n"][:, 0, 0]
        assert u.tolist() == [0, 0, 64 * (2 >> 2), 0, 0, 64 * (6 >> 2), 0, 0]


def test_synapses_beyond_max_delay_are_dropped():
    p = loihi.projection("p", "a", "b", np.array([[5, 7]]), np.array([[2, 9]]), max_delay=8)
    assert p.weight.tolist() == [[5, 0]]
    assert p.delay.tolist() == [[3, 10]]


@pytest.mark.parametrize("refractory", [0, 1, 3])
def test_after_a_spike_v_rests_while_u_goes_on(refractory):
    graph = Graph({"in": Population("in", INPUT, 1)}, [])
    graph.populations["n"] = loihi.population("n", 1, du=2048, dv=0, vth=5, bias=640, refractory=refractory)
    graph.projections.append(loihi.projection("p", "in", "n", np.array([[1]])))
    x = np.ones((20, 1, 1), int)
    for run in FORMS.values():
        trace = run(graph, x)
        fired = np.flatnonzero(trace.spikes["n"][:, 0, 0])
        assert np.diff(fired).tolist() == [refractory + 1] * (len(fired) - 1)
        assert len(fired) == -(-20 // (refractory + 1))
        assert (trace.v["n"][:, 0, 0] == 0).all()
        assert trace.u["n"][-1, 0, 0] > trace.u["n"][1, 0, 0] > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_engine_gives_the_references_states(seed):
    """Convolution, sparse, one-to-one and recurrent synapses, several samples, counts as input."""
    r = np.random.default_rng(seed)
    graph = Graph({"in": Population("in", INPUT, (2, 5, 6))}, [])
    graph.populations["conv"] = loihi.population(
        "conv", (4, 3, 3), du=1000, dv=300, vth=90, bias=r.integers(-90, 90, (4, 1, 1))
    )
    graph.populations["rec"] = loihi.population(
        "rec", 36, du=4095, dv=60, vth=150, reset_interval=7, reset_offset=3
    )
    graph.populations["out"] = loihi.population("out", 3, du=700, dv=0, vth=loihi.SILENT)
    options = {"stride": 2, "padding": 1, "groups": 2}
    weight = r.integers(-60, 127, (4, 1, 3, 3))
    indptr = np.arange(0, 4 * 36 + 1, 4)
    graph.projections += [
        Projection("a", "in", "conv", weight, np.array(1), "conv", options=options),
        Projection("b", "conv", "rec", r.integers(20, 120, 36), r.integers(1, 9, 36), "one_to_one"),
        Projection("c", "rec", "rec", r.integers(-90, 90, (36, 36)), r.integers(1, 30, (36, 36))),
        Projection(
            "d",
            "rec",
            "out",
            r.integers(-90, 90, 144),
            r.integers(1, 64, 144),
            "sparse",
            indptr,
            r.integers(0, 3, 144),
        ),
    ]
    graph.projections[2].options["shift"] = 2
    x = (r.random((50, 3, 60)) < 0.1) * r.integers(1, 4, (50, 3, 60))
    want, got = loihi.reference(graph, x), loihi.simulate(graph, x)
    assert 0.02 < want.spikes["conv"].mean() < 0.9
    assert 0.02 < want.spikes["rec"].mean() < 0.9
    for name in ("conv", "rec", "out"):
        for k in ("spikes", "u", "v"):
            np.testing.assert_array_equal(getattr(got, k)[name], getattr(want, k)[name])


def test_values_handed_to_neurons_act_within_the_step():
    """u by hand; the next layer's spikes, and the engine, follow."""
    r = np.random.default_rng(0)
    graph = Graph({"in": Population("in", INPUT, 4)}, [])
    graph.populations["n"] = loihi.population("n", 4, du=900, dv=100, vth=40, bias=np.arange(4) * 64)
    graph.populations["m"] = loihi.population("m", 3, du=900, dv=100, vth=40)
    graph.projections = [
        Projection("p", "in", "n", np.array([1, -1, 1, 2]), np.array(0), "one_to_one"),
        Projection("q", "n", "m", r.integers(-20, 60, (3, 4)), np.array(2)),
    ]
    x = r.integers(-20, 40, (60, 2, 4))
    got = loihi.reference(graph, x)
    u = np.zeros((2, 4), int)
    for t in range(60):
        u = np.sign(u) * (abs(u) * 3195 // 4096) + 64 * x[t] * [1, -1, 1, 2]
        np.testing.assert_array_equal(got.u["n"][t], u)
    assert 0 < got.spikes["m"].mean() < 1
    fast = loihi.simulate(graph, x)
    for name in ("n", "m"):
        for k in ("spikes", "u", "v"):
            np.testing.assert_array_equal(getattr(fast, k)[name], getattr(got, k)[name])


def test_a_float_network_is_refused_by_name():
    with pytest.raises(ExportError, match=r"'hidden0' has neurons of kind 'lif'.*quantise"):
        loihi.reference(networks.network(), networks.spikes())


def test_what_is_no_integer_network_is_refused():
    graph = Graph({"in": Population("in", INPUT, 1), "n": loihi.population("n", 1, du=0, dv=0, vth=1)}, [])
    graph.projections = [Projection("p", "in", "n", np.array([[1.5]]), np.array(1))]
    with pytest.raises(ExportError, match=r"'p' has weights that are no integers"):
        loihi.check(graph)
    graph.projections = [Projection("p", "in", "n", np.array([[1]]), np.array(0))]
    with pytest.raises(ExportError, match=r"'p' has a delay of 0 steps"):
        loihi.check(graph)
    two = Graph({"in": Population("in", INPUT, 2), "n": loihi.population("n", 2, du=0, dv=0, vth=1)}, [])
    two.projections = [Projection("p", "in", "n", np.ones(2), np.array([0, 1]), "one_to_one")]
    with pytest.raises(ExportError, match=r"'p' has a delay of 0 steps"):
        loihi.check(two)
    graph.projections = [Projection("p", "in", "n", np.array([[1]]), np.array(1))]
    with pytest.raises(ShapeError, match=r"must be \[T, B, 1\], got \(4, 1, 2\)"):
        loihi.reference(graph, np.zeros((4, 1, 2)))
    with pytest.raises(ShapeError, match="no integers"):
        loihi.reference(graph, np.full((4, 1, 1), 0.5))
    with pytest.raises(ExportError, match=r"delay 64 is outside"):
        loihi.projection("p", "in", "n", np.array([[1]]), 64)
    with pytest.raises(ParameterError, match="sign mode 'both'"):
        loihi.effective_weights(np.array([1]), 8, "both")
