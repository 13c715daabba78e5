"""What is handed to Lava; and, where a Python 3.10 is to be had, what real Lava makes of it."""

import json

import numpy as np
import pytest

from snnkit.errors import ExportError, MissingExtraError
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.hardware import lava, loihi, netx
from snnkit.hardware.quantise import quantise
from snnkit.hardware.report import Report
from tests.helpers import networks


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize(
    ("low", "high", "factor", "mode"),
    [
        (-128, 127, 1, "MIXED"),
        (-128, 127, 8, "MIXED"),
        (0, 255, 1, "EXCITATORY"),
        (0, 255, 4, "EXCITATORY"),
        (-255, 0, 2, "INHIBITORY"),
        (-128, 127, 2, "MIXED"),
    ],
)
def test_lavas_synapse_acts_with_the_graphs_weights(low, high, factor, mode, shift):
    """Through the model of Lava's own clipping, bit cutting and shifting of sums."""
    r = np.random.default_rng(0)
    weight = r.integers(low, high + 1, (6, 9)) * factor
    weight[0, 0], weight[5, 8] = low * factor, high * factor
    given, exponent, bits, found = lava.weight_arguments(weight, shift, "p")
    assert found == mode
    acting = loihi.effective_weights(given, bits, found.lower())
    sums, want = acting.sum(1), weight.sum(1) >> shift
    np.testing.assert_array_equal(sums << exponent if exponent > 0 else sums >> -exponent, want)


def test_weights_beyond_eight_bits_are_refused():
    with pytest.raises(ExportError, match=r"p: weights -300\.\.299 are no 8-bit numbers"):
        lava.weight_arguments(np.array([-300, 299]), 0, "p")


def test_biases_become_mantissa_and_exponent():
    bias = np.array([0, 1, -5, 4095, 4096, 64 * 4095, -(4095 << 7)])
    mantissa, exponent = lava._bias("n", bias)
    np.testing.assert_array_equal(mantissa << exponent, bias)
    assert np.abs(mantissa).max() <= 4095
    assert 0 <= exponent.min() <= exponent.max() <= 7
    with pytest.raises(ExportError, match=r"neuron 0: bias 4097 is no 13-bit number"):
        lava._bias("n", np.array([4097]))


def test_the_plan_names_every_process():
    graph, events = networks.network(recurrent=True), networks.spikes()
    integer = quantise(graph, calibration=events)
    x = events.to_dense(dtype=np.int64)[:, 0]
    plan = lava.plan(integer, x, 80)
    spec = json.loads(str(plan["spec"]))
    assert [p["name"] for p in spec["populations"]] == list(graph.populations)
    assert [s["name"] for s in spec["synapses"]] == [p.name for p in graph.projections]
    assert plan["p0_x"].shape == (21, 80)
    np.testing.assert_array_equal(plan["p0_x"][:, :60], x.T)
    np.testing.assert_array_equal(
        plan["s0_delay"], np.where(integer.projections[0].weight != 0, graph.projections[0].delay, 0)
    )
    assert spec["populations"][1]["reset_offset"] == 2
    assert spec["synapses"][0]["num_message_bits"] == 0
    assert json.loads(str(lava.plan(integer, 2 * x)["spec"]))["synapses"][0]["num_message_bits"] > 0


def test_what_lava_has_no_model_of_is_refused():
    graph = Graph({"in": Population("in", INPUT, (1, 3, 3))}, [])
    graph.populations["n"] = loihi.population("n", (1, 3, 3), du=0, dv=0, vth=9, refractory=2)
    graph.projections.append(Projection("p", "in", "n", np.ones((1, 1, 1, 1), int), np.array(3), "conv"))
    with pytest.raises(ExportError, match=r"'n': refractory period; lava-nc has no fixed-point model"):
        lava.plan(graph)
    graph.populations["n"] = loihi.population("n", (1, 3, 3), du=0, dv=0, vth=9)
    with pytest.raises(ExportError, match=r"'p': a convolution with delays"):
        lava.plan(graph)
    graph.projections[0] = Projection("p", "in", "n", np.ones((9, 9), int), np.array(65))
    with pytest.raises(ExportError, match=r"'p': delay 64 is beyond Lava's 63 steps"):
        lava.plan(graph)


