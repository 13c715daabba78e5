"""Event counts and prices against SANA-FE's own simulator: six placements of a small network.

The network is simulated here a third time, in plain NumPy with SANA-FE's arithmetic; what is under
test is the counting (`count`) and the pricing (`price`), not the engine. A spike that SANA-FE sends
in step t acts in t + 1: a projection with delay 1.
"""

import numpy as np
import pytest

from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.hardware.energy import Placement, count, load_profile, price

CASES = {
    "same core": (0, [0] * 3),
    "same tile": (0, [1] * 3),
    "next tile": (0, [4] * 3),
    "two target cores": (0, [4, 5, 5]),
    "far": (0, [37] * 3),
    "four tiles": (0, [4, 9, 37]),
}
STEPS, N_IN, N_OUT, THRESHOLD, LEAK = 20, 4, 3, 1.5, 0.75
SYNAPSE, SOMA, NETWORK = (
    {"SynOp"},
    {"soma access", "soma update", "soma spike"},
    {"message", "hop E-W", "hop N-S"},
)

# SANA-FE 2.2.9, timing_model="simple": synapse, soma, network, total in pJ, time in µs
STORED = {
    "same core": (2343.0, 4979.1, 2442.0, 9764.1, 13.0782),
    "same tile": (2449.5, 5485.8, 2553.0, 10488.3, 13.1426),
    "next tile": (2236.5, 4792.8, 2419.2, 9448.5, 20.9471),
    "two target cores": (1917.0, 5000.7, 4147.2, 11064.9, 20.6692),
    "far": (2556.0, 4675.8, 2908.8, 10140.6, 20.9673),
    "four tiles": (2130.0, 4572.3, 7116.0, 13818.3, 28.5997),
}


def examples():
    """Name → (spikes, weights, core of the inputs, cores of the outputs), the oracle script's draws."""
    rng = np.random.default_rng(0)
    for name, (core_in, cores_out) in CASES.items():
        spikes = (rng.random((STEPS, N_IN)) < 0.3).astype(int)
        yield name, spikes, rng.integers(-32, 96, (N_IN, N_OUT)) / 64, core_in, cores_out


def simulated(spikes, weights):
    """v after each step and spikes of the output group, ``[T, N]``, in SANA-FE's arithmetic."""
    v, arriving = np.zeros(N_OUT), np.zeros(N_OUT)
    potentials, fired = [], []
    for t in range(STEPS):
        v = np.trunc((v * LEAK if t else v) * 64) / 64 + arriving
        fires = v > THRESHOLD
        v[fires] = 0.0
        arriving = spikes[t] @ weights
        potentials.append(v.copy())
        fired.append(fires)
    return np.array(potentials), np.array(fired)


def counted(spikes, weights, core_in, cores_out):
    params = {"decay": LEAK, "gain": 1.0, "v_th": THRESHOLD, "v_reset": 0.0, "v_rest": 0.0}
    graph = Graph(
        {"in": Population("in", "input", (N_IN,)), "out": Population("out", "lif", (N_OUT,), params)},
        [Projection("dense", "in", "out", weights.T, np.ones((), int))],
    ).validate()
    potentials, fired = simulated(spikes, weights)
    return count(
        graph,
        {
            "in": EventBatch.from_dense(spikes[:, None]),
            "out": EventBatch.from_dense(fired[:, None].astype(int)),
        },
        {("out", "v"): potentials[:, None]},
        mapping=Placement({"in": np.full(N_IN, core_in), "out": np.array(cores_out)}),
    )


def ours(spikes, weights, core_in, cores_out):
    """Energy of each part in pJ and time in µs."""
    result = price(counted(spikes, weights, core_in, cores_out), "loihi1_sanafe")
    by = result.by("operation")
    parts = {
        "synapse": sum(by[o] for o in SYNAPSE),
        "soma": sum(by[o] for o in SOMA),
        "network": sum(by[o] for o in NETWORK),
        "total": result.total_pj,
    }
    return parts, float(result.latency_us[0])


