"""SONATA files in all their forms: what cannot be read is named with file and place."""

import json

import h5py
import numpy as np
import pytest

from snnkit.errors import DataError, ExportError, ParameterError, SnnkitError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population
from snnkit.interop import sonata
from tests.helpers import sonata_files
from tests.helpers.graphs import assert_same_graph
from tests.helpers.sonata_files import DELTA, DT, Edges, Nodes


@pytest.fixture
def small(tmp_path):
    """A function that writes a circuit of two cells and two inputs, changed as said, and reads it."""

    def made(types=None, edge=None, params=None, own=None, run=None, **options):
        cells = Nodes({1: (DELTA | (types or {}), params or {})}, [1, 1])
        inputs = Nodes({5: ({"model_type": "virtual"}, None)}, [5, 5])
        links = Edges(
            {1: ({"syn_weight": 2.0, "delay": 1.0} | (edge or {}), None)}, [1, 1, 1],
            {0: own or {}}, source=("inputs", [0, 1, 1]), target=("cells", [0, 0, 1]),
        )  # fmt: skip
        path = tmp_path / "circuit_config.json"
        if not (tmp_path / "network").exists():
            sonata_files.write(tmp_path, {"cells": cells, "inputs": inputs}, {"in": links}, run)
        return sonata.read(path, **({"dt": DT} | options))

    return made


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"types": {"model_template": "nest:iaf_cond_exp"}},
            ExportError,
            r"cells_nodes.h5: /nodes/cells: node 0 \(type 1\) .* 'nest:iaf_cond_exp'; what can be read is",
        ),
        (
            {"types": {"model_type": "biophysical", "model_template": "ctdb:Biophys1.hoc"}},
            ExportError,
            r"node 0 \(type 1\) has model_type 'biophysical' and model_template 'ctdb:Biophys1.hoc'",
        ),
        ({"types": {"model_template": "iaf_psc_delta"}}, ExportError, "model_template 'iaf_psc_delta'"),
        ({"types": {"model_type": "NULL"}}, ExportError, "has model_type None"),
        (
            {"params": {"tau_mm": 3.0}},
            ExportError,
            "/nodes/cells: iaf_psc_delta has no parameter 'tau_mm', did you mean 'tau_m'?",
        ),
        ({"params": {"tau_syn_ex": 3.0}}, ExportError, "iaf_psc_delta has no parameter 'tau_syn_ex'"),
        ({"params": {"refractory_input": True}}, ExportError, "refractory_input = 1 at node 0 of this model"),
        (
            {"params": {"V_min": -60.0}},
            ExportError,
            "V_min at node 0 of this model must not lie above V_reset",
        ),
        ({"params": {"V_th": -80.0}}, DataError, "/nodes/cells: V_reset must lie below V_th"),
        ({"params": {"C_m": 0}}, DataError, "C_m must be above 0"),
        (
            {"params": {"t_ref": 0.25}},
            DataError,
            r"/nodes/cells: t_ref\[0\] is 0.25 ms, which is 2.5 steps of dt = 0.1 ms",
        ),
        ({"params": {"tau_m": "fast"}}, DataError, "cells_1.json: tau_m is 'fast', expected a number"),
        (
            {"types": {"model_template": "nest:iaf_psc_exp"}, "params": {"tau_syn_in": 3.0}},
            ExportError,
            "tau_syn_ex = 2 and tau_syn_in = 3 ms at node 0",
        ),
        (
            {"types": {"model_template": "nest:iaf_psc_exp"}, "params": {"delta": 3.0}},
            ExportError,
            "delta = 3 at node 0",
        ),
        (
            {"edge": {"delay": 1.25}},
            DataError,
            r"h5: /edges/in: the delay of edge\[0\] is 1.25 ms, which is 12.5 steps of dt = 0.1",
        ),
        (
            {"own": {"delay": [1.0, 1.0, 0.0]}},
            DataError,
            "/edges/in: the delay of edge 2 is 0.0 ms; NEST's are at least a step",
        ),
        (
            {"edge": {"model_template": "stdp_synapse"}},
            ExportError,
            r"in: edge 0 \(type 1\) has model_template 'stdp_synapse'; it must have a static_",
        ),
        (
            {"own": {"model_template": ["static_synapse", "static_synapse", "tsodyks_synapse"]}},
            ExportError,
            r"/edges/in: edge 2 \(type 1\) has model_template 'tsodyks_synapse'",
        ),
        ({"edge": {"weight_function": "gaussianLL"}}, ExportError, "weight_function 'gaussianLL'"),
        (
            {"edge": {"syn_weight": "strong"}},
            DataError,
            "/edges/in: edge type 1 has syn_weight = 'strong', expected a number",
        ),
        (
            {"own": {"syn_weight": [1.0, np.nan, 0.0]}},
            DataError,
            r"/edges/in/0/syn_weight\[\d\] is nan, expected a finite",
        ),
        ({"own": {"dynamics_params/weight": [1.0, 2.0, 0.0]}}, ExportError, "/edges/in/0/dynamics_params"),
        (
            {"own": {"nsyns": [1, 3, 1]}},
            ParameterError,
            "edge 1 stands for nsyns = 3 synapses, by which BMTK multiplies",
        ),
        ({"dt": None}, ParameterError, r"circuit_config.json says no time step.*\(run.dt\) or dt"),
        ({"dt": 0.0}, ParameterError, "dt must be a positive number of ms, got 0"),
        ({"nsyns": "add"}, ParameterError, "nsyns must be 'multiply', 'ignore' or None, got 'add'"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(small, change, error, message):
    with pytest.raises(error, match=message):
        small(**change)


def test_edges_of_several_synapses_weigh_as_is_said(small):
    assert small(own={"nsyns": [1, 3, 1]}, nsyns="ignore").projections[0].weight.tolist() == [2, 2, 2]
    assert small(nsyns="multiply").projections[0].weight.tolist() == [2, 6, 2]


def test_a_start_that_simulators_take_differently_must_be_said(small, tmp_path):
    simulation = {"run": {"dt": 0.5}, "conditions": {"v_init": -80}}
    with pytest.raises(ParameterError, match=r"v_init = -80 mV.* Say v_init=-80 or v_init=-70"):
        small(simulation=simulation, dt=None)
    graph = small(simulation=simulation, dt=None, v_init=-80)
    assert (graph.dt, float(graph.populations["cells"].initial["v"])) == (0.5, -10.0)
    assert float(small().populations["cells"].initial["v"]) == 0.0
    (tmp_path / "models/cells/cells_1.json").write_text('{"V_m": -61.0, "E_L": -66.0}')
    assert float(small(simulation=simulation).populations["cells"].initial["v"]) == 5.0


def test_nest_starts_at_its_own_potential_whatever_the_rest(small):
    """In NEST setting E_L alone leaves V_m, V_th and V_reset where they are."""
    cells = small(params={"E_L": -62.0}).populations["cells"]
    assert [float(cells.initial["v"]), *(float(cells.params[k]) for k in ("v_th", "v_reset"))] == [-8, 7, -8]


@pytest.mark.parametrize("form", ["circuit", "simulation", "both", "bmtk", "dict"])
def test_configurations_in_all_their_forms(small, tmp_path, form):
    want = small()
    simulation = {"manifest": {"$HERE": "${configdir}"}, "run": {"dt": DT}}
    names = {"network": "$HERE/circuit_config.json"}
    (tmp_path / "run.json").write_text(json.dumps(simulation | names))
    (tmp_path / "bmtk.json").write_text(
        json.dumps({"network": "./circuit_config.json", "simulation": "./run.json"})
    )
    whole = json.loads((tmp_path / "circuit_config.json").read_text())
    (tmp_path / "both.json").write_text(json.dumps(whole | {"run": {"dt": DT}}))
    whole["manifest"]["$BASE_DIR"] = str(tmp_path)
    got = {
        "circuit": lambda: sonata.read(tmp_path / "circuit_config.json", tmp_path / "run.json"),
        "simulation": lambda: sonata.read(str(tmp_path / "run.json")),
        "both": lambda: sonata.read(tmp_path / "both.json"),
        "bmtk": lambda: sonata.read(tmp_path / "bmtk.json"),
        "dict": lambda: sonata.read(whole, dt=DT),
    }[form]()
    assert_same_graph(want, got)


def test_entries_that_are_not_enabled_are_left_out(small, tmp_path):
    small()
    config = json.loads((tmp_path / "circuit_config.json").read_text())
    config["networks"]["edges"][0]["enabled"] = False
    config["manifest"]["$BASE_DIR"] = str(tmp_path)
    assert not sonata.read(config, dt=DT).projections


def change_json(path, change):
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def change_h5(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def put(file, where, values):
    attrs = dict(file[where].attrs)
    del file[where]
    file[where] = values
    file[where].attrs.update(attrs)


def electrical(tree):
    tree["networks"]["edges"][0]["populations"] = {"in": {"type": "electrical"}}


DAMAGE = {
    "circuit_config.json": [
        (lambda p: p.unlink(), r"circuit_config.json does not exist"),
        (lambda p: p.write_text("{"), r"circuit_config.json is no readable JSON"),
        (lambda p: p.write_text("[]"), r"circuit_config.json holds a JSON list, expected an object"),
        (lambda p: p.write_text("{}"), r"circuit_config.json is no SONATA circuit: it has neither"),
        (
            lambda p: change_json(p, lambda t: t["manifest"].pop("$NETWORK_DIR")),
            r"nodes\[0\].nodes_file is '\$NETWORK_DIR/.* not define '\$NETWORK_DIR'",
        ),
        (
            lambda p: change_json(p, lambda t: t["manifest"].update({"$BASE_DIR": "$NETWORK_DIR"})),
            r"does not define '\$",
        ),
        (lambda p: change_json(p, lambda t: t["networks"].update(nodes=3)), r"networks.nodes must be a list"),
        (lambda p: change_json(p, lambda t: t.update(networks=3)), r"networks is a int, expected an object"),
        (lambda p: change_json(p, lambda t: t.update(manifest=3)), r"manifest is a int"),
        (
            lambda p: change_json(p, lambda t: t.update(run={"dt": "0.1"})),
            r"run.dt is '0.1', expected a number",
        ),
        (
            lambda p: change_json(p, lambda t: t["networks"]["nodes"].append(t["networks"]["nodes"][0])),
            r"node population 'cells' is there a second time",
        ),
        (
            lambda p: change_json(p, lambda t: t["networks"]["edges"].append(t["networks"]["edges"][0])),
            r"edge population 'in' is there a second time",
        ),
    ],
    "network/cells_node_types.csv": [
        (lambda p: p.unlink(), r"cells_node_types.csv does not exist"),
        (lambda p: p.write_text(""), r"cells_node_types.csv is no table of types"),
        (lambda p: p.write_text("a b\n1 2\n"), r"'node_type_id' among them"),
        (lambda p: p.write_text("node_type_id b\n1\n"), r"csv, line 2: 1 values for the 2 columns"),
        (lambda p: p.write_text("node_type_id b\n\none 2\n"), r"csv, line 3: node_type_id is 'one'"),
        (
            lambda p: p.write_text("node_type_id\n1\n1\n"),
            r"csv, line 3: node_type_id 1 is there a second time",
        ),
        (
            lambda p: p.write_text("node_type_id\n2\n"),
            r"/nodes/cells/node_type_id\[0\] is 1, which the table",
        ),
        (lambda p: p.write_bytes(b"\xff\xfe"), r"cells_node_types.csv is no readable table"),
        (lambda p: p.write_text('node_type_id b\n1 "x\n'), r"cells_node_types.csv is no readable table"),
    ],
    "models/cells/cells_1.json": [
        (lambda p: p.unlink(), r"cells_1.json does not exist"),
        (lambda p: p.write_text('{"V_th": NaN}'), r"cells_1.json: V_th is nan"),
    ],
    "network/cells_nodes.h5": [
        (lambda p: p.unlink(), r"cells_nodes.h5 does not exist"),
        (lambda p: change_h5(p, lambda f: f.__delitem__("nodes")), r"cells_nodes.h5: /nodes is missing"),
        (
            lambda p: change_h5(p, lambda f: f.__delitem__("nodes/cells/node_type_id")),
            r"/nodes/cells/node_type_id is missing",
        ),
        (
            lambda p: change_h5(p, lambda f: put(f, "nodes/cells/node_type_id", [1.0, 1.0])),
            r"node_type_id is float64 of shape \(2,\), expected one axis of integers",
        ),
        (
            lambda p: change_h5(p, lambda f: put(f, "nodes/cells/node_type_id", [[1, 1]])),
            r"of shape \(1, 2\)",
        ),
        (
            lambda p: change_h5(p, lambda f: put(f, "nodes/cells/node_id", [1, 0])),
            r"/nodes/cells/node_id\[0\] is 1; NEST and libsonata take",
        ),
        (
            lambda p: change_h5(p, lambda f: put(f, "nodes/cells/node_group_id", [0])),
            r"node_group_id has 1 rows, expected 2",
        ),
        (
            lambda p: change_h5(p, lambda f: put(f, "nodes/cells/node_group_id", [0, 3])),
            r"node_group_id\[1\] is 3, and there is no such group",
        ),
        (
            lambda p: change_h5(p, lambda f: put(f, "nodes/cells/node_group_index", [0, 0])),
            r"node_group_index: the 2 rows of group 0 must hold 0 to 1, each once",
        ),
        (
            lambda p: change_h5(p, lambda f: put(f, "nodes/cells/node_group_index", [0, -1])),
            r"node_group_index\[1\] is -1, expected an integer from 0",
        ),
        (
            lambda p: change_h5(
                p, lambda f: f.create_dataset("nodes/cells/0/dynamics_params/V_th", data=[1.0])
            ),
            r"/0/dynamics_params/V_th has 1 rows, expected 2",
        ),
        (lambda p: change_h5(p, lambda f: f.create_dataset("nodes/x", data=[1.0])), r"/nodes/x is no group"),
    ],
    "network/in_edges.h5": [
        (
            lambda p: change_h5(p, lambda f: put(f, "edges/in/source_node_id", [0, 1, 2])),
            r"in_edges.h5: /edges/in/source_node_id\[2\] is 2; node population 'inputs' has 2 nodes",
        ),
        (
            lambda p: change_h5(p, lambda f: put(f, "edges/in/target_node_id", [0, 1])),
            r"target_node_id has 2 rows, expected 3",
        ),
        (
            lambda p: change_h5(
                p, lambda f: f["edges/in/target_node_id"].attrs.__setitem__("node_population", "V2")
            ),
            r"target_node_id: its attribute node_population is 'V2', .* 'cells' and 'inputs'",
        ),
        (
            lambda p: change_h5(
                p, lambda f: f["edges/in/target_node_id"].attrs.__delitem__("node_population")
            ),
            r"node_population is None",
        ),
        (
            lambda p: change_h5(
                p, lambda f: f["edges/in/target_node_id"].attrs.__setitem__("node_population", "inputs")
            ),
            r"/edges/in: edge 0 ends in node 0, which is virtual",
        ),
        (
            lambda p: change_h5(p, lambda f: f.create_dataset("edges/in/0/syn_weight", data=["a"] * 3)),
            r"/edges/in/0/syn_weight is object of shape \(3,\), expected one axis of numbers",
        ),
        (lambda p: p.write_bytes(p.read_bytes()[:700]), r"in_edges.h5 is no readable HDF5"),
    ],
}


@pytest.mark.parametrize(
    ("file", "k"), [(file, k) for file, cases in DAMAGE.items() for k in range(len(cases))]
)
def test_what_is_damaged_is_named_with_file_and_place(small, tmp_path, file, k):
    small()
    damage, message = DAMAGE[file][k]
    damage(tmp_path / file)
    with pytest.raises(DataError, match=message):
        small()


def test_gap_junctions_are_refused(small, tmp_path):
    small()
    change_json(tmp_path / "circuit_config.json", electrical)
    with pytest.raises(ExportError, match="edge population 'in' are gap junctions"):
        small()


@pytest.mark.parametrize("file", ["cells_nodes.h5", "in_edges.h5"])
def test_a_file_with_changed_bytes_gives_a_network_or_an_error_of_ours(small, tmp_path, file):
    small(own={"syn_weight": [1.0, 2.0, 3.0]})
    path = tmp_path / "network" / file
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    errors = 0
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 12):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            small()
        except SnnkitError:
            errors += 1
    assert errors > 10


def test_texts_of_nodes_are_read_as_they_are_and_by_number(small, tmp_path):
    """Enumerations: numbers that stand for the texts of @library."""
    want = small()
    for number in (False, True):
        with h5py.File(tmp_path / "network/cells_nodes.h5", "r+") as file:
            own = file["nodes/cells/0"]
            if number:
                del own["model_template"]
            own["model_template"] = [1, 1] if number else ["nest:iaf_psc_exp"] * 2
            if number:
                own["@library/model_template"] = ["nest:iaf_psc_exp", "nest:iaf_psc_delta"]
        got = small()
        assert got.populations["cells"].neuron == ("lif" if number else "cuba")
    assert_same_graph(want, got)


def test_without_groups_and_without_tables(small, tmp_path):
    """NEST's own files have no groups of nodes; BlueBrain's no tables of types."""
    want = small(own={"syn_weight": [2.0] * 3, "delay": [1.0] * 3})
    with h5py.File(tmp_path / "network/inputs_nodes.h5", "r+") as file:
        for name in ("node_group_id", "node_group_index", "0", "node_id"):
            del file[f"nodes/inputs/{name}"]
    change_json(
        tmp_path / "circuit_config.json", lambda t: t["networks"]["edges"][0].update(edge_types_file=None)
    )
    assert_same_graph(want, small())


def test_a_graph_that_was_read_is_saved(small, tmp_path):
    graph = small()
    graph.save(tmp_path / "g.h5")
    assert_same_graph(graph, Graph.load(tmp_path / "g.h5"))


def spike_file(path, times, nodes, name="inputs", units="ms", key="node_ids"):
    with h5py.File(path, "w") as file:
        group = file.create_group(f"spikes/{name}" if name else "spikes")
        group["timestamps"] = np.array(times, float)
        if units:
            group["timestamps"].attrs["units"] = units
        group[key] = np.array(nodes, np.int64)


def test_spikes_are_dated_by_the_end_of_their_step(small, tmp_path):
    """NEST emits a train's spike in the step that ends at it, or within which it lies."""
    spike_file(
        tmp_path / "s.h5", [0.3, 0.1, 0.30000000000000004, 0.05, 0.21, 7.0, 0.3], [1, 0, 1, 0, 0, 1, 0]
    )
    graph = small()
    events = sonata.read_spikes(tmp_path / "s.h5", graph, "inputs")
    assert events.times.tolist() == [0, 0, 2, 2, 2, 2, 69]
    assert events.neurons.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert (events.lengths.tolist(), events.size) == ([70], 2)
    cut = sonata.read_spikes(tmp_path / "s.h5", graph, "inputs", steps=3)
    assert (cut.times.tolist(), cut.lengths.tolist()) == ([0, 0, 2, 2, 2, 2], [3])


def test_spike_files_of_one_population_as_older_ones_are(small, tmp_path):
    spike_file(tmp_path / "s.h5", [0.2], [1], name="", units="", key="gids")
    assert sonata.read_spikes(tmp_path / "s.h5", small(), "inputs").times.tolist() == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"times": [0.2, 0.0]}, r"s.h5: /spikes/inputs/timestamps\[1\] is 0.0; a spike comes after 0 ms"),
        ({"times": [np.nan, 1.0]}, r"timestamps\[0\] is nan"),
        ({"nodes": [0, 2]}, r"s.h5: /spikes/inputs/node_ids\[1\] is 2; 'inputs' has 2 nodes"),
        ({"nodes": [0, -2]}, r"/spikes/inputs/node_ids\[1\] is -2"),
        ({"nodes": [0]}, r"timestamps has 2 rows, expected 1"),
        ({"units": "s"}, r"timestamps: units are 's', expected 'ms'"),
        ({"name": "other"}, r"/spikes/inputs is missing; there are 'other'"),
    ],
)
def test_a_damaged_spike_file_is_named_with_its_place(small, tmp_path, content, message):
    spike_file(tmp_path / "s.h5", **({"times": [0.2, 0.3], "nodes": [0, 1]} | content))
    with pytest.raises(DataError, match=message):
        sonata.read_spikes(tmp_path / "s.h5", small(), "inputs")


def test_spikes_without_a_place_in_sonata_are_refused(small, tmp_path):
    graph = small()
    two = EventBatch(np.zeros(0), np.zeros(0), np.zeros(3), np.array([5, 5]), 2)
    with pytest.raises(ParameterError, match="'cells': 2 samples; a SONATA file holds one"):
        sonata.write_spikes(tmp_path / "x.h5", graph, {"cells": two})
    graded = EventBatch(np.zeros(1), np.zeros(1), np.array([0, 1]), np.array([5]), 2, np.array([2.0]))
    with pytest.raises(ExportError, match="'cells': spikes carry values"):
        sonata.write_spikes(tmp_path / "x.h5", graph, {"cells": graded})
    with pytest.raises(
        ParameterError, match="population 'hidden' came from no SONATA file; 'cells' and 'inputs' did"
    ):
        sonata.write_spikes(tmp_path / "x.h5", graph, {"hidden": two[0]})
    plain = Graph({"a": Population("a", "input", (2,))}, [])
    with pytest.raises(ParameterError, match=r"`snnkit.interop.sonata.read` makes such graphs"):
        sonata.read_spikes(tmp_path / "x.h5", plain, "a")
    assert not (tmp_path / "x.h5").exists()
