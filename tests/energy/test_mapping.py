"""Placement: nothing lost, no limit passed, fewer cores than layer-by-layer filling."""

from dataclasses import replace

import numpy as np
import pytest

from snnkit.chips import CHIPS, LOIHI1, LOIHI2, Chip
from snnkit.energy import place
from snnkit.energy.mapping import LIMITS, OFF_CHIP
from snnkit.errors import ExportError, ParameterError
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.hardware.quantise import quantise
from tests.helpers import networks

SMALL = replace(LOIHI2, neurons=40, memory_bits=120_000, input_axons=250, output_axons=150)


@pytest.mark.parametrize("strategy", ["packed", "layered"])
@pytest.mark.parametrize("chip", [LOIHI1, LOIHI2, SMALL], ids=lambda c: f"{c.name}-{c.neurons}")
def test_every_neuron_has_one_core_and_no_core_passes_a_limit(chip, strategy):
    graph = networks.network((21, 90, 61, 7), recurrent=True)
    mapping = place(graph, chip, strategy)
    assert (mapping.core["input"] == OFF_CHIP).all()
    held = np.zeros(mapping.cores, int)
    for name, p in graph.populations.items():
        if p.neuron != INPUT:
            assert mapping.core[name].min() >= 0
            held += np.bincount(mapping.core[name], minlength=mapping.cores)
    assert held.tolist() == [use.neurons for use in mapping.uses]
    assert held.sum() == 90 + 61 + 7
    for use in mapping.uses:
        assert all(getattr(use, limit) <= getattr(chip, limit) for limit in LIMITS)
    assert sum(use.synapses for use in mapping.uses) == sum(p.weight.size for p in graph.projections)


def test_axons_are_counted_as_defined():
    """Independent count: sources heard by a core, and (neuron, core) pairs sent to."""
    graph = networks.network((21, 90, 61, 7))
    mapping = place(graph, SMALL)
    heard, sent = [set() for _ in mapping.uses], [0] * mapping.cores
    for p in graph.projections:
        for i in range(p.weight.shape[1]):
            targets = set(mapping.core[p.target][p.weight[:, i] != 0].tolist())
            for core in targets:
                heard[core].add((p.source, i))
            if p.source != "input":
                sent[mapping.core[p.source][i]] += len(targets)
    assert [len(h) for h in heard] == [use.input_axons for use in mapping.uses]
    assert sent == [use.output_axons for use in mapping.uses]


def test_packing_beats_filling_layer_by_layer():
    narrow = networks.network((20, *[30] * 8, 10))
    assert place(narrow, LOIHI2, "layered").cores == 9
    assert place(narrow, LOIHI2).cores == 1


def test_neurons_that_hear_the_same_sources_are_brought_together():
    """A local network whose neurons are numbered at random."""
    r = np.random.default_rng(0)
    n, reach = 2000, 10
    number = r.permutation(n)
    target = number[(np.arange(n)[:, None] + np.arange(-reach, reach + 1)) % n].reshape(-1)
    indptr = np.arange(n + 1) * (2 * reach + 1)
    graph = Graph({"in": Population("in", INPUT, n), "n": networks.lif("n", n)}, [])
    graph.projections.append(
        Projection("p", "in", "n", np.ones(len(target)), kind="sparse", indptr=indptr, indices=target)
    )
    chip = replace(LOIHI2, input_axons=256)
    naive, packed = place(graph, chip, "layered"), place(graph, chip)
    assert naive.binding == "input_axons"
    assert packed.cores * 5 < naive.cores


def test_weight_bits_and_delays_take_memory():
    graph, events = networks.network(bias=0.0), networks.spikes()
    bits = {b: place(quantise(graph, bits=b, calibration=events)).uses[0].synapse_bits for b in (4, 8)}
    assert bits[4] < 0.8 * bits[8]
    short = replace(graph, projections=[replace(p, delay=np.array(0)) for p in graph.projections])
    assert place(short).uses[0].delay_bits * 20 < place(graph).uses[0].delay_bits


def test_a_shared_kernel_is_held_once():
    graph = Graph({"in": Population("in", INPUT, (2, 16, 16)), "c": networks.lif("c", (4, 14, 14))}, [])
    graph.projections.append(Projection("p", "in", "c", np.ones((4, 2, 3, 3)), kind="conv"))
    [use] = place(graph).uses
    assert use.synapse_bits == 4 * 2 * 9 * 8
    assert use.synapses == 4 * 2 * 9 * 14 * 14


def test_a_neuron_too_large_for_a_core_is_named():
    graph = networks.network((21, 34, 7))
    with pytest.raises(ExportError, match=r"population 'hidden0', neuron 0: needs input_axons = 21.*has 20"):
        place(graph, replace(LOIHI2, input_axons=20))
    graph.projections[0].delay = np.array(100)
    with pytest.raises(ExportError, match=r"'input→hidden0': delay 99 is beyond Loihi 2's 62"):
        place(graph)


def test_the_report_says_what_binds_and_what_to_change():
    mapping = place(networks.network((21, 90, 61, 7)), SMALL)
    text = str(mapping)
    assert f"{mapping.cores} cores of 128 on 1 chip" in text
    assert mapping.binding in mapping.advice
    assert "unverified" in mapping.advice
    assert "No core is full" in str(place(networks.network()))


def test_positions_run_down_the_columns():
    mapping = place(networks.network((21, 200, 200, 7)), replace(SMALL, memory_bits=30_000))
    assert mapping.cores > 4 * 4
    for core in range(mapping.cores):
        chip, x, y = mapping.position(core)
        assert (chip, x, y) == (core // 128, core // 4 % 32 // 4, core // 4 % 4)
    assert mapping.hops(0, 3) == 0
    assert mapping.hops(0, 4) == 1
    assert mapping.hops(0, 16) == 1
    assert mapping.hops(16, 4) == 2


def test_several_chips_are_counted():
    chip = replace(LOIHI2, cores=2, cores_per_tile=1, mesh=(2, 1), neurons=20)
    mapping = place(networks.network((21, 90, 61, 7)), chip)
    assert mapping.chips == -(-mapping.cores // 2) > 1
    assert mapping.position(3) == (1, 1, 0)
    assert mapping.hops(0, 3) == 3


def test_the_picture_is_written(tmp_path):
    place(networks.network((21, 90, 61, 7)), SMALL).draw(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_profiles_reject_nonsense():
    assert CHIPS["loihi2"] is LOIHI2
    with pytest.raises(ParameterError, match="neurons is 0"):
        replace(LOIHI2, neurons=0)
    with pytest.raises(ParameterError, match="has not 128 cores"):
        replace(LOIHI2, mesh=(3, 3))
    with pytest.raises(ParameterError, match="'speed' is unknown"):
        replace(LOIHI2, unverified=("speed",))
    assert all(hasattr(LOIHI2, name) for name in LOIHI2.unverified)
    assert isinstance(LOIHI1, Chip)
    with pytest.raises(ParameterError, match="strategy 'best'"):
        place(networks.network(), strategy="best")
