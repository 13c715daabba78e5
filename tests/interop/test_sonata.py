"""SONATA circuits: nodes and edges are libsonata's, spikes are those of NEST's update rules."""

import json
import subprocess

import numpy as np
import pytest

from snnkit.engine import simulate, synapses
from snnkit.events import EventBatch
from snnkit.graph import Population
from snnkit.interop import nest, sonata
from tests.helpers import sonata_files
from tests.helpers.peers import nest_python
from tests.helpers.sonata_files import DELTA, DT, Edges, Nodes

EXP = {"model_type": "point_process", "model_template": "nest:iaf_psc_exp"}
EXC = {"I_e": 270.0, "tau_m": 12.0, "C_m": 200.0, "E_L": -65.0, "V_th": -52.0, "V_reset": -63.0, "t_ref": 1.5}
INH = {"tau_m": 8.0, "V_th": -50.0, "t_ref": 0.0, "V_min": -75.0, "I_e": 650.0}
SLOW = {
    "tau_m": 15.0,
    "C_m": 150.0,
    "E_L": -68.0,
    "tau_syn_ex": 3.0,
    "tau_syn_in": 3.0,
    "I_e": 220.0,
    "V_m": -60.0,
}
TRAINS = {0: [0.5, 3.0, 3.1, 20.0], 1: [1.0, 7.7], 2: [0.1, 40.0, 41.2], 3: []}


def circuit(kinds=("delta", "inh", "exp"), groups=True, seed=0):
    """Nodes, edges, and what each node and edge is in the end: parameters, weight and delay by row."""
    rng = np.random.default_rng(seed)
    types = {"delta": (100, DELTA, EXC), "inh": (7, DELTA, INH), "exp": (42, EXP, SLOW)}
    chosen = [types[k] for k in kinds]
    n = 12
    type_id = rng.permutation(np.resize([t[0] for t in chosen], n))
    of = rng.integers(0, 2, n) if groups else np.zeros(n, int)
    own_th, own_m = rng.uniform(-54, -48, (of == 0).sum()), rng.uniform(6, 20, (of == 0).sum())
    own = {0: {"dynamics_params/V_th": own_th, "dynamics_params/tau_m": own_m}}
    cells = Nodes(
        {number: (columns | {"pop_name": "layer 4"}, parameters) for number, columns, parameters in chosen},
        type_id,
        own | ({1: {"x": rng.random((of == 1).sum())}} if groups else {}),
        of,
    )
    by_id = {number: (columns["model_template"][5:], parameters) for number, columns, parameters in chosen}
    neurons = [(by_id[t][0], dict(by_id[t][1])) for t in type_id]
    for row, v_th, tau in zip(np.flatnonzero(of == 0), own_th, own_m, strict=True):
        neurons[row][1].update(V_th=v_th, tau_m=tau)

    scale = {"iaf_psc_delta": 3.0, "iaf_psc_exp": 250.0}

    def edges(name, end, number, size):
        source, target = rng.integers(0, size, number), rng.integers(0, n, number)
        source[:2], target[:2] = 0, 1  # a pair with two synapses
        of = rng.integers(0, 2, number) if groups else np.zeros(number, int)
        kinds = {
            1: ({"model_template": "static_synapse", "syn_weight": 1.25, "delay": 2.0}, None),
            2: ({"model_template": "static_synapse", "syn_weight": 9.0}, {"weight": -0.75, "delay": 0.7}),
            3: ({}, {}),
        }
        defaults = {1: (1.25, 2.0), 2: (-0.75, 0.7), 3: (1.0, 1.0)}
        kind = rng.integers(1, 4, number)
        each = np.array([scale[neurons[t][0]] for t in target])
        weight = rng.normal(0.6, 1, number) * each
        delay = rng.integers(1, 60, number) * DT
        stored = {"syn_weight": weight[of == 0], "delay": delay[of == 0].astype(np.float32)}
        if not groups:
            stored["delay"] = delay
        own = {0: stored, 1: {}} if groups else {0: stored}
        made = Edges(kinds, kind, own, of, source=(end, source), target=("cells", target))
        final = [
            (s, t, *((w, d) if g == 0 else defaults[k]))
            for s, t, w, d, g, k in zip(source, target, weight, delay, of, kind, strict=True)
        ]
        return made, final

    inputs = Nodes({1: ({"model_type": "virtual"}, None), 2: ({"model_type": "virtual"}, None)}, [1, 2, 1, 1])
    recurrent, inner = edges("cells_cells", "cells", 60, n)
    feed, outer = edges("inputs_cells", "inputs", 40, 4)
    nodes = {"inputs": inputs, "cells": cells}
    return nodes, {"cells_cells": recurrent, "inputs_cells": feed}, neurons, inner, outer


