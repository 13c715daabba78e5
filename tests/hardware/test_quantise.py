"""From float to the chip's integers: what must be equal is, what cannot be is refused by name."""

from dataclasses import replace

import numpy as np
import pytest

from snnkit.engine import readout, simulate
from snnkit.errors import ExportError, ParameterError
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.hardware import loihi
from snnkit.hardware.cells import CELLS, Membrane
from snnkit.hardware.coarser import coarser, coarser_events
from snnkit.hardware.ladder import compare, ladder, outcome
from snnkit.hardware.quantise import quantise
from snnkit.hardware.report import Report
from snnkit.hardware.timing import latencies
from snnkit.neurons.neuron import NEURONS, Neuron
from tests.helpers import networks
from tests.helpers.graphs import assert_same_graph


def equal_spikes(graph, integer, events):
    return compare(outcome(graph, events, dtype="float64").spikes, outcome(integer, events).spikes)[0]


def agreement(graph, integer, events):
    return (readout.scores(graph, events).argmax(1) == readout.scores(integer, events).argmax(1)).mean()


def on_the_chips_grid(graph, k=64):
    """The network with weights and biases of whole 64ths, which float adds without rounding too."""
    projections = [replace(p, weight=np.round(p.weight * k).clip(-127, 127) / k) for p in graph.projections]
    for p in projections:
        p.weight.flat[0] = 127 / k
    populations = {}
    for name, p in graph.populations.items():
        populations[name] = replace(p, bias=np.round(p.bias * k) / k)
    return replace(graph, projections=projections, populations=populations)


@pytest.mark.parametrize("decay", [0.0, 1.0], ids=["memoryless", "no leak"])
@pytest.mark.parametrize("largest", [1, 3], ids=["binary", "counts"])
@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_a_network_on_the_chips_grid_loses_no_spike(decay, largest, bias):
    """Delays, latency, biases that act from the first step, ties at the threshold: all as in float."""
    graph = on_the_chips_grid(networks.network(decay=decay, bias=bias, gain=2.5, seed=3))
    events = networks.spikes(largest=largest, rate=0.15)
    integer = quantise(graph, calibration=events)
    assert Report.of(integer).layers["hidden0→hidden1"].rms_error < 1e-12
    want = outcome(graph, events, dtype="float64")
    got = outcome(integer, events)
    assert len(want.spikes["hidden1"].times) > 50
    share, first = compare(want.spikes, got.spikes)
    if bias and decay:
        assert share > 0.99  # biases of a population without leak also drive the steps of latency
    else:
        assert (share, first) == (1.0, None)
        np.testing.assert_allclose(got.scores, want.scores, rtol=0, atol=0.02 * want.scores.max())


def test_a_strict_threshold_is_the_chips_own():
    """Ties at the threshold happen, and are no spikes."""
    graph = on_the_chips_grid(networks.network(decay=1.0, bias=0.0, gain=2.5, seed=3))
    at = outcome(graph, events := networks.spikes(largest=3, rate=0.15), dtype="float64")
    for p in graph.populations.values():
        if p.neuron == "lif":
            p.options = {"strict": True}
    want = outcome(graph, events, dtype="float64")
    got = outcome(quantise(graph, calibration=events), events)
    assert compare(want.spikes, got.spikes) == (1.0, None)
    assert compare(want.spikes, at.spikes)[0] < 1.0


@pytest.mark.parametrize("recurrent", [False, True])
def test_eight_bits_keep_nearly_all_spikes(recurrent):
    graph, events = networks.network(recurrent=recurrent, gain=1.5, decay=0.3), networks.spikes()
    integer = quantise(graph, calibration=events)
    assert equal_spikes(graph, integer, events) > (0.85 if recurrent else 0.93)
    report = ladder(graph, integer, events)
    assert report.rungs[-1].equal > 0.98, "beside its float twin only u and v are rounded"


