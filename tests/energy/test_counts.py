"""Counts against a literal reading of their definitions, and against the engine's own tallies."""

import numpy as np
import pytest

from snnkit.energy import Mapping, concatenate, count, measure, measuring
from snnkit.engine import simulate, synapses
from snnkit.errors import ParameterError, ShapeError
from snnkit.events import EventBatch
from snnkit.graph import INPUT, Population
from snnkit.neurons.neuron import resolve
from tests.helpers.energy_networks import chain, events, recurrent


def run(graph, batch):
    """Spikes of every population and all states after each step."""
    states = [
        (name, v)
        for name, p in graph.populations.items()
        if p.neuron != INPUT
        for v in resolve(p.neuron, p.options).state
    ]
    return simulate(graph, batch, record=states, spikes=list(graph.populations))


def spread(graph):
    """Neurons dealt out over cores 0, 5 and 9."""
    return Mapping({n: np.array([0, 5, 9])[np.arange(p.size) % 3] for n, p in graph.populations.items()})


def by_definition(graph, result, mapping):
    """The counts, one spike and one synapse at a time, as a dictionary of [B] lists."""
    found = {}

    def add(key, b, n=1):
        found.setdefault(key, [0] * batch)[b] += n

    batch = len(result.steps)
    lists = {p.name: synapses(graph, p) for p in graph.projections}
    for b in range(batch):
        T = int(result.steps[b])
        arrived = {n: np.zeros((T, p.size), bool) for n, p in graph.populations.items()}
        reached = {}
        for p in graph.projections:
            s = lists[p.name]
            spikes = result.spikes[p.source][b]
            queue = np.zeros(T, int)
            for e, (t, n) in enumerate(zip(spikes.times, spikes.neurons, strict=True)):
                add((p.name, "spikes"), b)
                mine = np.flatnonzero(s.source == n)
                for k in mine:
                    add((p.name, "synops"), b)
                    add((p.name, "synops_effective"), b, int(s.weight[k] != 0))
                    if t + s.delay[k] < T:
                        arrived[p.target][t + s.delay[k], s.target[k]] = True
                    core = mapping.core[p.target][s.target[k]]
                    reached.setdefault((p.source, e, mapping.core[p.source][n]), set()).add(core)
                for d in set(s.delay[mine].tolist()) - {0}:
                    add((p.name, "delayed"), b)
                    add((p.name, "waiting"), b, d)
                    queue[t : t + d] += 1
            found.setdefault((p.name, "peak"), [0] * batch)[b] = int(queue.max(initial=0))
            add((p.name, "synops_dense"), b, T * len(s.source))
        for (source, _, _), cores in reached.items():
            add((source, "messages"), b, len(cores))
        for name, p in graph.populations.items():
            if p.neuron == INPUT:
                continue
            bias = np.broadcast_to(p.bias, p.shape).ravel()
            fired = {
                (t, n)
                for t, n in zip(result.spikes[name][b].times, result.spikes[name][b].neurons, strict=True)
            }
            v = result.recorded[name, "v"][:, b]
            for t in range(T):
                for n in range(p.size):
                    before = v[t - 1, n] if t else 0.0
                    active = arrived[name][t, n] or before != 0 or bias[n] != 0 or (t, n) in fired
                    add((name, "active"), b, int(active))
                    add((name, "idle"), b, int(not active))
    return found


@pytest.mark.parametrize("delays", [True, False], ids=["delays", "no delays"])
def test_every_count_is_what_its_definition_says(delays):
    graph = recurrent(delays)
    result, mapping = run(graph, events(graph)), spread(graph)

    counts = count(graph, result.spikes, result.recorded, mapping=mapping)

    want = by_definition(graph, result, mapping)
    assert sum(want["r", "spikes"]) > 0, "the recurrent layer must spike"
    idle = sum(sum(n) for (_, kind), n in want.items() if kind == "idle")
    assert 0 < idle < sum(n.updates.sum() for n in counts.neurons)
    for part in counts.synapses:
        for name in ("spikes", "synops", "synops_effective", "synops_dense", "delayed", "waiting", "peak"):
            got = getattr(part, name).tolist()
            assert got == want.get((part.name, name), [0] * len(counts)), (part.name, name)
    for part in counts.neurons:
        got = part.messages.sum(0) if len(part.messages) else np.zeros(len(counts))
        assert got.tolist() == want.get((part.name, "messages"), [0] * len(counts)), part.name
        if not part.is_input:
            assert part.active.tolist() == want[part.name, "active"]
            assert part.idle.tolist() == want[part.name, "idle"]


