"""The three-neuron example of docs/energy.md: hand-computed figures, equal to the last digit."""

from pathlib import Path

import numpy as np
import pytest

from snnkit.energy import compare_delays, estimate
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection

PAGE = Path(__file__).parents[2] / "docs" / "energy.md"
FIFO, WORD, RING = 4.8828125, 0.0048828125, 0.009765625
LEMAIRE = {
    "b": 6 * 0.1 + 0.1 + 5 * 3.2 + 4 * FIFO + 3 * WORD + 6 * WORD + 10 * WORD,
    "c": 2 * 0.1 + 0.1 + 5 * 3.2 + 2 * FIFO + WORD + 2 * RING + 10 * RING + 10 * WORD,
}


@pytest.fixture(scope="module")
def example():
    lif = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    graph = Graph(
        {
            "a": Population("a", "input", (1,)),
            "b": Population("b", "lif", (1,), lif),
            "c": Population("c", "lif", (1,), lif),
        },
        [
            Projection("a→b", "a", "b", np.array([[0.8]])),
            Projection("b→c", "b", "c", np.array([[1.5]]), np.array([[1]])),
        ],
        outputs=["c"],
    )
    spikes = np.zeros((5, 1, 1))
    spikes[[0, 1, 3]] = 1
    return estimate(graph, EventBatch.from_dense(spikes), "all")


def test_the_counts_are_those_of_the_table(example):
    counts = example.counts["loihi1_davies2018"]
    first, second = counts.synapses
    a, b, c = counts.neurons
    assert [int(s.spikes[0]) for s in (first, second)] == [3, 1]
    assert [int(s.synops[0]) for s in (first, second)] == [3, 1]
    assert [int(n.spikes[0]) for n in (b, c)] == [1, 1]
    assert [int(n.updates[0]) for n in (a, b, c)] == [0, 5, 5]
    assert [int(n.active[0]) for n in (b, c)] == [4, 1]
    assert [int(n.idle[0]) for n in (b, c)] == [1, 4]
    assert [int(n.messages.sum()) for n in (a, b, c)] == [3, 1, 0]


def test_the_energies_are_those_of_the_hand_to_the_last_digit(example):
    assert f"{example.total_pj['cmos45']:.12g}" == "3.6"
    assert f"{example.total_pj['loihi1_davies2018']:.12g}" == "766.2"
    assert f"{example.prices['loihi1_davies2018'].latency_us[0]:.12g}" == "0.6091"
    by_layer = example.prices["lemaire45"].by("layer")
    for layer, energy in LEMAIRE.items():
        assert f"{by_layer[layer]:.12g}" == f"{energy:.12g}"
    delays = compare_delays(example.counts["lemaire45"])
    assert f"{delays['extra_pj'][1]:.9g}" == f"{12 * RING - 2 * WORD:.9g}" == "0.107421875"


def test_the_page_states_these_figures():
    text = PAGE.read_text()
    figures = [f"{e:.10g}" for e in (*LEMAIRE.values(), sum(LEMAIRE.values()))]
    for figure in (*figures, "766.2 pJ", "3.6 pJ", "0.6091 µs", "0.107421875 pJ"):
        assert figure in text, figure