def test_more_bits_mean_less_error():
    graph, events = networks.network(), networks.spikes()
    errors = [
        Report.of(quantise(graph, bits=b, calibration=events)).layers["input→hidden0"].rms_error
        for b in (2, 4, 6, 8)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.2
    assert errors[-1] < 0.015


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("sign", ["mixed", "excitatory", "inhibitory"])
def test_weights_are_what_the_bits_can_hold(bits, sign):
    graph = networks.network(bias=0.0)
    for p in graph.projections:
        p.weight = {"mixed": p.weight, "excitatory": abs(p.weight), "inhibitory": -abs(p.weight)}[sign]
    integer = quantise(graph, bits=bits, calibration=networks.spikes(rate=0.3))
    for p in integer.projections:
        low, high = {
            "mixed": (-(1 << bits - 1), (1 << bits - 1) - 1),
            "excitatory": (0, (1 << bits) - 1),
            "inhibitory": (-min((1 << bits) - 1, 127), 0),
        }[sign]
        assert low <= p.weight.min() <= p.weight.max() <= high
        assert len(np.unique(p.weight)) > (1 << bits) // 4
        if sign == "inhibitory":
            lowest = -int(p.weight.min())
            assert lowest & (lowest - 1), "a power of two alone at the end is what lava-dl garbles"


def test_calibration_spares_the_synapses_that_are_used():
    """One input that never spikes has a huge weight; without data it would cost the others their bits."""
    graph = networks.network(bias=0.0, decay=0.2, gain=1.5)
    graph.projections[0].weight[:, 0] *= 12
    events = networks.spikes()
    quiet = events.to_dense()
    quiet[:, :, 0] = 0
    quiet = type(events).from_dense(quiet)
    blind, seeing = quantise(graph), quantise(graph, calibration=quiet)
    assert equal_spikes(graph, seeing, quiet) > equal_spikes(graph, blind, quiet) + 0.03
    assert Report.of(seeing).layers["input→hidden0"].clipped > 0


def test_thresholds_of_neurons_are_folded_into_their_weights():
    graph, events = networks.network(bias=0.05, gain=1.0), networks.spikes()
    one = quantise(graph, calibration=events)
    factor = 2.0 ** np.arange(-3, 31)[:34] % 7 + 0.5
    first = graph.populations["hidden0"]
    graph.populations["hidden0"] = replace(
        first, params=first.params | {"v_th": factor}, bias=first.bias * factor
    )
    graph.projections[0].weight = graph.projections[0].weight * factor[:, None]
    for p, q in zip(one.projections, quantise(graph, calibration=events).projections, strict=True):
        np.testing.assert_array_equal(p.weight, q.weight)


def test_gain_and_resting_potential_are_folded():
    """v_rest shifts everything, gain scales the input: the same spikes."""
    graph, events = networks.network(bias=0.05, gain=1.5, decay=0.3), networks.spikes()
    want = quantise(graph, calibration=events)
    for name in ("hidden0", "hidden1"):
        p = graph.populations[name]
        params = {"decay": 0.3, "gain": 0.5, "v_th": 3.0, "v_reset": 2.0, "v_rest": 2.0}
        graph.populations[name] = replace(p, params=params, bias=p.bias * 2, initial={"v": np.array(2.0)})
    graph.projections[:2] = [replace(p, weight=p.weight * 2) for p in graph.projections[:2]]
    got = quantise(graph.validate(), calibration=events)
    for p, q in zip(want.projections, got.projections, strict=True):
        assert abs(p.weight - q.weight).max() <= 1
    assert equal_spikes(graph, got, events) > 0.93


def test_a_potential_that_starts_off_rest_starts_so_on_the_chip():
    graph, events = networks.network((21, 34, 7), bias=0.0, decay=0.95, gain=0.5), networks.spikes()
    p = graph.populations["hidden0"]
    start = np.linspace(-1, 0.95, 34)
    graph.populations["hidden0"] = replace(p, initial={"v": start})
    integer = quantise(graph, calibration=events)
    k = Report.of(integer).populations["hidden0"].threshold_units
    np.testing.assert_array_equal(integer.populations["hidden0"].initial["v"], np.round(start * 64 * k))
    assert equal_spikes(graph, integer, events) > 0.85


@pytest.mark.parametrize("settled", [False, True])
def test_the_bias_of_a_filtered_current(settled):
    """It acts on i in float and on v on the chip: u starts at minus the settled current."""
    graph = networks.network((21, 34, 7), bias=0.0, gain=1.2)
    params = {"decay_syn": 0.75, "decay_mem": 0.5, "v_th": 1.0, "v_reset": 0.0}
    bias = np.linspace(-0.05, 0.09, 34)
    graph.populations["hidden0"] = Population("hidden0", "cuba", 34, params, bias)
    events = networks.spikes(rate=0.05)
    integer = quantise(graph, calibration=events, settled_bias=settled, align=False)
    share = equal_spikes(graph, integer, events)
    assert share > (0.9 if settled else 0.95)
    assert ("u" in integer.populations["hidden0"].initial) == (not settled)


def deep_currents(bias, decay_syn=0.75):
    """Three current-based populations in a row, with biases; nothing spikes into them."""
    params = {"decay_syn": decay_syn, "decay_mem": 0.5, "v_th": 1.0, "v_reset": 0.0}
    graph = Graph({"in": Population("in", INPUT, 1)}, [], outputs=["c"])
    for source, target in (("in", "a"), ("a", "b"), ("b", "c")):
        graph.populations[target] = Population(target, "cuba", 3, params, np.array(bias))
        weight = np.full((3, graph.populations[source].size), 0.7)
        graph.projections.append(Projection(source + target, source, target, weight))
    return graph


def test_the_latency_of_a_filtered_bias_is_made_up_for_backwards():
    """h as its geometric sums, from the step on in which the first input could arrive."""
    bias = np.array([0.08, -0.3, 0.02])
    integer = quantise(deep_currents(bias), bias_exponent=None)
    trace = loihi.reference(integer, np.zeros((40, 1, 1), int))
    t = np.arange(37)[:, None]
    h = bias / 0.25 * (2 * (1 - 0.5 ** (t + 1)) - 3 * 0.75 ** (t + 1) + 3 * 0.5 ** (t + 1))
    for late, name in enumerate("abc", start=1):
        unit = 64 * Report.of(integer).populations[name].threshold_units
        np.testing.assert_allclose(trace.v[name][late : late + 37, 0] / unit, h, atol=2e-3)
        assert set(integer.populations[name].initial) == ({"u"} if late == 1 else {"u", "v"})


def test_a_start_that_would_spike_before_is_not_made():
    integer = quantise(deep_currents([0.5, 0.0, 0.0], decay_syn=0.1))
    words = [w for w in Report.of(integer).warnings if "before the first input arrives" in w]
    assert [w.split("'")[1] for w in words] == ["c"]
    assert set(integer.populations["c"].initial) == {"u"}


def test_decays_become_4096ths():
    graph = networks.network(decay=0.3)
    integer = quantise(graph)
    assert integer.populations["hidden0"].params["dv"] == 4096 - round(0.3 * 4096)
    assert integer.populations["hidden0"].params["du"] == 4095
    assert Report.of(integer).populations["hidden0"].decay_error <= 0.5 / 4096


def test_latency_is_one_step_a_layer_and_recurrence_pays_with_its_own_delay():
    graph = networks.network(recurrent=True)
    assert latencies(graph) == {"input": 0, "hidden0": 1, "hidden1": 2, "out": 3}
    integer = quantise(graph)
    for p, q in zip(graph.projections, integer.projections, strict=True):
        extra = 0 if p.source == p.target else 1
        np.testing.assert_array_equal(q.delays, p.delays + extra)
    assert integer.metadata["steps_tail"] == graph.metadata["steps_tail"] + 3


def test_a_skip_connection_arrives_in_time():
    graph, events = networks.network(bias=0.0, decay=0.0, gain=1.5), networks.spikes(samples=30)
    r = np.random.default_rng(5)
    graph.projections.append(
        Projection("skip", "input", "out", r.normal(size=(7, 21)), r.integers(0, 9, (7, 21)))
    )
    integer = quantise(graph, calibration=events)
    np.testing.assert_array_equal(integer.projections[-1].delays, graph.projections[-1].delays + 3)
    assert agreement(graph, integer, events) > 0.8


def test_a_loop_shorter_than_its_synapses_is_refused():
    graph = networks.network(bias=0.0)
    graph.projections.append(Projection("back", "hidden1", "hidden0", np.ones((34, 33)), np.array(1)))
    with pytest.raises(ExportError, match=r"a loop of delays that are too short"):
        quantise(graph)


def long_network():
    return networks.network(longest=150, bias=0.0, decay=0.2, gain=1.5)


def test_long_delays_are_refused_clipped_or_relayed():
    graph, events = long_network(), networks.spikes(steps=90)
    message = r"'input→hidden0': delay 149 .* 62 steps .4.. of 7.. .*--clip-delays \(long_delays='clip'\)"
    with pytest.raises(ExportError, match=message):
        quantise(graph)
    clipped = quantise(graph, long_delays="clip", calibration=events)
    pairs = zip(graph.projections, clipped.projections, strict=True)
    total = sum(int(((p.delay > 62) & (q.weight != 0)).sum()) for p, q in pairs)
    assert Report.of(clipped).delays_clipped == total
    assert max(p.max_delay for p in clipped.projections) == 63
    relayed = quantise(graph, long_delays="relay", calibration=events)
    assert Report.of(relayed).delays_clipped == 0
    assert 150 < Report.of(relayed).relays <= 2 * (21 + 34 + 33)
    assert max(p.max_delay for p in relayed.projections) == 63
    assert equal_spikes(graph, relayed, events) > 0.9 > equal_spikes(graph, clipped, events)
    with pytest.raises(ParameterError, match="long_delays 'both' is none of refuse, clip, relay, rescale"):
        quantise(graph, long_delays="both")


def test_relays_lose_nothing():
    """The integer network with relays has the very spikes of the one without, where both exist."""
    graph, events = networks.network(longest=60, bias=0.0, decay=0.2), networks.spikes()
    from snnkit.chips import LOIHI2

    plain = quantise(graph, calibration=events)
    relayed = quantise(graph, calibration=events, long_delays="relay", chip=replace(LOIHI2, max_delay=10))
    assert max(p.max_delay for p in relayed.projections) == 11
    assert len(relayed.projections) > 10
    assert compare(outcome(plain, events).spikes, outcome(relayed, events).spikes) == (1.0, None)


def test_relays_pass_no_counts():
    with pytest.raises(ExportError, match=r"carry counts, which a relay neuron cannot pass on"):
        quantise(long_network(), long_delays="relay", calibration=networks.spikes(largest=4))


def test_a_coarser_step_brings_delays_into_range():
    graph, events = long_network(), networks.spikes(steps=90)
    integer = quantise(graph, long_delays="rescale", calibration=events)
    assert Report.of(integer).time_factor == 3
    assert integer.dt == 30.0
    assert max(p.max_delay for p in integer.projections) == 51
    counts = coarser_events(events, 3)
    assert counts.validate().to_dense().sum() == events.to_dense().sum()
    np.testing.assert_array_equal(
        counts.to_dense(30), events.to_dense(90).reshape(30, 3, *events.to_dense(90).shape[1:]).sum(1)
    )
    assert simulate(integer, counts).spikes["hidden0"].times.size > 0


def test_a_coarser_step_keeps_what_a_steady_input_does():
    graph = Graph({"in": Population("in", INPUT, 1), "n": networks.lif("n", 1, 0.9, v_th=1e9)}, [])
    graph.projections.append(Projection("p", "in", "n", np.ones((1, 1)), np.array(4)))
    x = np.ones((200, 1, 1), np.float32)
    fine = simulate(graph, networks.EventBatch.from_dense(x), record=["v"]).recorded["n", "v"]
    coarse = simulate(
        coarser(graph, 4), coarser_events(networks.EventBatch.from_dense(x), 4), record=["v"]
    ).recorded["n", "v"]
    np.testing.assert_allclose(coarse[-1], fine[-1], rtol=1e-3)


def test_a_refractory_period_is_kept_and_marked():
    graph, events = networks.network(bias=0.0, gain=3.0, decay=0.5), networks.spikes(rate=0.2)
    p = graph.populations["hidden0"]
    graph.populations["hidden0"] = replace(
        p, params=p.params | {"refractory": np.array(3)}, options={"refractory": True}
    )
    integer = quantise(graph, calibration=events)
    assert any("not verified against Lava" in w for w in Report.of(integer).warnings)
    assert equal_spikes(graph, integer, events) > 0.85
    batch = simulate(integer, events).spikes["hidden0"]
    for one in batch:
        for n in range(batch.size):
            assert (np.diff(one.times[one.neurons == n]) > 3).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neuron": "adlif"}, r"'hidden0': neurons of kind 'adlif' have no counterpart on Loihi"),
        ({"options": {"reset": "soft"}}, r"'hidden0': reset 'soft'"),
        ({"options": {"max_spikes": 3}}, r"'hidden0': max_spikes = 3; Loihi's neuron spikes once a step"),
        ({"options": {"floor": True}}, r"'hidden0': a floor under v \(v_min\)"),
        ({"params": {"v_reset": 0.3}}, r"'hidden0', neuron 0: v_reset 0.3 is not the resting potential 0"),
        ({"params": {"decay": 1.25}}, r"'hidden0', neuron 0: decay is 1.25, must lie in \[0, 1\)"),
        ({"params": {"decay": np.linspace(-0.1, 0.9, 34)}}, r"neuron 0: decay is -0.1"),
        ({"params": {"decay": np.linspace(0.1, 0.9, 34)}}, r"decay differs between neurons \(0.1..0.9\)"),
        ({"params": {"v_th": 0.0}}, r"neuron 0: threshold 0 above rest"),
        (
            {"params": {"v_th": 1e-3}},
            r"'hidden0': its threshold is 0.00\d+ of the largest weight .*too small",
        ),
    ],
)
def test_what_the_chip_lacks_is_refused(changes, message):
    graph = networks.network(bias=0.0)
    p = graph.populations["hidden0"]
    changes = dict(changes)
    if "params" in changes:
        changes["params"] = p.params | changes["params"]
    graph.populations["hidden0"] = replace(p, **changes)
    with pytest.raises(ExportError, match=message):
        quantise(graph)


