"""What a run refuses, and the words it does so with."""

import numpy as np
import pytest

from snnkit.engine import Engine, Poisson, simulate
from snnkit.errors import BackendError, DataError, GraphError, ParameterError, TooLargeError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from tests.helpers.engine_graphs import NEURONS, events, integer_graph, random_graph


def chain(weight=1.0, delay=0, neuron="lif", size=3):
    return Graph(
        {"in": Population("in", "input", (size,)), "a": Population("a", neuron, (size,), NEURONS["lif"])},
        [Projection("w", "in", "a", np.full(size, weight), np.int64(delay), "one_to_one")],
    )


def one(t, n, size=3, steps=10, **more):
    return EventBatch([t], [n], [0, 1], [steps], size, **more)


def test_a_loop_without_delay():
    graph = chain()
    graph.projections.append(Projection("r", "a", "a", np.eye(3), np.int64(0)))
    with pytest.raises(GraphError, match="loop of projections with delay 0"):
        simulate(graph, one(0, 0))


def test_an_unknown_neuron():
    with pytest.raises(ParameterError, match="unknown neuron 'liff'; known are"):
        simulate(chain(neuron="liff"), one(0, 0))


@pytest.mark.parametrize(
    ("t", "n", "message"),
    [(10, 0, "step 10, neuron 0.*outside its sample"), (-1, 0, "outside"), (0, 3, "outside 0..2")],
)
def test_an_event_out_of_range(t, n, message):
    with pytest.raises(DataError, match=message):
        simulate(chain(), one(t, n))
    with pytest.raises(DataError, match=message):
        Engine(chain()).push(one(t, n))


def test_an_event_out_of_order():
    late = EventBatch([5, 4], [0, 0], [0, 2], [10], 3)
    with pytest.raises(DataError, match=r"event 1 of sample 0 .* is earlier"):
        simulate(chain(), late)
    engine = Engine(chain())
    engine.push(one(6, 1))
    with pytest.raises(DataError, match="a spike of step 5, but step 6 was pushed before"):
        engine.push(one(5, 0))
    engine.advance(8)
    with pytest.raises(DataError, match="a spike of step 7, but step 8 is reached already"):
        engine.push(one(7, 0))
    with pytest.raises(ParameterError, match="advance to step 3, but step 8 is reached"):
        engine.advance(3)


def test_an_event_that_carries_no_number():
    with pytest.raises(DataError, match=r"event 0 (carries|is) nan"):
        simulate(chain(), one(0, 0, values=np.array([np.nan])))


def test_a_weight_that_is_no_number():
    graph = chain()
    graph.projections[0].weight[1] = np.nan
    with pytest.raises(GraphError, match=r"projection 'w' .* weight is nan at \[1\]"):
        simulate(graph, one(0, 0))


def test_a_delay_longer_than_the_ring():
    with pytest.raises(GraphError, match="delay 9 is longer than the ring of max_delay = 8"):
        Engine(chain(delay=9), max_delay=8)
    Engine(chain(delay=8), max_delay=8)


def test_too_large_for_memory_is_said_with_the_bytes_before_anything_is_allocated(monkeypatch):
    graph = random_graph(0)
    needed = Engine(graph).plan.bytes
    with pytest.raises(TooLargeError, match=f"needs {needed:,} bytes .* and {needed - 1:,} are to be had"):
        simulate(graph, one(0, 0, 5), memory_limit=needed - 1)
    simulate(graph, one(0, 0, 5), memory_limit=needed)
    four = events(np.random.default_rng(0), 5, [3] * 4)
    with pytest.raises(TooLargeError):  # two threads have states and rings of their own
        simulate(graph, four, memory_limit=needed, threads=2)
    simulate(graph, four, memory_limit=needed, threads=1)

    monkeypatch.setattr("snnkit.engine.plan._pack", lambda *_: pytest.fail("packed before it was checked"))
    size = 1 << 40  # a broadcast view: the weights themselves take no memory
    giant = Graph(
        {"in": Population("in", "input", (size,)), "a": Population("a", "lif", (size,), NEURONS["lif"])}, []
    )
    with pytest.raises(TooLargeError, match="bytes"):
        simulate(giant, one(0, 0, size))


def test_the_estimate_is_what_is_allocated():
    """Within a tenth, on a network of 300,000 synapses."""
    rng = np.random.default_rng(0)
    n, fan = 600, 500
    graph = Graph(
        {"in": Population("in", "input", (n,)), "a": Population("a", "lif", (n,), NEURONS["lif"])},
        [
            Projection(
                "s", "in", "a", rng.random(n * fan), rng.integers(0, 20, n * fan), "sparse",
                np.arange(n + 1) * fan, rng.integers(0, n, n * fan),
            )
        ],
    )  # fmt: skip
    engine = Engine(graph)
    run = engine.core.running["a"]
    arrays = [a for lane in engine.plan.lanes for a in lane.arrays] + engine.core.rings
    arrays += [*run.state, run.x, run.raw_times, run.times, run.raw_neurons, run.neurons, *run.unit.params]
    assert sum(a.nbytes for a in arrays) == pytest.approx(engine.plan.bytes, rel=0.1)
    packed = sum(a.nbytes for a in engine.plan.lanes[0].arrays)
    assert packed / (n * fan) <= 12


