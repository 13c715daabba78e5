"""Event counts and prices against SANA-FE's own simulator: six placements of a small network.

The network is simulated here a third time, in plain NumPy with SANA-FE's arithmetic; what is under
test is the counting (`count`) and the pricing (`price`), not the engine. A spike that SANA-FE sends
in step t acts in t + 1: a projection with delay 1.
"""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from snnkit.energy import Counts, Mapping, count, measure, price
from snnkit.energy.counts import NeuronCounts, SynapseCounts
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection

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
        mapping=Mapping({"in": np.full(N_IN, core_in), "out": np.array(cores_out)}),
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


@pytest.mark.parametrize(
    "example",
    [pytest.param(e, id=e[0], marks=[] if e[0] == "four tiles" else pytest.mark.slow) for e in examples()],
)
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


DVS = {"spikes": 365_277, "synops": 51_549_374, "active": 15_539_753, "messages": 2_482_643}
DVS_HOPS = (1_838_173, 2_903_346)
DVS_MJ = {"synapse": 1.830003, "soma": 1.317286, "network": 0.293282, "total": 3.440571}


def in_mj(result):
    by = result.by("operation")
    parts = {"synapse": SYNAPSE, "soma": SOMA, "network": NETWORK}
    sums = {part: sum(by[o] for o in names) * 1e-9 for part, names in parts.items()}
    return {**sums, "total": result.total_pj * 1e-9}


def test_the_dvs_network_costs_what_its_stored_counts_say():
    """SANA-FE's shipped DVS network, 18 678 neurons in 1000 steps, from its event counts alone."""
    one = np.array([1])
    # routes that share out the messages and make the stored hops: (1, 3), (1, 0) and no tiles apart
    routes, messages = np.array([[0, 28], [0, 16], [0, 0]]), [967_782, 870_391, 644_470]
    assert sum(messages) == DVS["messages"]
    names = [f.name for f in fields(SynapseCounts)]
    synapses = {**dict.fromkeys(names, 0), "name": "p", "source": "all", "target": "all", "kind": "dense"}
    counts = Counts(
        [SynapseCounts(**{**synapses, "synops": one * DVS["synops"]})],
        [
            NeuronCounts(
                "all",
                "lif",
                18_678,
                states=1,
                leak_macs=0,
                biased=0,
                biases=0,
                steps=one * 1000,
                spikes=one * DVS["spikes"],
                active=one * DVS["active"],
                routes=routes,
                messages=np.array(messages)[:, None],
            )
        ],
        one * 1000,
    )
    result = price(counts, "loihi1_sanafe")
    assert in_mj(result) == pytest.approx(DVS_MJ, abs=6e-7)
    hops = dict(zip(result.table["operation"].tolist(), result.table["count"].tolist(), strict=True))
    assert (hops["hop E-W"], hops["hop N-S"]) == DVS_HOPS


@pytest.mark.slow
def test_the_dvs_network_runs_here_as_it_does_there():
    """SANA-FE's shipped network on our engine, placed as in its tutorial: every event count is equal.

    Integer arithmetic, threshold v > θ (v ≥ θ + 1), one step a layer, neurons numbered channel by channel.
    """
    sanafe = pytest.importorskip("sanafe")
    data = np.load(Path(sanafe.__file__).parent / "examples" / "dvs_challenge.npz")
    shapes = [(1, 32, 32), (16, 15, 15), (32, 13, 13), (64, 11, 11), (11, 9, 9), (11,)]
    populations = {"nothing": Population("nothing", "input", (1,))}
    projections, core, first = [], {"nothing": np.array([-1])}, 0
    for i, (shape, cores) in enumerate(zip(shapes, [1, 4, 16, 16, 4, 1], strict=True)):
        size = int(np.prod(shape))
        params = {
            "decay": 1.0,
            "gain": 1.0,
            "v_th": data["thresholds"][i] + 1.0,
            "v_reset": 0.0,
            "v_rest": 0.0,
        }
        bias = data["inputs"].reshape(shape) if i == 0 else np.zeros(())
        populations[f"l{i}"] = Population(f"l{i}", "lif", shape, params, bias)
        core[f"l{i}"] = first + np.minimum(np.arange(size) // (size // cores), cores - 1)
        first += cores
        if 0 < i < 5:
            weight, kind = data[f"conv{i}"].transpose(3, 2, 0, 1), "conv"
        elif i == 5:
            weight, kind = data["dense1"].T, "dense"
        if i:
            options = {"stride": 2 if i == 1 else 1} if kind == "conv" else {}
            projections.append(
                Projection(
                    f"p{i}",
                    f"l{i - 1}",
                    f"l{i}",
                    weight.astype(float),
                    np.ones((), int),
                    kind,
                    options=options,
                )
            )
    graph = Graph(populations, projections, outputs=["l5"]).validate()

    silence = EventBatch([], [], [0, 0], [1000], 1)
    counts = measure(graph, silence, mapping=Mapping(core), dtype="float64")

    got = {
        "spikes": int(counts.spikes[0]),
        "synops": int(counts.synops[0]),
        "active": sum(int(n.active[0]) for n in counts.neurons if n.active is not None),
        "messages": sum(int(n.messages.sum()) for n in counts.neurons),
    }
    assert got == DVS
    assert in_mj(price(counts, "loihi1_sanafe", synapse="dense")) == pytest.approx(DVS_MJ, abs=6e-7)