def test_decays_of_their_own_are_an_option():
    graph, events = networks.network(bias=0.0), networks.spikes()
    p = graph.populations["hidden0"]
    decay = np.linspace(0.1, 0.9, 34)
    graph.populations["hidden0"] = replace(p, params=p.params | {"decay": decay})
    own = quantise(graph, decays="per_neuron", calibration=events)
    shared = quantise(graph, decays="shared", calibration=events)
    np.testing.assert_array_equal(own.populations["hidden0"].params["dv"], 4096 - np.round(decay * 4096))
    assert shared.populations["hidden0"].params["dv"] == 4096 - 2048
    assert any("not verified" in w for w in Report.of(own).warnings)
    assert equal_spikes(graph, own, events) > 0.9 > equal_spikes(graph, shared, events)


def test_a_bias_too_large_for_its_registers_lowers_the_scale():
    graph = networks.network(bias=0.0)
    graph.populations["hidden0"].bias = np.full(34, 90.0)
    integer = quantise(graph)
    assert 3900 <= integer.populations["hidden0"].params["bias"] / 64 <= 4095
    graph.populations["hidden0"].bias = np.full(34, 5000.0)
    with pytest.raises(ExportError, match=r"too small to represent beside 8-bit weights and its biases"):
        quantise(graph)
    assert quantise(graph, bias_exponent=None).populations["hidden0"].params["bias"] > 4095 * 64


