"""Prices: sums, proportions, ranges, latency, and refusals that say what is missing."""

import json

import numpy as np
import pytest

from snnkit.chips import LOIHI1
from snnkit.energy import (
    Mapping,
    Mesh,
    available,
    count,
    estimate,
    load_profile,
    measure,
    place,
    price,
    sensitivity,
)
from snnkit.errors import ConfigError, ExportError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from tests.helpers.energy_networks import LIF, chain, events, recurrent

ALL = (
    "cmos45",
    "lemaire45",
    "yan22",
    "loihi1_davies2018",
    "loihi1_sanafe",
    "loihi2_scaled",
    "cpu",
    "gpu",
    "mcu",
)


@pytest.fixture(scope="module")
def everything():
    graph = recurrent()
    return estimate(graph, events(graph), "all")


def test_all_means_all(everything):
    assert set(ALL) <= set(everything.prices) == set(available())
    assert not everything.skipped
    assert any("placed one population after another" in note for note in everything.notes)


@pytest.mark.parametrize("name", available())
def test_the_sum_over_layers_is_the_total(everything, name):
    p = everything.prices[name]
    assert p.total_pj > 0
    for column in ("layer", "part", "operation"):
        assert sum(p.by(column).values()) == pytest.approx(p.total_pj, rel=1e-12)
    assert p.per_inference.mean() == pytest.approx(p.total_pj, rel=1e-12)
    np.testing.assert_allclose(p.table["count"] * p.table["pj_each"], p.table["energy_pj"], rtol=1e-12)
    assert p.low_pj <= p.total_pj <= p.high_pj


def test_graded_input_is_pointed_out(everything):
    graph = recurrent()
    e = estimate(graph, events(graph, values=True), "cmos45")
    (note,) = e.notes
    assert "% of the spikes into 'c' carry a value other than ±1" in note
    assert "data.binary = true (binary=True)" in note  # as a file says it, and as Python does
    assert e.total_pj["cmos45"] > everything.total_pj["cmos45"]


def test_a_published_error_widens_the_range(everything):
    p = everything.prices["loihi1_sanafe"]
    assert (p.low_pj, p.high_pj) == pytest.approx((0.88 * p.total_pj, 1.12 * p.total_pj))
    np.testing.assert_allclose(p.latency_low_us, 0.75 * p.latency_us)
    np.testing.assert_allclose(p.latency_high_us, 1.25 * p.latency_us)


@pytest.mark.parametrize("name", available())
def test_a_fifth_more_of_every_constant_is_a_fifth_more(everything, name):
    """Energy is linear in all constants together; each alone adds its own part."""
    counts, profile = everything.counts[name], everything.prices[name].profile
    table = sensitivity(counts, profile, 0.2)
    total = everything.prices[name].total_pj
    assert (table["energy_pj_plus"] - total).sum() == pytest.approx(0.2 * total, rel=1e-9)
    np.testing.assert_allclose(table["energy_pj_plus"] - total, total - table["energy_pj_minus"], rtol=1e-6)


def test_the_table_is_json_and_plain_arrays(everything):
    text = json.dumps(everything.to_json(), allow_nan=False)
    assert json.loads(text)["energy_pj"] == everything.total_pj
    lengths = {len(column) for column in everything.table.values()}
    assert len(lengths) == 1
    assert all(isinstance(c, np.ndarray) and c.ndim == 1 for c in everything.table.values())


def test_twice_the_spikes_cost_twice_the_synapses():
    graph, batch = chain(rate=0.1, batch=1)
    doubled = EventBatch(
        np.repeat(batch.times, 2), np.repeat(batch.neurons, 2), batch.offsets * 2, batch.lengths, batch.size
    )
    spikes = {n: EventBatch([], [], [0, 0], [30], p.size) for n, p in graph.populations.items()}
    one, two = (price(count(graph, {**spikes, "in": b}), "cmos45") for b in (batch, doubled))
    assert one.total_pj > 0
    assert two.by("operation")["AC"] == 2 * one.by("operation")["AC"]


@pytest.mark.parametrize("name", available())
def test_silence_costs_what_idling_costs(name):
    graph, batch = chain(rate=0.0)
    p = estimate(graph, batch, name).prices[name]
    assert p.table["count"][p.table["scales"]].sum() == 0
    idle = {"loihi1_davies2018": 30 * 21 * 52.0, "loihi1_sanafe": 30 * 21 * 51.2, "cmos45": 0.0}
    if name in idle:
        assert p.total_pj == pytest.approx(idle[name], rel=1e-12)
    assert np.isfinite(p.table["energy_pj"]).all()
    assert p.latency_us is None or (p.latency_us > 0).all()