def test_without_lava_it_says_what_is_needed(tmp_path):
    integer = quantise(networks.network())
    with pytest.raises(MissingExtraError, match=r"snnkit\[lava\]"):
        lava.build(integer)
    with pytest.raises(MissingExtraError, match=r"it needs Python 3\.10 with lava-nc"):
        lava.run(integer, np.zeros((3, 21), int), python="/bin/false")


def image_network():
    r = np.random.default_rng(0)
    graph = Graph({"in": Population("in", INPUT, (2, 5, 6))}, [])
    graph.populations["conv"] = loihi.population(
        "conv", (4, 3, 3), du=1000, dv=300, vth=90, bias=r.integers(-90, 90, (4, 1, 1))
    )
    graph.populations["rec"] = loihi.population(
        "rec", 36, du=4095, dv=60, vth=150, reset_interval=7, reset_offset=3
    )
    graph.populations["out"] = loihi.population("out", 3, du=700, dv=0, vth=loihi.SILENT)
    options = {"stride": 2, "padding": 1, "groups": 2}
    graph.projections += [
        Projection(
            "a", "in", "conv", r.integers(-60, 127, (4, 1, 3, 3)), np.array(1), "conv", options=options
        ),
        Projection("b", "conv", "rec", r.integers(20, 120, 36), r.integers(1, 9, 36), "one_to_one"),
        Projection(
            "c",
            "rec",
            "rec",
            r.integers(-90, 90, (36, 36)),
            r.integers(1, 30, (36, 36)),
            options={"shift": 2},
        ),
        Projection("d", "conv", "out", r.integers(-90, 90, (3, 36)), r.integers(1, 30, (3, 36))),
    ]
    return graph, (r.random((50, 60)) < 0.1).astype(int)


@pytest.mark.parametrize("case", ["image", "counts", "relays", "currents"])
def test_real_lava_computes_the_same(case, real_lava):
    if case == "image":
        graph, x = image_network()
    elif case == "currents":
        graph = quantise(biased_currents())
        assert set(graph.populations["b"].initial) == {"u", "v"}
        x = (np.random.default_rng(1).random((90, 9)) < 0.2).astype(int)
    else:
        events = networks.spikes(largest=4 if case == "counts" else 1)
        real = networks.network(bias=0.1) if case == "counts" else networks.network(longest=120, bias=0.0)
        graph = quantise(real, calibration=events, long_delays="relay" if case == "relays" else "refuse")
        x = events.to_dense(dtype=np.int64)[:, 0]
    theirs, ours = lava.run(graph, x, python=real_lava), loihi.reference(graph, x[:, None])
    assert ours.spikes[{"image": "conv", "currents": "b"}.get(case, "hidden0")].any()
    for name in theirs.u:
        for k in ("u", "v", "spikes"):
            np.testing.assert_array_equal(getattr(theirs, k)[name], getattr(ours, k)[name])


def biased_currents():
    """CUBA neurons with a bias each, as batch norm leaves it, and what is to be written of them."""
    r = np.random.default_rng(0)
    cuba = {"decay_syn": 0.75, "decay_mem": 0.8, "v_th": 1.0, "v_reset": 0.0}
    populations = {
        "in": Population("in", INPUT, 9),
        "a": Population("a", "cuba", 8, cuba, bias=r.uniform(-0.02, 0.04, 8)),
        "b": Population("b", "cuba", 7, cuba, bias=r.uniform(-0.02, 0.04, 7)),
        "o": Population("o", "li", 4, {"decay": 0.9, "gain": 1.0}),
    }
    sizes = {"in": 9, "a": 8, "b": 7, "o": 4}
    projections = [
        Projection(
            s + t, s, t, r.normal(0.05, 0.35, (sizes[t], sizes[s])), r.integers(0, 9, (sizes[t], sizes[s]))
        )
        for s, t in (("in", "a"), ("a", "b"), ("b", "o"))
    ]
    return Graph(populations, projections, 1.0, ["o"])