def test_the_engine_tallies_the_same():
    graph = recurrent()
    batch = events(graph)

    counts = measure(graph, batch)

    tallies = simulate(graph, batch).counts
    for part in counts.synapses:
        for name in ("synops", "synops_effective"):
            np.testing.assert_array_equal(getattr(part, name), tallies[name][part.name])
    for part in counts.neurons:
        np.testing.assert_array_equal(part.spikes, tallies["spikes"][part.name])
        if not part.is_input:
            np.testing.assert_array_equal(part.updates, tallies["updates"][part.name])


def test_work_of_the_cores_adds_up_to_the_counts():
    graph = recurrent()
    counts = measure(graph, events(graph), mapping=spread(graph))
    cores, batch = counts.cores, range(len(counts))
    assert cores.cores.tolist() == [0, 5, 9]
    assert cores.neurons.sum() == 18 + 7 + 3
    messages = sum(n.messages.sum(0) for n in counts.neurons)
    for b in batch:
        assert cores.steps("sent", b).sum() == cores.steps("received", b).sum() == messages[b]
        assert cores.steps("active", b).sum() == sum(
            n.active[b] for n in counts.neurons if n.active is not None
        )
        assert cores.steps("spikes", b).sum() == counts.spikes[b]
        synops = sum(w[b].sum() for kind, w in cores.work.items() if kind.startswith("synops/"))
        assert synops == counts.synops[b]


def test_steps_beyond_a_samples_length_do_not_count():
    graph = recurrent()
    x = events(graph).to_dense(12)
    padded = EventBatch.from_dense(x)

    counts = measure(graph, padded, lengths=np.array([12, 7, 0]))

    alone = measure(graph, EventBatch.from_dense(x[:7, 1:2]))
    assert alone.synops[0] > 0
    assert counts.steps.tolist() == [12, 7, 0]
    assert counts.synops[1] == alone.synops[0]
    assert counts.synops[2] == counts.spikes[2] == 0
    assert counts.layer("hidden")[0].active[1] == alone.layer("hidden")[0].active[0]


def test_silent_steps_after_the_input_are_counted():
    graph = recurrent()
    graph.metadata["steps_tail"] = 5
    assert measure(graph, events(graph)).steps.tolist() == [17, 16, 15]


def test_a_spike_with_a_value_is_a_multiplication():
    graph = recurrent()
    batch = events(graph, values=True)
    counts = measure(graph, batch)
    first = counts.synapses[0]
    sample = np.repeat(np.arange(3), np.diff(batch.offsets))
    assert first.spikes_valued.tolist() == np.bincount(sample[batch.values > 1]).tolist()
    assert 0 < first.synops_mac.sum() < first.synops.sum()
    assert counts.synapses[1].synops_mac.sum() == 0


def test_pieces_of_a_batch_give_the_counts_of_the_whole(monkeypatch):
    graph = recurrent()
    batch, mapping = events(graph, batch=5), spread(graph)
    whole = measure(graph, batch, mapping=mapping)

    monkeypatch.setattr(measuring, "RECORD_BYTES", 1)
    piecewise = measure(graph, batch, mapping=mapping)

    for name in ("steps", "synops", "spikes"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(piecewise, name))
    np.testing.assert_array_equal(whole.table()["p95"], piecewise.table()["p95"])
    for kind, work in whole.cores.work.items():
        for a, b in zip(work, piecewise.cores.work[kind], strict=True):
            np.testing.assert_array_equal(a, b)


def test_chosen_samples_keep_their_counts():
    graph = recurrent()
    counts = measure(graph, events(graph), mapping=spread(graph))
    some = counts.select([2, 0, 2])
    assert some.synops.tolist() == counts.synops[[2, 0, 2]].tolist()
    assert concatenate([counts, some]).steps.tolist() == [12, 11, 10, 10, 12, 10]


