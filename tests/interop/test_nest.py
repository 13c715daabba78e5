"""Networks built in NEST spike as in our engine, to the step.

NEST runs in the peers' environment (`make bench-engine` makes it), or in this one where it is there.
"""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from snnkit.engine import Poisson, simulate
from snnkit.errors import ExportError, MissingExtraError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.interop import nest
from snnkit.neurons.neuron import NEURONS, Neuron
from tests.helpers.peers import nest_python

ROOT = Path(__file__).parents[2]


def in_nest(tmp_path, graph, batch=None, poisson_hz=None, **arguments):
    """`nest.simulate` in a process that has NEST; (spikes as {name: (times, neurons, offsets)}, v)."""
    python = nest_python()
    graph.save(tmp_path / "graph.h5")
    if batch is not None:
        np.savez(tmp_path / "in.npz", **{k: v for k, v in vars(batch).items() if v is not None})
    code = f"""
import json, sys
import numpy as np
from snnkit.engine import Poisson
from snnkit.events import EventBatch
from snnkit.graph import Graph
from snnkit.interop import nest
arguments = json.loads(sys.argv[1])
folder = {str(tmp_path)!r}
if arguments["poisson_hz"] is None:
    file = dict(np.load(folder + "/in.npz"))
    events = EventBatch(**file | {{"size": int(file["size"])}})
else:
    events = Poisson(arguments["poisson_hz"])
result = nest.simulate(Graph.load(folder + "/graph.h5"), events, **arguments["more"])
out = {{}}
for name, s in result.spikes.items():
    out |= {{f"times {{name}}": s.times, f"neurons {{name}}": s.neurons, f"offsets {{name}}": s.offsets}}
for (name, variable), rows in result.recorded.items():
    out[f"{{variable}} {{name}}"] = rows
for name, count in result.counts["synops"].items():
    out[f"synops {{name}}"] = count
np.savez(folder + "/out.npz", **out)
"""
    text = json.dumps({"poisson_hz": poisson_hz, "more": arguments})
    done = subprocess.run(
        [python, "-c", code, text],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "out.npz") as file:
        return dict(file)


LIF = {"decay": np.exp(-1 / 7), "gain": 0.9, "v_th": 1.0, "v_reset": -0.2, "v_rest": 0.05}
CUBA = {"decay_syn": np.exp(-1 / 4), "decay_mem": np.exp(-1 / 11), "v_th": 1.0, "v_reset": 0.0}


def recurrent(neuron, params, options=None, bias=0.02, seed=0, least=1):
    """input → a ↺ → out, with a delay for each synapse; weights that leave nothing on the threshold."""
    rng = np.random.default_rng(seed)
    sparse = rng.random((12, 9)) < 0.5
    o, i = np.nonzero(sparse.T)[::-1]
    out = {"decay": 0.9, "gain": 0.1}
    links = [
        Projection("in→a", "in", "a", rng.normal(0.3, 0.5, (12, 8)), rng.integers(0, 5, (12, 8))),
        Projection("a→a", "a", "a", rng.normal(0, 0.3, (12, 12)), rng.integers(least, 9, (12, 12))),
        Projection(
            "a→b", "a", "b", rng.normal(0.5, 0.5, len(o)), rng.integers(0, 4, len(o)), "sparse",
            np.concatenate([[0], np.cumsum(np.bincount(o, minlength=12))]), i,
        ),
        Projection("b→out", "b", "out", rng.normal(0, 1, 9), np.int64(0), "one_to_one"),
    ]  # fmt: skip
    populations = [
        Population("in", "input", (8,)),
        Population("a", neuron, (12,), params, np.float64(bias), options or {}),
        Population("b", "lif", (9,), LIF, initial={"v": np.float64(0.4)}),
        Population("out", "li", (9,), out, rng.normal(0, 0.1, 9)),
    ]
    return Graph({p.name: p for p in populations}, links, dt=0.5)


def counts(seed, lengths=(60, 41)):
    rng = np.random.default_rng(seed)
    x = rng.poisson(0.2, (max(lengths), len(lengths), 8)).astype(float)
    return EventBatch.from_dense(x, np.array(lengths))


@pytest.mark.parametrize(
    ("neuron", "params", "options", "bias", "least"),
    [
        ("lif", LIF, {}, 0.02, 1),
        ("lif", LIF | {"refractory": 3}, {"refractory": True}, 0.02, 1),
        ("if", LIF | {"decay": 1.0}, {}, 0.0, 1),
        ("cuba", CUBA, {}, 0.0, 2),
        ("cuba", CUBA | {"refractory": 2}, {"refractory": True}, 0.0, 2),
    ],
    ids=["lif", "refractory", "if", "cuba", "cuba-refractory"],
)
def test_nest_gives_the_same_spikes_and_potentials(tmp_path, neuron, params, options, bias, least):
    graph = recurrent(neuron, params, options, bias, least=least)
    batch = counts(1)
    want = simulate(graph, batch, record=["v"], dtype="float64")
    got = in_nest(tmp_path, graph, batch, record=["v"], threads=2)
    for name, spikes in want.spikes.items():
        np.testing.assert_array_equal(got[f"times {name}"], spikes.times)
        np.testing.assert_array_equal(got[f"neurons {name}"], spikes.neurons)
        np.testing.assert_array_equal(got[f"offsets {name}"], spikes.offsets)
    assert min(want.counts["spikes"][n].min() for n in "ab") > 20
    for name in ("a", "b", "out"):
        np.testing.assert_allclose(got[f"v {name}"], want.recorded[name, "v"], atol=1e-12)
    for name in ("a→a", "a→b"):
        np.testing.assert_array_equal(got[f"synops {name}"], want.counts["synops"][name])


