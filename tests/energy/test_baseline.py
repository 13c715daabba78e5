"""Dense networks of equal size, and the rate where a spiking one meets them."""

import numpy as np
import pytest

from snnkit.energy import compare_dense, count, crossover, estimate, measure, price
from snnkit.energy.baseline import BREAK_EVENS, dense_pj, equivalent_bits
from snnkit.errors import ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from tests.helpers.energy_networks import chain


@pytest.mark.parametrize(
    ("steps", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 3), (7, 3), (8, 4), (100, 7)]
)
def test_bits_that_match_so_many_steps(steps, bits):
    assert equivalent_bits(steps) == bits


@pytest.mark.parametrize("profile", ["cmos45", "lemaire45", "yan22"])
@pytest.mark.parametrize("passes", ["once", "every step"])
def test_at_the_crossover_both_cost_the_same(profile, passes):
    counts = measure(*chain(steps=10))
    cross = crossover(counts, profile, 32, passes)
    assert cross.rate > 0
    assert cross.energy_pj([cross.rate])[0] == pytest.approx(cross.dense_pj, rel=1e-9)
    assert cross.energy_pj([cross.measured])[0] == pytest.approx(price(counts, profile).total_pj, rel=1e-9)
    assert cross.spiking_wins == (cross.measured < cross.rate)


def test_the_crossover_of_bare_arithmetic_is_the_ratio_of_mac_to_ac():
    """Without neurons' costs: rate · T · 0.9 = 4.6, once; rate · 0.9 = 4.6, every step."""
    counts = measure(*chain(sizes=(20, 16)))
    assert crossover(counts, "cmos45", 32, "once").rate == pytest.approx(4.6 / 0.9 / 30)
    assert crossover(counts, "cmos45", 32, "every step").rate == pytest.approx(4.6 / 0.9)


def test_the_published_break_even_of_reconsidering_snn():
    """arXiv 2409.08290 v4: T = 5, below 5.7 % (VGG16). Its formulas were not read; within a factor 1.5."""
    rng = np.random.default_rng(0)
    graph = Graph(
        {
            "in": Population("in", "input", (16, 6, 6)),
            "out": Population(
                "out",
                "lif",
                (16, 6, 6),
                {"decay": 1.0, "gain": 1.0, "v_th": 1e9, "v_reset": 0.0, "v_rest": 0.0},
            ),
        },
        [Projection("p", "in", "out", rng.normal(size=(16, 16, 3, 3)), kind="conv", options={"padding": 1})],
    ).validate()
    x = (rng.random((5, 1, 16 * 36)) < 0.1).astype(np.float32)
    cross = crossover(measure(graph, EventBatch.from_dense(x)), "yan22", equivalent_bits(5), "once")
    assert 0.057 / 1.5 < cross.rate < 0.057 * 1.5


def test_a_dense_pass_costs_what_spikingjelly_says_of_the_ann():
    pytest.importorskip("spikingjelly")
    import torch
    from spikingjelly.activation_based import op_counter

    net = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Linear(16, 5, bias=False))
    graph, _ = chain()
    graph.populations["layer1"].bias = net[0].bias.detach().numpy()
    spikes = {n: EventBatch([], [], [0, 0], [30], p.size) for n, p in graph.populations.items()}

    got = dense_pj(count(graph, spikes), "lemaire45", 32)[1]

    want = op_counter.estimate_lemaire_energy(net, torch.rand(1, 20))
    assert got == pytest.approx(want.total_pj, rel=1e-9)


def test_without_spikes_the_crossover_is_not_known():
    counts = measure(*chain(rate=0.0))
    cross = crossover(counts, "lemaire45")
    assert cross.rate is None
    assert cross.measured == 0
    table = compare_dense(counts)
    assert np.isnan(table["crossover_rate"]).all()
    assert np.isfinite(table["energy_pj"]).all()


def test_a_fixed_part_above_the_dense_network_never_pays():
    counts = measure(*chain(rate=0.02, steps=200))
    assert crossover(counts, "lemaire45", 4, "once").rate == 0
    assert not crossover(counts, "lemaire45", 4, "once").spiking_wins


def test_chips_are_compared_with_a_digital_accelerator():
    graph, batch = chain()
    e = estimate(graph, batch, "loihi1_sanafe")
    counts = e.counts["loihi1_sanafe"]
    table = compare_dense(counts, "loihi1_sanafe")
    assert table["energy_pj"][0] == pytest.approx(e.total_pj["loihi1_sanafe"])
    assert table["baseline"].tolist()[1:] == ["lemaire45"] * (len(table["bits"]) - 1)
    assert table["energy_pj"][1] == pytest.approx(dense_pj(counts, "lemaire45", 32)[1])
    with pytest.raises(ParameterError, match="prices no dense network"):
        dense_pj(counts, "loihi1_sanafe")


def test_fewer_bits_cost_less():
    counts = measure(*chain())
    for profile in ("cmos45", "lemaire45", "yan22"):
        energies = [dense_pj(counts, profile, bits)[1] for bits in (2, 4, 8)]
        assert energies[0] < energies[1] < energies[2]
    with pytest.raises(ParameterError, match="choose 1 to 32"):
        dense_pj(counts, "cmos45", 64)
    with pytest.raises(ParameterError, match="'twice' is none of once, every step"):
        dense_pj(counts, "cmos45", 8, "twice")


def test_the_break_even_figures_are_on_one_axis():
    counts = measure(*chain())
    synapses = 20 * 16 + 16 * 5
    np.testing.assert_allclose(counts.spikes_per_synapse, counts.synops / synapses)
    assert all(0.1 < b.low <= b.high < 2 for b in BREAK_EVENS)