def test_exponents_hold_weights_of_very_different_size():
    """Recurrent weights a fiftieth of the input's: alone they keep their bits only with an exponent."""
    graph, events = networks.network(recurrent=True, bias=0.0), networks.spikes()
    for p in graph.projections:
        if p.source == p.target:
            p.weight = p.weight * 0.1
    names = [p.name for p in graph.projections if p.source == p.target]
    plain = Report.of(quantise(graph, calibration=events))
    held = Report.of(quantise(graph, calibration=events, exponents=True))
    for name in names:
        assert held.layers[name].rms_error < 0.5 * plain.layers[name].rms_error
    assert all(layer.exponent == 0 for layer in plain.layers.values())
    assert any(layer.exponent > 0 for layer in held.layers.values())


def test_the_readout_stays_below_saturation():
    graph = networks.network(bias=0.0)
    graph.populations["out"].params["decay"] = np.array(1.0)
    graph.projections[-1].weight = abs(graph.projections[-1].weight)
    events = networks.spikes(steps=400, rate=0.3)
    integer = quantise(graph, calibration=events)
    v = simulate(integer, events, record=[("out", "v")]).recorded["out", "v"]
    assert 1 << 19 < v.max() < 1 << 23
    assert any("saturates" in w for w in Report.of(quantise(graph)).warnings)