def listed(graph, name):
    """Synapses of an edge population, by node ids: (source, target, weight, steps) sorted."""
    found = []
    for p in graph.projections:
        if p.name.split()[0] == name:
            ids = [graph.metadata["sonata"][e]["ids"] for e in (p.source, p.target)]
            k = synapses(graph, p)
            source, target = (
                i if known is None else np.array(known)[i] for known, i in zip(ids, k[:2], strict=True)
            )
            lag = graph.populations[p.target].neuron == "cuba"
            found += zip(source, target, k.weight, k.delay - lag, strict=True)
    return sorted(found)


def spikes(graph, result):
    found = []
    for name, events in result.spikes.items():
        ids = graph.metadata["sonata"][name]["ids"]
        who = events.neurons if ids is None else np.array(ids)[events.neurons]
        found += zip(events.times.tolist(), who.tolist(), strict=True)
    return sorted(found)


def feed(graph, steps):
    pairs = sorted((round(t / DT) - 1, n) for n, times in TRAINS.items() for t in times)
    t, n = np.array(pairs).T
    return EventBatch(t, n, np.array([0, len(t)]), np.array([steps]), 4)


def test_nodes_and_edges_are_those_of_libsonata(tmp_path):
    libsonata = pytest.importorskip("libsonata")
    nodes, edges, neurons, _, _ = circuit(("delta", "inh"), groups=False)
    graph = sonata.read(sonata_files.write(tmp_path, nodes, edges), dt=DT)

    store = libsonata.NodeStorage(str(tmp_path / "network/cells_nodes.h5")).open_population("cells")
    cells = graph.populations["cells"]
    assert (cells.neuron, cells.size) == ("lif", store.size)
    own = store.get_dynamics_attribute("V_th", store.select_all())
    rest = np.array([sonata_files.NEST["E_L"] if "E_L" not in p else p["E_L"] for _, p in neurons])
    np.testing.assert_allclose(cells.param("v_th") + rest, own, rtol=1e-14)
    np.testing.assert_array_equal(graph.metadata["sonata"]["cells"]["E_L"], rest)
    for name in edges:
        path = tmp_path / f"network/{name}_edges.h5"
        store = libsonata.EdgeStorage(str(path)).open_population(name)
        every = store.select_all()
        steps = np.round(store.get_attribute("delay", every) / DT).astype(int)
        columns = (
            store.source_nodes(every),
            store.target_nodes(every),
            store.get_attribute("syn_weight", every),
        )
        assert listed(graph, name) == sorted(zip(*columns, steps, strict=True))
        projection = next(p for p in graph.projections if p.name == name)
        assert (projection.source, projection.target) == (store.source, store.target)


def test_the_edges_of_a_node_are_libsonatas(tmp_path):
    libsonata = pytest.importorskip("libsonata")
    nodes, edges, _, _, _ = circuit(("delta", "inh"), groups=False, seed=3)
    graph = sonata.read(sonata_files.write(tmp_path, nodes, edges), dt=DT)
    path = str(tmp_path / "network/cells_cells_edges.h5")
    libsonata.EdgeStorage(path).open_population("cells_cells").write_indices(path, "cells_cells", 12, 12)
    store = libsonata.EdgeStorage(path).open_population("cells_cells")
    ours = listed(graph, "cells_cells")
    for node in range(12):
        for end, found in ((1, store.afferent_edges(node)), (0, store.efferent_edges(node))):
            weights = store.get_attribute("syn_weight", found)
            assert sorted(weights) == sorted(k[2] for k in ours if k[end] == node)
    assert sonata.read(tmp_path / "circuit_config.json", dt=DT).projections[0].name == "cells_cells"


@pytest.mark.parametrize("kinds", [("delta", "inh"), ("delta", "inh", "exp")], ids=" ".join)
def test_each_attribute_comes_from_hdf5_else_json_else_table_else_nest(tmp_path, kinds):
    nodes, edges, neurons, inner, outer = circuit(kinds)
    graph = sonata.read(sonata_files.write(tmp_path, nodes, edges), dt=DT)
    for name, want in (("cells_cells", inner), ("inputs_cells", outer)):
        want = [(s, t, w * current(neurons[t]), round(d / DT)) for s, t, w, d in want]
        got = listed(graph, name)
        np.testing.assert_allclose(got, sorted(want), rtol=1e-12)
        assert any(a[:2] == b[:2] for a, b in zip(got[1:], got[:-1], strict=True)), "no pair has two synapses"
    for name, said in graph.metadata["sonata"].items():
        population = graph.populations[name]
        if population.neuron == "input":
            continue
        ids = range(12) if said["ids"] is None else said["ids"]
        for k, node in enumerate(ids):
            p = sonata_files.NEST | neurons[node][1]
            decay = population.param("decay" if population.neuron == "lif" else "decay_mem")[k]
            assert decay == pytest.approx(np.exp(-DT / p["tau_m"]), rel=1e-14)
            assert population.param("v_th")[k] == pytest.approx(p["V_th"] - p["E_L"], rel=1e-13)
            assert population.param("refractory")[k] == round(p["t_ref"] / DT)