def test_the_tables_hold_means_and_memory_traffic():
    graph, batch = chain(delay=3)
    counts = measure(graph, batch)
    table = counts.table()
    row = np.flatnonzero((table["part"] == "in→layer1") & (table["quantity"] == "synops"))
    assert table["mean"][row] == counts.synapses[0].synops.mean()
    memory = counts.memory(weight_bits=8, state_bits=16)
    buffer = np.flatnonzero((memory["part"] == "in→layer1") & (memory["memory"] == "delay buffer"))
    assert memory["capacity_bits"][buffer] == 16 * 4 * 16
    assert memory["reads"][buffer] == counts.synapses[0].synops.mean() + 30 * 16
    weights = np.flatnonzero((memory["part"] == "in→layer1") & (memory["memory"] == "weights"))
    assert memory["capacity_bits"][weights] == 20 * 16 * 8


def test_what_counting_refuses():
    graph, batch = chain()
    result = run(graph, batch)
    with pytest.raises(ParameterError, match=r"\['layer2'\] are missing"):
        count(graph, {k: v for k, v in result.spikes.items() if k != "layer2"})
    with pytest.raises(ParameterError, match="none of population 'layer2'"):
        count(graph, result.spikes, {("layer1", "v"): result.recorded["layer1", "v"]})
    with pytest.raises(ShapeError, match="lengths has shape"):
        count(graph, result.spikes, lengths=np.array([3]))
    place = {n: np.zeros(p.size, int) for n, p in graph.populations.items()}
    with pytest.raises(ShapeError, match="3 cores for 16 neurons of 'layer1'"):
        count(graph, result.spikes, mapping=Mapping({**place, "layer1": np.zeros(3, int)}))
    with pytest.raises(ParameterError, match="neuron 2 of 'layer1' off the chip"):
        count(graph, result.spikes, mapping=Mapping({**place, "layer1": np.array([0, 1, -1] + [0] * 13)}))
    with pytest.raises(ParameterError, match="no population 'layer2'"):
        count(graph, result.spikes, mapping=Mapping({k: v for k, v in place.items() if k != "layer2"}))
    with pytest.raises(ParameterError, match="no samples"):
        measure(graph, EventBatch.from_dense(np.zeros((4, 0, 20))))


def test_decays_and_biases_of_every_kind_of_neuron_are_found():
    def one(neuron, options=None, bias=0.0, **params):
        graph, batch = chain(sizes=(20, 3))
        new = Population("layer1", neuron, (3,), params, np.array(bias), options or {})
        graph.populations["layer1"] = new
        return measure(graph, batch).layer("layer1")[0]

    lif = {"gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    assert one("lif", decay=0.9, **lif).leak_macs == 1
    assert one("lif", decay=1.0, **lif).leak_macs == 0
    assert one("if", decay=1.0, **lif).leak_macs == 0
    waiting = one("lif", {"refractory": True}, decay=0.9, refractory=2, **lif)
    assert (waiting.states, waiting.leak_macs) == (2, 1)
    cuba = one("cuba", decay_syn=0.8, decay_mem=0.9, v_th=1.0, v_reset=0.0)
    assert (cuba.states, cuba.leak_macs) == (2, 2)
    biased = one("lif", bias=[0.1, 0.0, 0.2], decay=0.9, **lif)
    assert (biased.biased, biased.biases) == (2, 3)


def test_a_chips_integer_neuron_is_counted_like_any_other():
    graph, batch = chain(sizes=(20, 6))
    params = {"du": 4095, "dv": 256, "vth": 10, "bias": np.array([0, 0, 0, 0, 0, 5])}
    graph.populations["layer1"] = Population("layer1", "loihi", (6,), params)
    graph.projections[0].weight = np.rint(graph.projections[0].weight * 64).astype(np.int32)
    counts = measure(graph, batch)
    layer = counts.layer("layer1")[0]
    assert (layer.states, layer.leak_macs, layer.biased) == (2, 2, 1)
    assert counts.synops[0] == np.diff(batch.offsets)[0] * 6
    silent = measure(graph, EventBatch([], [], [0, 0], [30], 20)).layer("layer1")[0]
    assert silent.active.tolist() == [30], "the neuron with a bias, in every step"


def test_a_neuron_is_active_as_long_as_its_step_begins_with_a_state():
    """Without memory: active when the input comes and in the step after, which still finds v ≠ 0."""
    graph, _ = chain(sizes=(1, 1))
    graph.populations["layer1"].params["decay"] = np.array(0.0)
    graph.projections[0].weight = np.array([[0.5]])
    x = np.zeros((10, 1, 1), np.float32)
    x[[2, 6, 7]] = 1
    layer = measure(graph, EventBatch.from_dense(x)).layer("layer1")[0]
    assert (layer.active.tolist(), layer.idle.tolist()) == ([5], [5])
