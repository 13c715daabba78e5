"""What delays cost: nothing at D = 0, and the stated formulas otherwise."""

import numpy as np
import pytest

from snnkit.energy import compare_delays, load_profile, measure, price
from snnkit.energy.delay import KINDS, entry_bits
from snnkit.energy.models.lemaire import access_pj
from snnkit.energy.price import settings_of
from snnkit.errors import ConfigError, ParameterError
from tests.helpers.energy_networks import chain


@pytest.fixture(scope="module")
def delayed():
    return measure(*chain(delay=6))


def total(counts, kind, **settings):
    return price(counts, "lemaire45", delay=kind, **settings).total_pj


@pytest.mark.parametrize("kind", KINDS)
def test_no_delay_costs_nothing_in_any_implementation(kind):
    counts = measure(*chain(delay=0))
    assert counts.synops.sum() > 0
    assert total(counts, kind) == total(counts, "none")


@pytest.mark.parametrize("curve", ["piecewise", "regression", "bank8k"])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_extra_cost_is_the_stated_formula(delayed, kind, curve):
    profile = load_profile("lemaire45").with_settings(memory_curve=curve)

    def a(bits):
        return access_pj(bits, profile.values(), settings_of(profile))

    want = 0.0
    for s in delayed.synapses:
        S, T, N, D = s.synops.mean(), delayed.steps.mean(), s.outputs, s.max_delay
        plain = 2 * S * a(N * 32)
        if kind == "ring":
            want += 2 * (S + T * N) * a(N * (D + 1) * 32) - plain
        elif kind == "accumulators":
            want += 2 * (S + T * N) * a(8192 * 32) - plain
        elif kind == "queue":
            width = int(np.ceil(np.log2(s.inputs))) + D.bit_length()
            want += 2 * (s.delayed + s.waiting).mean() * a(s.peak.max() * width)
        else:
            want += 2 * T * s.inputs * a(s.inputs * (D + 1))

    extra = total(delayed, kind, memory_curve=curve) - total(delayed, "none", memory_curve=curve)

    assert want != 0
    assert extra == pytest.approx(want, rel=1e-9)


def test_longer_delays_cost_more():
    for kind in ("ring", "queue", "source_lines"):
        costs = []
        for longest in (2, 12, 40):
            counts = measure(*chain(delay=longest, steps=60, rate=0.05))
            costs.append(total(counts, kind) - total(counts, "none"))
        assert costs[0] < costs[1] < costs[2], kind


def test_the_comparison_names_the_cheapest(delayed):
    table = compare_delays(delayed)
    assert table["kind"].tolist() == list(KINDS)
    assert table["extra_pj"][0] == 0
    assert not table["cheapest"][0]
    assert table["energy_pj"][table["cheapest"]].tolist() == [table["energy_pj"][1:].min()]
    np.testing.assert_allclose(table["share"], table["extra_pj"] / table["energy_pj"])


def test_capacities_are_those_of_the_memories(delayed):
    table = dict(zip(*(compare_delays(delayed)[c].tolist() for c in ("kind", "capacity_bits")), strict=True))
    sizes = [(20, 16), (16, 5)]
    assert table["ring"] == sum(n * 7 * 32 for _, n in sizes)
    assert table["source_lines"] == sum(n * 7 for n, _ in sizes)
    assert table["accumulators"] == 2 * 8192 * 32
    assert table["queue"] == sum(s.peak.max() * entry_bits(s) for s in delayed.synapses)
    assert table["none"] == 0


def test_more_slots_take_more_accumulators():
    """Loihi gives 8 slots to 1024 compartments; 25 steps need 32 slots, so 300 neurons need two banks."""
    counts = measure(*chain(delay=25, sizes=(4, 300), steps=3, batch=1))
    table = compare_delays(counts)
    assert table["capacity_bits"][KINDS.index("accumulators")] == 2 * 8192 * 32


def test_what_the_delay_model_refuses(delayed):
    with pytest.raises(ParameterError, match="'cmos45' does not price delay memory"):
        compare_delays(delayed, "cmos45")
    with pytest.raises(ConfigError, match="delay = 'rings' is none of none, ring"):
        price(delayed, "lemaire45", delay="rings")