def test_a_readout_with_an_unreachable_threshold_never_spikes():
    graph, events = networks.network(bias=0.0, decay=0.0, gain=1.5), networks.spikes(samples=30)
    graph.populations["out"] = networks.lif("out", 7, 0.9, v_th=1e9)
    integer = quantise(graph, calibration=events)
    assert integer.populations["out"].params["vth"] == loihi.SILENT
    assert agreement(graph, integer, events) > 0.8


def test_a_convolution_is_quantised_with_its_shared_kernel():
    r = np.random.default_rng(0)
    graph = Graph({"input": Population("input", INPUT, (2, 7, 6))}, [], outputs=["out"])
    graph.populations["c"] = networks.lif("c", (4, 3, 3), 0.5, bias=0.1 * r.normal(size=(4, 1, 1)))
    graph.populations["out"] = Population("out", "li", 3, {"decay": 0.9, "gain": 1.0})
    options = {"stride": [2, 2], "padding": [1, 1], "groups": 2}
    graph.projections = [
        Projection("a", "input", "c", r.normal(size=(4, 1, 4, 3)), kind="conv", options=options),
        Projection("b", "c", "out", r.normal(size=(3, 36))),
    ]
    events = networks.spikes(84)
    integer = quantise(graph, calibration=events)
    assert integer.projections[0].options | options == integer.projections[0].options
    assert equal_spikes(graph, integer, events) > 0.95