def test_silence_is_json_without_nan():
    text = json.dumps(estimate(*chain(rate=0.0), ["cmos45", "lemaire45"]).to_json(), allow_nan=False)
    assert json.loads(text)["dense"]["crossover_rate"] == [None] * 7


@pytest.mark.parametrize(
    ("precision", "ac", "mac"),
    [("fp32", 0.9, 4.6), ("fp16", 0.4, 1.5), ("int32", 0.1, 3.2), ("int8", 0.03, 0.23)],
)
def test_the_conventional_prices_of_an_ac_and_a_mac(precision, ac, mac):
    graph, _ = chain()
    x = np.zeros((30, 1, 20), np.float32)
    x[0, 0, 0], x[1, 0, 1] = 1.0, 0.5
    spikes = {n: EventBatch([], [], [0, 0], [30], p.size) for n, p in graph.populations.items()}
    result = price(count(graph, {**spikes, "in": EventBatch.from_dense(x)}), "cmos45", precision=precision)
    assert result.by("operation") == pytest.approx({"AC": 16 * ac, "MAC": 16 * mac})


def test_a_core_that_is_split_in_two_takes_half_as_long():
    graph, batch = chain(rate=0.5, sizes=(20, 64), batch=1)
    profile = load_profile("loihi1_sanafe").with_constants(
        barrier_1=0.0, barrier_2=0.0, barrier_4=0.0, barrier_29=0.0, t_message_in=0.0
    )
    one, two = (
        price(
            measure(graph, batch, mapping=Mapping({"in": np.full(20, -1), "layer1": np.arange(64) % cores})),
            profile,
        )
        for cores in (1, 2)
    )
    # the busier half may have a few spikes more
    assert 0.5 <= two.latency_us[0] / one.latency_us[0] < 0.6
    assert two.by("operation")["message"] == 2 * one.by("operation")["message"]
    assert two.by("operation")["SynOp"] == one.by("operation")["SynOp"]


def test_the_barrier_grows_with_the_tiles_in_use():
    graph, batch = chain(rate=0.0, batch=1)
    times = {}
    for tiles in (1, 2, 3, 4, 32):
        core = {n: np.arange(p.size) % tiles * 4 for n, p in graph.populations.items()}
        if tiles == 32:
            graph, batch = chain(rate=0.0, sizes=(32, 32), batch=1)
            core = {n: np.arange(32) * 4 for n in graph.populations}
        counts = measure(graph, batch, mapping=Mapping(core))
        zero = {n: 0.0 for n in load_profile("loihi1_sanafe").constants if n.startswith("t_")}
        times[tiles] = price(counts, load_profile("loihi1_sanafe").with_constants(**zero)).latency_us[0] / 30
        davies = load_profile("loihi1_davies2018")
        zero = {n: 0.0 for n in davies.constants if n.startswith("t_")}
        linear = price(counts, davies.with_constants(**zero)).latency_us[0] / 30
        assert linear == pytest.approx((113 + (465 - 113) * (tiles - 1) / 31) / 1000)
    assert times == pytest.approx({1: 0.6, 2: 1.0, 3: 1.0, 4: 1.4, 32: 1.8})


def test_static_power_is_power_times_time():
    graph, batch = chain()
    counts = measure(graph, batch, mapping=place(graph, load_profile("loihi2_scaled").chip, "neurons_only"))
    off, on = price(counts, "loihi2_scaled"), price(counts, "loihi2_scaled", static=True)
    # 250 mW times the time in µs is so many nJ
    assert on.total_pj - off.total_pj == pytest.approx(250 * on.latency_us.mean() * 1000, rel=1e-9)


def test_an_shd_network_on_loihi_2_lies_near_the_published_energy():
    """Plausibility only: 0.3 to 0.5 mJ an inference with static power, measured on silicon; within 3x."""
    rng = np.random.default_rng(0)
    sizes = {"in": 140, "a": 256, "b": 256, "out": 20}
    graph = Graph(
        {
            n: Population(n, "input" if n == "in" else "lif", (s,), {} if n == "in" else LIF)
            for n, s in sizes.items()
        },
        [
            Projection(f"{a}{b}", a, b, rng.normal(0.0, 1.5 / np.sqrt(sizes[a]), (sizes[b], sizes[a])))
            for a, b in [("in", "a"), ("a", "b"), ("b", "out")]
        ],
    ).validate()
    steps = 1400  # an SHD clip of 1.4 s in steps of 1 ms
    x = (rng.random((steps, 1, 140)) < 0.03).astype(np.float32)
    p = estimate(graph, EventBatch.from_dense(x), "loihi2_scaled", static=True).prices["loihi2_scaled"]
    assert 0.3e9 / 3 < p.total_pj < 0.5e9 * 3