def current(neuron):
    """What a weight of a neuron is multiplied by."""
    model, given = neuron
    p = sonata_files.NEST | given
    if model == "iaf_psc_delta":
        return 1.0
    tau, tau_syn = p["tau_m"], p["tau_syn_ex"]
    return (np.exp(-DT / tau) - np.exp(-DT / tau_syn)) * tau * tau_syn / (tau - tau_syn) / p["C_m"]


@pytest.mark.parametrize(
    "kinds", [("delta",), ("delta", "inh"), ("exp",), ("delta", "inh", "exp")], ids=" ".join
)
def test_spikes_and_potentials_are_those_of_nests_update_rules(tmp_path, kinds):
    nodes, edges, neurons, inner, outer = circuit(kinds, seed=len(kinds))
    graph = sonata.read(sonata_files.write(tmp_path, nodes, edges, {"dt": DT}))
    steps = 600
    result = simulate(graph, feed(graph, steps), steps, dtype="float64", record=["v"])
    links = [*inner, *((f"input {s}", t, w, d) for s, t, w, d in outer)]
    want, v = sonata_files.nest(neurons, links, {f"input {n}": t for n, t in TRAINS.items()}, steps, DT)
    assert spikes(graph, result) == sorted(want)
    assert len({n for _, n in want}) > 8, "most neurons must spike"
    assert len(want) > 40
    for name, said in graph.metadata["sonata"].items():
        if (name, "v") in result.recorded:
            ids = slice(None) if said["ids"] is None else said["ids"]
            np.testing.assert_allclose(result.recorded[name, "v"][:, 0], v[:, ids], atol=1e-9)


KERNEL = """
import json, sys
import nest
neurons, synapses, trains, steps, dt = json.load(sys.stdin)
nest.set(resolution=dt, print_time=False)
cells = [nest.Create(model, params=given) for model, given in neurons]
first, record = cells[0].global_id, nest.Create("spike_recorder")
ends = dict(enumerate(cells))
for name, times in trains.items():
    ends[name] = nest.Create("spike_train_injector", params={"spike_times": sorted(times)})
for cell in cells:
    nest.Connect(cell, record)
for source, target, weight, delay in synapses:
    nest.Connect(ends[source], ends[target], syn_spec={"weight": weight, "delay": delay})
nest.Simulate(steps * dt)
events = record.get("events")
pairs = zip(events["times"], events["senders"])
print("found " + json.dumps(sorted([round(t / dt) - 1, int(n) - first] for t, n in pairs)))
"""


@pytest.mark.parametrize("seed", range(3))
def test_spikes_are_those_of_nest(tmp_path, seed):
    """Of the kernel itself: put together from what each node and edge is in the end."""
    python = nest_python()
    nodes, edges, neurons, inner, outer = circuit(("delta", "inh", "exp"), seed=seed)
    graph = sonata.read(sonata_files.write(tmp_path, nodes, edges, {"dt": DT}))
    links = [(int(s), int(t), float(w), float(d)) for s, t, w, d in inner]
    links += [(f"input {s}", int(t), float(w), float(d)) for s, t, w, d in outer]
    trains = {f"input {n}": times for n, times in TRAINS.items()}
    text = json.dumps([neurons, links, trains, 600, DT])
    done = subprocess.run([python, "-c", KERNEL], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("found "))
    want = [tuple(pair) for pair in json.loads(line[6:])]
    assert spikes(graph, simulate(graph, feed(graph, 600), 600, dtype="float64")) == want
    assert len(want) > 40