def sanafe_run(sanafe, spikes, weights, core_in, cores_out):
    arch, net = sanafe.load_loihi(), sanafe.Network()
    inputs = net.create_neuron_group("in", N_IN)
    outputs = net.create_neuron_group(
        "out",
        N_OUT,
        soma_hw_name="loihi_lif",
        default_synapse_hw_name="loihi_dense_synapse",
        model_attributes={"threshold": THRESHOLD, "leak_decay": LEAK, "reset": 0.0, "input_decay": 0.0},
    )
    for i, neuron in enumerate(inputs):
        train = {"spikes": [int(s) for s in spikes[:, i]]}
        neuron.set_attributes(soma_hw_name=f"loihi_inputs[{i}]", model_attributes=train)
        for j, target in enumerate(outputs):
            neuron.connect_to_neuron(target, {"weight": float(weights[i, j])})
    cores = arch.cores()
    for neuron in inputs:
        neuron.map_to_core(cores[core_in])
    for neuron, core in zip(outputs, cores_out, strict=True):
        neuron.map_to_core(cores[core])
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    result = chip.sim(STEPS, timing_model="simple", perf_trace=True)
    return {part: pj * 1e12 for part, pj in result["energy"].items()}, result["sim_time"] * 1e6


@pytest.mark.parametrize("example", list(examples()), ids=lambda e: e[0])
def test_energy_and_time_are_sanafes(example):
    sanafe = pytest.importorskip("sanafe")
    _, *network = example

    energy, time = ours(*network)

    want, want_time = sanafe_run(sanafe, *network)
    assert energy["synapse"] > 0
    for part in ("synapse", "soma", "network", "total"):
        assert energy[part] == pytest.approx(want[part], rel=1e-12)
    assert time == pytest.approx(want_time, rel=1e-12)


@pytest.mark.parametrize("example", list(examples()), ids=lambda e: e[0])
def test_energy_and_time_are_what_sanafe_gave(example):
    name, *network = example

    energy, time = ours(*network)

    assert [*energy.values(), time] == pytest.approx(STORED[name], rel=1e-12)


def test_events_of_the_next_tile_are_counted_one_by_one():
    _, *network = next(e for e in examples() if e[0] == "next tile")

    counts = counted(*network)

    (synapses,), inputs, outputs = counts.synapses, *counts.neurons
    assert (synapses.spikes, synapses.synops) == (21, 63)
    assert (outputs.updates, outputs.active, outputs.idle, outputs.spikes) == (60, 54, 6, 8)
    assert inputs.messages.sum() == 21
    table = price(counts, "loihi1_sanafe").table
    hops = {
        o: n
        for o, n, part in zip(table["operation"], table["count"], table["part"], strict=True)
        if part == "in"
    }
    assert hops["hop N-S"] == 21
    assert hops["hop E-W"] == 0


def test_the_dvs_network_costs_what_its_stored_counts_say():
    """SANA-FE's shipped DVS network, 1000 steps, from its event counts alone: 3.440571 mJ."""
    c = load_profile("loihi1_sanafe").values()
    fired, synops, updates, messages, neurons, steps = (
        365_277,
        51_549_374,
        15_539_753,
        2_482_643,
        18_678,
        1000,
    )
    hops_pj = 0.017709e9

    synapse = synops * c["synop_dense"]
    soma = neurons * steps * c["soma_access"] + updates * c["soma_update"] + fired * c["soma_spike"]

    assert synapse * 1e-9 == pytest.approx(1.830003, abs=5e-7)
    assert soma * 1e-9 == pytest.approx(1.317286, abs=5e-7)
    assert (synapse + soma + messages * c["message_out"] + hops_pj) * 1e-9 == pytest.approx(
        3.440571, abs=1e-6
    )