def test_inputs_must_be_those_of_the_graph():
    with pytest.raises(ParameterError, match=r"events for 'out', which is no input.*\['in'\]"):
        simulate(chain(), {"out": one(0, 0)})
    with pytest.raises(DataError, match="events of 4 neurons for input 'in' of 3"):
        simulate(chain(), one(0, 0, 4))
    with pytest.raises(ParameterError, match="are a list; give an EventBatch"):
        simulate(chain(), {"in": [1, 2]})
    with pytest.raises(ParameterError, match="say how many steps"):
        simulate(chain(), Poisson(10.0))
    two = chain()
    two.populations["other"] = Population("other", "input", (3,))
    with pytest.raises(ParameterError, match="the graph has 2 inputs"):
        simulate(two, one(0, 0))
    three = events(np.random.default_rng(0), 3, [5, 5, 5])
    with pytest.raises(DataError, match=r"different numbers of samples: \[2, 3\]"):
        simulate(two, {"in": three, "other": events(np.random.default_rng(0), 3, [5, 5])})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("w", "no population has a variable 'w'"),
        ([("b", "v")], "there is no population 'b'"),
        ([("a", "i")], "population 'a' has no variable 'i'; it has v, h, x, rate"),
        ([("in", "v")], "population 'in' has no variable 'v'; it has rate"),
        ([("a", "v", [3])], "must lie in 0..2"),
        ([("a", "v", None, 0)], "at least 1 step"),
    ],
)
def test_only_what_is_there_can_be_recorded(record, message):
    with pytest.raises(ParameterError, match=message):
        simulate(chain(), one(0, 0), record=record)


def test_arithmetic_must_suit_the_neurons():
    with pytest.raises(GraphError, match="needs floating-point arithmetic"):
        simulate(chain(), one(0, 0), dtype="int32")
    graph = integer_graph(np.random.default_rng(0))
    spikes = one(0, 0, 6)
    with pytest.raises(GraphError, match="needs integer arithmetic"):
        simulate(graph, spikes, dtype="float32")
    with pytest.raises(ParameterError, match="dtype must be"):
        simulate(graph, spikes, dtype="int8")
    with pytest.raises(DataError, match="integer values only"):
        simulate(graph, one(0, 0, 6, values=np.array([0.5])))
    graph.projections[0].weight = graph.projections[0].weight + 0.5
    with pytest.raises(GraphError, match="weights must be integers"):
        simulate(graph, spikes)
    graph.projections[0].weight = np.full(graph.projections[0].weight.shape, 1 << 31)
    with pytest.raises(GraphError, match="does not fit 32 bits"):
        simulate(graph, spikes)
    shifted = chain()
    shifted.projections[0].options["shift"] = 2
    with pytest.raises(GraphError, match="'shift' belongs to integer networks"):
        simulate(shifted, one(0, 0))
    mixed = integer_graph(np.random.default_rng(0))
    mixed.populations["c"] = Population("c", "lif", (2,), NEURONS["lif"])
    with pytest.raises(GraphError, match="mixes integer and real"):
        simulate(mixed, spikes)


def test_parameters_of_a_population_must_be_there():
    graph = chain()
    del graph.populations["a"].params["v_th"]
    with pytest.raises(GraphError, match=r"'lif' needs the parameters .*; v_th not given"):
        simulate(graph, one(0, 0))
    graph = chain()
    graph.populations["a"].initial = {"u": np.zeros(3)}
    with pytest.raises(GraphError, match="initial value for 'u', but the state of neuron 'lif' is v"):
        simulate(graph, one(0, 0))


def test_a_stream_takes_one_sample_and_no_push_where_a_generator_feeds():
    with pytest.raises(ParameterError, match="one sample"):
        Engine(chain()).push(events(np.random.default_rng(0), 3, [5, 5]))
    with pytest.raises(ParameterError, match="fed by a generator"):
        Engine(chain(), generators={"in": Poisson(1.0)}).push(one(0, 0))


@pytest.mark.parametrize("arguments", [{"threads": 0}, {"steps": -1}, {"spikes": ["b"]}, {"backend": "gpu"}])
def test_arguments_out_of_range(arguments):
    with pytest.raises((ParameterError, BackendError)):
        simulate(chain(), one(0, 0), **arguments)