def test_a_bias_on_a_current_goes_to_netx_settled_and_runs_so_in_real_lava(check, real_lava, tmp_path):
    graph = biased_currents()
    with pytest.raises(
        ExportError, match=r"layer 'a': starts from \['u'.*\].*settled_bias=True.*--settled-bias"
    ):
        netx.write(quantise(graph), tmp_path / "a.net")
    integer = quantise(graph, settled_bias=True)
    assert any("from the first step on in full" in words for words in Report.of(integer).warnings)
    arguments = netx.write(integer, tmp_path / "a.net")
    x = (np.random.default_rng(1).random((200, 9)) < np.repeat([0.02, 0.1, 0.3, 0.5], 50)[:, None]).astype(
        int
    )
    trace = loihi.simulate(integer, x[:, None])
    assert all(trace.spikes[name].any() for name in ("a", "b"))
    theirs = check.through_lava_dl(tmp_path / "a.net", arguments, x, real_lava)
    assert check.differences(integer, trace, theirs) == []


def test_a_convolution_written_as_a_dense_layer_runs_in_real_lava(check, real_lava, tmp_path):
    """Behind it NetX holds a vector: the next convolution is unrolled too, and nothing is flattened."""
    r = np.random.default_rng(0)
    graph = Graph({"in": Population("in", INPUT, (2, 5, 6))}, [])
    for name in ("c", "d"):
        bias = 64 * r.integers(-5, 20, (2, 1, 1))
        graph.populations[name] = loihi.population(name, (2, 5, 6), du=4095, dv=300, vth=70, bias=bias)
    graph.populations["e"] = loihi.population("e", 3, du=900, dv=100, vth=60)
    options = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    for source, target, delay in (("in", "c", r.integers(1, 5, (2, 2, 3, 3))), ("c", "d", np.array(1))):
        weight = r.integers(-60, 90, (2, 2, 3, 3))
        graph.projections.append(
            Projection(source + target, source, target, weight, delay, "conv", options=options)
        )
    graph.projections.append(Projection("de", "d", "e", r.integers(-60, 90, (3, 60)), np.array(1)))
    netx.write(graph, tmp_path / "a.net", unroll=True)
    x = (r.random((80, 60)) < 0.1).astype(int)
    trace = loihi.simulate(graph, x[:, None])
    assert all(0 < trace.spikes[name].mean() < 1 for name in "cde")
    assert check.differences(graph, trace, check.through_lava_dl(tmp_path / "a.net", {}, x, real_lava)) == []
    again = loihi.simulate(netx.read(tmp_path / "a.net"), x[:, None])
    for name in "cde":
        np.testing.assert_array_equal(again.v[name], trace.v[name])


def test_a_netx_file_gives_the_same_through_lava_dl_and_real_lava(check, real_lava, tmp_path):
    real, events = check.random_network((40, 64, 64, 10), 0)
    graph = quantise(real, calibration=events)
    path = tmp_path / "network.net"
    netx.write(graph, path)
    x = events[0].to_dense(int(events.lengths[0]) + 30, np.int64)[:, 0]
    arguments = check.kwargs_of(path) | ({"input_message_bits": netx.MESSAGE_BITS} if (x > 1).any() else {})
    theirs = check.through_lava_dl(path, arguments, x, real_lava)
    trace = loihi.simulate(graph, x[:, None])
    assert sum(s.sum() for s in trace.spikes.values()) > 100
    assert check.differences(graph, trace, theirs) == []