def test_the_placement_of_the_hardware_part_is_priced():
    graph, batch = chain(delay=5)
    mapping = place(graph, LOIHI1)
    for profile in ("loihi1_davies2018", "loihi1_sanafe"):
        e = estimate(graph, batch, profile, mapping=mapping)
        assert e.counts[profile].cores.cores.tolist() == list(range(mapping.cores))
        assert e.total_pj[profile] > 0
        assert e.latency_us[profile] > 0
        assert not e.notes


def test_inputs_off_the_chip_enter_at_the_first_tile():
    graph, batch = chain(sizes=(20, 16), batch=1)
    counts = measure(graph, batch, mapping=Mapping({"in": np.full(20, -1), "layer1": np.full(16, 21)}))
    by = price(counts, "loihi1_sanafe").table
    rows = {o: n for o, n, part in zip(by["operation"], by["count"], by["part"], strict=True) if part == "in"}
    spikes = len(batch.times)
    assert (rows["message"], rows["hop E-W"], rows["hop N-S"]) == (
        spikes,
        spikes,
        spikes,
    )  # core 21: tile 5, (1, 1)


@pytest.mark.parametrize(
    ("source", "target", "east_west", "north_south"),
    [(12, 36, 2, 2), (36, 12, 2, 2), (4, 20, 1, 0), (20, 28, 0, 2)],
)
def test_hops_are_the_tiles_between_two_cores(source, target, east_west, north_south):
    """Four cores a tile, tiles down columns of four: core 12 in tile 3 at (0, 3), 36 in tile 9 at (2, 1)."""
    graph, batch = chain(sizes=(20, 16), batch=1)
    mapping = Mapping({"in": np.full(20, source), "layer1": np.full(16, target)})
    table = price(measure(graph, batch, mapping=mapping), "loihi1_davies2018").table
    hops = {
        o: n
        for o, n, part in zip(table["operation"], table["count"], table["part"], strict=True)
        if part == "in"
    }
    spikes = len(batch.times)
    assert (hops["hop E-W"], hops["hop N-S"]) == (spikes * east_west, spikes * north_south)


def test_networks_that_are_too_large_are_refused_or_skipped():
    mesh = Mesh(tiles_x=1, tiles_y=1, cores_per_tile=2, neurons_per_core=8)
    graph, batch = chain()
    with pytest.raises(ExportError, match="needs 6 cores of 8 neurons, the chip has 2"):
        place(graph, mesh.as_chip("small"), "neurons_only")
    big = load_profile("loihi1_sanafe").model_copy(update={"mesh": mesh})
    with pytest.raises(ExportError, match="needs 6 cores"):
        estimate(graph, batch, big)
    counts = measure(graph, batch, mapping=place(graph, load_profile("loihi1_sanafe").chip, "neurons_only"))
    with pytest.raises(ParameterError, match="uses core 2, the profile's chip has cores 0 to 1"):
        price(counts, big)


def test_hops_without_a_mapping_are_an_error():
    graph, batch = chain()
    for name in ("loihi1_davies2018", "loihi1_sanafe", "loihi2_scaled"):
        with pytest.raises(ParameterError, match="counts were taken without a mapping"):
            price(measure(graph, batch), name)


def test_idle_neurons_without_potentials_are_an_error():
    graph, batch = chain()
    spikes = {n: EventBatch([], [], [0] * 5, [30] * 4, p.size) for n, p in graph.populations.items()}
    mapping = place(graph, load_profile("loihi1_sanafe").chip, "neurons_only")
    with pytest.raises(ParameterError, match="neurons of 'layer1' were active is not known"):
        price(count(graph, {**spikes, "in": batch}, mapping=mapping), "loihi1_sanafe")


def test_wrong_settings_are_named():
    graph, batch = chain()
    counts = measure(graph, batch)
    with pytest.raises(ConfigError, match=r"unknown setting 'precison', did you mean 'precision'\?"):
        price(counts, "cmos45", precison="int8")
    with pytest.raises(ConfigError, match="precision = 'int4' is none of fp32, fp16, int32, int8"):
        price(counts, "cmos45", precision="int4")
    with pytest.raises(ConfigError, match="word_bits = 0 must be a whole number"):
        price(counts, "lemaire45", word_bits=0)
    with pytest.raises(ParameterError, match="0 < by < 1"):
        sensitivity(counts, "cmos45", 20)
