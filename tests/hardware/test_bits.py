"""Bits under a budget: within it, and no worse than the same budget spread evenly."""

import numpy as np
import pytest

from snnkit.engine import readout
from snnkit.errors import ParameterError
from snnkit.hardware.bits import _hull, choose_bits
from snnkit.hardware.quantise import quantise
from tests.helpers import networks


@pytest.fixture(scope="module")
def case():
    graph, events = networks.network((21, 24, 7)), networks.spikes(samples=24, rate=0.15)
    return graph, events, readout.scores(graph, events).argmax(1)


@pytest.mark.parametrize("budget", [2.0, 4.5, 8.0])
def test_the_budget_is_kept_and_used(case, budget):
    graph, events, labels = case
    choice = choose_bits(graph, events, labels, budget, choices=(2, 4, 8), calibration=events)
    sizes = {p.name: p.weight.size for p in graph.projections}
    assert choice.size == sum(sizes[n] * b for n, b in choice.bits.items()) <= budget * sum(sizes.values())
    if budget == 2.0:
        assert set(choice.bits.values()) == {2}
    if budget == 8.0:
        assert set(choice.bits.values()) == {8}
    assert all(row[8] == 0 for row in choice.drop.values())
    assert "chosen" in str(choice)


def test_drops_are_those_of_the_layer_alone(case):
    graph, events, labels = case
    choice = choose_bits(graph, events, labels, 4.5, choices=(2, 8), calibration=events)
    full = readout.accuracy(quantise(graph, calibration=events), events, labels)
    for p in graph.projections:
        one = readout.accuracy(quantise(graph, bits={p.name: 2}, calibration=events), events, labels)
        assert choice.drop[p.name][2] == pytest.approx(full - one)
    assert max(row[2] for row in choice.drop.values()) > 0


def test_a_budget_outside_the_choices_is_refused(case):
    with pytest.raises(ParameterError, match=r"budget 1 bits a weight is outside the choices 2\.\.8"):
        choose_bits(*case, 1, choices=(2, 8))


def test_the_pareto_list_is_the_lower_hull():
    """By brute force: a point stays if some price per bit makes it the single best."""
    r = np.random.default_rng(0)
    for _ in range(50):
        loss = {b: float(x) for b, x in zip((2, 3, 4, 6, 8), np.sort(r.random(5))[::-1] ** 2, strict=True)}
        best = {min(loss, key=lambda b, p=p: loss[b] + p * b) for p in np.geomspace(1e-6, 10, 20000)}
        assert {point[2] for point in _hull(loss, 1)} >= best
        assert len(_hull(loss, 1)) <= len(best) + 1