@pytest.mark.slow
def test_a_network_trained_on_spoken_digits_spikes_the_same_in_nest(tmp_path, recordings, monkeypatch):
    nest_python()
    monkeypatch.setenv("SNNKIT_DATA", str(recordings))
    from snnkit.training import Trainer, lower
    from snnkit.training.config import parse_config
    from snnkit.training.run import load_data

    model = {"hidden": [32, 32], "max_delay": 24, "tau_mem": 10.05}
    config = parse_config(
        {"data": {"name": "spoken_digits", "held_out": "jackson"}, "model": model, "train": {"epochs": 2}}
    )
    data = load_data(config)
    graph = lower(Trainer(config, data, tmp_path, progress=False).fit())
    clips = data.test.subset(np.arange(3)).events
    steps = int(clips.lengths.max()) + graph.metadata["steps_tail"]
    found = in_nest(tmp_path, graph, clips, steps=steps)
    want = simulate(graph, clips, steps=steps, dtype="float64")
    for name in ("hidden0", "hidden1"):
        assert len(want.spikes[name].times) > 500
        for what in ("times", "neurons", "offsets"):
            np.testing.assert_array_equal(getattr(want.spikes[name], what), found[f"{what} {name}"])


def test_nest_draws_poisson_input_of_the_same_rate(tmp_path):
    """Two synapses from one input neuron get the same train; the rate is that of the engine."""
    n, rate = 200, 400.0
    weight = np.concatenate([np.eye(n), np.eye(n)]) * 2.0
    graph = Graph(
        {
            "in": Population("in", "input", (n,)),
            "a": Population("a", "lif", (2 * n,), LIF | {"decay": 0.5}),
        },
        [Projection("w", "in", "a", weight, np.int64(0))],
        dt=0.1,
    )
    got = in_nest(tmp_path, graph, poisson_hz=rate, steps=2000)
    dense = np.zeros((2000, 2 * n))
    dense[got["times a"], got["neurons a"]] = 1
    np.testing.assert_array_equal(dense[:, :n], dense[:, n:])
    ours = simulate(graph, Poisson(rate), 2000).counts["spikes"]["a"][0]
    assert dense.sum() == pytest.approx(ours, abs=4 * np.sqrt(2 * 2 * ours))


def test_late_populations_make_up_for_delays_below_one_step():
    graph = recurrent("lif", LIF)
    assert nest.lateness(graph) == {"in": 0, "a": 1, "b": 2, "out": 3}
    for p in graph.projections:
        p.delay = p.delays + 1
    assert set(nest.lateness(graph).values()) == {0}


def test_a_loop_that_is_too_short_is_refused():
    graph = recurrent("lif", LIF)
    graph.projections.append(Projection("b→a", "b", "a", np.ones((12, 9)), np.int64(1)))
    with pytest.raises(ExportError, match=r"loop whose delays are too short.*'a→b', 'b→out', 'b→a'"):
        nest.lateness(graph)


@pytest.mark.parametrize(
    ("neuron", "params", "options", "message"),
    [
        ("lif", LIF, {"reset": "soft"}, "reset hard, not 'soft'"),
        ("lif", LIF, {"strict": True}, "option strict = True; NEST's models spike once"),
        ("lif", LIF, {"max_spikes": None}, "option max_spikes = None"),
        ("lif", LIF | {"decay": 0.0}, {}, "decay must lie in"),
        ("if", LIF | {"decay": 1.0}, {}, "vanishes where decay is 1"),
        ("loihi", {}, {}, "neuron 'loihi' has no NEST model here"),
    ],
)
def test_what_nest_does_not_have_is_refused(neuron, params, options, message):
    with pytest.raises(ExportError, match=message):
        nest.lateness(recurrent(neuron, params, options))


def test_without_nest_the_message_says_what_to_install():
    if importlib.util.find_spec("nest") is not None:
        pytest.skip("NEST is installed here")
    with pytest.raises(MissingExtraError, match=r"snnkit\[nest\]"):
        nest.simulate(recurrent("lif", LIF), counts(0))


def test_arguments_are_checked():
    nest_python()
    if importlib.util.find_spec("nest") is not None:
        with pytest.raises(ParameterError, match="'v' can be recorded"):
            nest.simulate(recurrent("lif", LIF), counts(0), record=["i"])


def fading(v, x, leak, v_th, v_reset):
    h = (1 - leak) * v + x
    return h >= v_th, h, (h < v_th) * h + (v_th <= h) * v_reset


def test_a_neuron_from_outside_gets_its_model_by_one_row(monkeypatch):
    def model(population, dt):
        params = nest.membrane(population, dt, 1 - population.param("leak"))
        return nest.Model("iaf_psc_delta", params, np.ones(population.size))

    names = ("leak", "v_th", "v_reset")
    monkeypatch.setitem(NEURONS, "fading", lambda: Neuron("fading", names, ("v",), fading))
    graph = recurrent("fading", {"leak": 0.25, "v_th": 1.0, "v_reset": 0.0})
    with pytest.raises(ExportError, match="'fading' has no NEST model here; lif, if, li and cuba have"):
        nest.lateness(graph)
    monkeypatch.setitem(nest.MODELS, "fading", model)
    assert nest.lateness(graph) == {"in": 0, "a": 1, "b": 2, "out": 3}
    made = nest._model(graph.populations["a"], 2.0)
    np.testing.assert_allclose(made.params["tau_m"], -2.0 / np.log(0.75))