def test_the_report_survives_the_file(tmp_path):
    integer = quantise(networks.network(), calibration=networks.spikes())
    integer.save(tmp_path / "a.h5")
    again = Report.of(Graph.load(tmp_path / "a.h5"))
    assert again == Report.of(integer)
    assert "input→hidden0" in str(again)
    with pytest.raises(ParameterError, match="not made by quantise"):
        Report.of(networks.network())


def test_wrong_options_are_named():
    graph = networks.network()
    with pytest.raises(ParameterError, match=r"bits names \['x'\]"):
        quantise(graph, bits={"x": 4})
    with pytest.raises(ParameterError, match=r"9 bits; the chip takes 2\.\.8"):
        quantise(graph, bits=9)
    with pytest.raises(ParameterError, match="decays 'some'"):
        quantise(graph, decays="some")


def fading(v, x, leak, theta):
    h = (1 - leak) * v + 2 * x
    return h >= theta, h, (h < theta) * h


def test_a_neuron_from_outside_gets_its_cell_by_one_row(monkeypatch):
    """As the "lif" that it is, to the last integer."""

    def cell(p):
        zero = np.zeros(p.size)
        return Membrane(
            keep_u=zero,
            keep_v=1 - p.param("leak"),
            gain=zero + 2,
            rest=zero,
            v_th=p.param("theta"),
            v_reset=zero,
        )

    monkeypatch.setitem(NEURONS, "fading", lambda: Neuron("fading", ("leak", "theta"), ("v",), fading))
    graph, events = networks.network(decay=0.75, gain=1.0), networks.spikes()
    own = networks.network(decay=0.75, gain=1.0)
    for name in ("hidden0", "hidden1"):
        p = graph.populations[name]
        p.params = p.params | {"gain": np.array(2.0)}
        own.populations[name] = replace(p, neuron="fading", params={"leak": 0.25, "theta": 1.0})
    with pytest.raises(
        ExportError, match="kind 'fading' have no counterpart on Loihi; lif, if, cuba, li have"
    ):
        quantise(own, calibration=events)
    monkeypatch.setitem(CELLS, "fading", cell)
    assert_same_graph(quantise(graph, calibration=events), quantise(own, calibration=events), exact=True)


def test_a_neuron_without_leak_and_without_synapses_is_quantised():
    """0 / 0 is no potential that is reached: it stays at 0."""
    graph = networks.network((5, 4, 3), bias=0.0, decay=1.0)
    graph.into("hidden0")[0].weight[2] = 0
    events = networks.spikes(size=5)
    integer = quantise(graph, calibration=events)
    spikes = simulate(integer, events).spikes["hidden0"].to_dense()
    assert spikes.any()
    assert not spikes[..., 2].any()