@pytest.mark.parametrize("columns", [DELTA, EXP], ids=["delta", "exp"])
def test_a_constant_current_spikes_at_the_times_of_the_closed_form(tmp_path, columns):
    """From V_reset, V passes V_th after τ·ln((V∞ − V_reset)/(V∞ − V_th)), and t_ref goes before that."""
    currents = np.array([380.0, 450.0, 700.0, 1200.0])
    cells = Nodes(
        {1: (columns, {"V_reset": -68.0, "V_m": -68.0})}, [1] * 4, {0: {"dynamics_params/I_e": currents}}
    )
    graph = sonata.read(sonata_files.write(tmp_path, {"cells": cells}, {}), dt=DT)
    events = simulate(graph, steps=3000, dtype="float64").spikes["cells"]
    above = currents * 10.0 / 250.0
    rise = np.ceil(10.0 * np.log((above - 2) / (above - 15)) / DT).astype(int)
    for n, steps in enumerate(rise):
        want = np.arange(steps - 1, 3000, steps + 20)
        np.testing.assert_array_equal(events.times[events.neurons == n], want)
        assert len(want) > 3


def test_a_population_that_was_read_goes_back_to_the_same_neurons_of_nest(tmp_path):
    nodes, edges, neurons, _, _ = circuit(("delta",), groups=False)
    graph = sonata.read(sonata_files.write(tmp_path, nodes, edges), dt=DT)
    model = nest._model(graph.populations["cells"], DT)
    given = [sonata_files.NEST | p for _, p in neurons]
    assert model.name == "iaf_psc_delta"
    for key, factor in (("tau_m", 1), ("t_ref", 1)):
        np.testing.assert_allclose(model.params[key], [p[key] * factor for p in given], rtol=1e-12)
    np.testing.assert_allclose(model.params["I_e"], [p["I_e"] / p["C_m"] for p in given], rtol=1e-11)
    np.testing.assert_allclose(model.params["V_th"], [p["V_th"] - p["E_L"] for p in given], rtol=1e-12)
    np.testing.assert_array_equal(model.scale, 1.0)


@pytest.mark.parametrize(
    ("tau", "tau_syn"), [(10.0, 2.0), (5.0, 5.0), (5.0, 5.0 + 1e-7), (2.0, 30.0), (1e18, 4.0)]
)
def test_the_propagator_is_the_integral_of_the_current(tau, tau_syn):
    x, w = np.polynomial.legendre.leggauss(20)
    s = DT * (x + 1) / 2
    want = (w * DT / 2 * np.exp(-(DT - s) / tau) * np.exp(-s / tau_syn)).sum()
    assert nest.reach(np.array(tau), np.array(tau_syn), DT) == pytest.approx(want, rel=1e-12)


def test_spikes_that_are_written_are_read_by_libsonata_and_by_us(tmp_path):
    libsonata = pytest.importorskip("libsonata")
    nodes, edges, _, _, _ = circuit()
    graph = sonata.read(sonata_files.write(tmp_path, nodes, edges), dt=DT)
    result = simulate(graph, feed(graph, 600), 600, dtype="float64")
    assert len(result.spikes) == 2
    sonata.write_spikes(tmp_path / "out.h5", graph, result.spikes)
    stored = libsonata.SpikeReader(str(tmp_path / "out.h5"))["cells"]
    assert stored.sorting == "by_time"
    want = [((t + 1) * DT, n) for t, n in spikes(graph, result)]
    assert [(t, n) for n, t in stored.get()] == sorted(want)
    for name, events in result.spikes.items():
        got = sonata.read_spikes(tmp_path / "out.h5", graph, name, 600)
        for field in ("times", "neurons", "offsets", "lengths"):
            np.testing.assert_array_equal(getattr(got, field), getattr(events, field))


def test_another_model_is_one_row(tmp_path, monkeypatch):
    """An "if" of one's own under a name that NEST does not have, from outside the package."""

    def make(where, params, dt):
        size = len(params["V_th"])
        held = {"decay": 1.0, "gain": 1.0, "v_rest": 0.0, "v_th": params["V_th"], "v_reset": params["step"]}
        return Population("", "if", (size,), held), np.full(size, 0.5)

    monkeypatch.setitem(sonata.MODELS, "my_if", sonata.Model("if", make, more={"step": -3.0}))
    cells = Nodes(
        {1: ({"model_type": "point_neuron", "model_template": "nest:my_if"}, {"E_L": -60.0})}, [1, 1]
    )
    links = Edges({1: ({"syn_weight": 4.0}, None)}, [1], source=("cells", [0]), target=("cells", [1]))
    graph = sonata.read(sonata_files.write(tmp_path, {"a": cells, "cells": cells}, {"l": links}), dt=DT)
    own = graph.populations["cells"]
    assert (own.neuron, own.param("v_th").tolist(), own.param("v_reset").tolist()) == ("if", [5, 5], [-3, -3])
    assert (graph.projections[0].weight.tolist(), graph.projections[0].delay.tolist()) == ([2.0], [10])
