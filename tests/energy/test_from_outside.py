"""A cost model, a profile and a chip that snnkit does not have: a row of a table or a file each."""

from dataclasses import replace

import numpy as np
import pytest

from snnkit.chips import CHIPS, LOIHI1
from snnkit.energy import Mapping, compare_dense, estimate, load_profile, measure, place, price
from snnkit.energy.library import FOLDER
from snnkit.energy.models import MODELS, Model
from snnkit.energy.rows import Row
from snnkit.errors import ConfigError, ParameterError
from tests.helpers.energy_networks import chain

BOARD = """
name = "board"
title = "A board of one's own"
model = "toll"
quality = "invented"

[settings]
doubled = true

[constants.spike]
value = 3.0
low = 2.0
high = 5.0
unit = "pJ"
source = "invented for this test"
year = 2026
quality = "estimate"

[constants.t_step]
value = 7.0
unit = "ns"
source = "invented for this test"
year = 2026
quality = "estimate"
"""


def toll_rows(counts, tariff):
    """So much for each spike that goes into a layer, whatever it does there; twice that if "doubled"."""
    each = tariff.constants["spike"] * (2 if tariff.settings["doubled"] else 1)
    return [Row(s.target, s.name, "toll", s.spikes, each) for s in counts.synapses]


@pytest.fixture
def board(tmp_path, monkeypatch):
    toll = Model(
        constants={"spike": "pJ", "t_step": "ns"},
        rows=toll_rows,
        latency=lambda counts, tariff: counts.steps * tariff.constants["t_step"],
        settings={"doubled": False},
        choices={"doubled": (True, False)},
    )
    monkeypatch.setitem(MODELS, "toll", toll)
    (tmp_path / "board.toml").write_text(BOARD)
    return tmp_path / "board.toml"


def test_a_model_and_a_profile_from_outside_price_a_network(board):
    graph, batch = chain()
    e = estimate(graph, batch, [str(board), "cmos45"])
    spikes = sum(s.spikes for s in e.counts["board"].synapses)
    p = e.prices["board"]
    assert spikes.sum() > 0
    np.testing.assert_array_equal(p.per_inference, 6 * spikes)
    assert (p.low_pj, p.high_pj) == pytest.approx((4 * spikes.mean(), 10 * spikes.mean()))
    np.testing.assert_allclose(p.latency_us, 30 * 7 / 1000)
    assert price(e.counts["board"], load_profile(board), doubled=False).total_pj == 3 * spikes.mean()
    assert compare_dense(e.counts["board"], load_profile(board))["baseline"][1] == "lemaire45"


def test_its_profiles_are_checked_like_any_other(board):
    text = board.read_text()
    board.write_text(text.replace("[constants.spike]", "[constants.spiek]").replace("doubled", "double"))
    with pytest.raises(ConfigError, match=r"'spike' is missing.*'spiek', did you mean 'spike'.*'doubled'"):
        load_profile(board)


def with_mesh(tmp_path, mesh):
    text = (FOLDER / "loihi1_sanafe.toml").read_text()
    assert '[mesh]\nchip = "loihi1"\n' in text
    (tmp_path / "mine.toml").write_text(text.replace('chip = "loihi1"\n', mesh))
    return tmp_path / "mine.toml"


def test_a_chip_from_outside_is_described_or_put_into_the_table(tmp_path, monkeypatch):
    graph, batch = chain(sizes=(20, 16))
    layout = "tiles_x = 2\ntiles_y = 3\ncores_per_tile = 1\nneurons_per_core = 4\ncolumn_major = false\n"
    described = load_profile(with_mesh(tmp_path, layout))
    chip = replace(LOIHI1, name="mine", cores=6, cores_per_tile=1, mesh=(2, 3), neurons=4, column_major=False)
    monkeypatch.setitem(CHIPS, "mine", chip)
    named = load_profile(with_mesh(tmp_path, 'chip = "mine"\n'))
    assert named.chip == chip
    # along rows of two, core 3 lies at (1, 1): one tile from core 0 each way
    mapping = Mapping({"in": np.full(20, 3), "layer1": np.zeros(16, int)})
    prices = [price(measure(graph, batch, mapping=mapping), p) for p in (described, named)]
    spikes = np.diff(batch.offsets).mean()
    for p in prices:
        for hop in ("hop E-W", "hop N-S"):
            assert p.table["count"][p.table["operation"] == hop].sum() == spikes
    assert prices[0].total_pj == prices[1].total_pj
    assert place(graph, described.chip).binding == "neurons", "no other limit of that chip is known"


def test_a_mesh_says_what_differs_from_the_chip_that_it_names(tmp_path):
    profile = load_profile(with_mesh(tmp_path, 'chip = "loihi1"\nneurons_per_core = 100\n'))
    assert profile.chip == replace(LOIHI1, neurons=100)
    profile.save(tmp_path / "saved.toml")
    assert load_profile(tmp_path / "saved.toml") == profile
    load_profile("loihi1_sanafe").save(tmp_path / "saved.toml")
    assert '[mesh]\nchip = "loihi1"\n\n' in (tmp_path / "saved.toml").read_text()


def test_wrong_meshes_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"mesh: .*no chip 'loihi3', did you mean 'loihi[12]'"):
        load_profile(with_mesh(tmp_path, 'chip = "loihi3"\n'))
    with pytest.raises(ConfigError, match=r"mesh.tiles_y is missing.*mesh.neurons_per_core is missing"):
        load_profile(with_mesh(tmp_path, "tiles_x = 2\ncores_per_tile = 1\n"))
    with pytest.raises(ConfigError, match=r"unknown key mesh.tiles_z, did you mean 'tiles_"):
        load_profile(with_mesh(tmp_path, 'chip = "loihi1"\ntiles_z = 1\n'))


def test_a_mapping_by_hand_knows_its_cores_and_no_chip():
    mapping = Mapping({"in": np.full(3, -1), "out": np.array([0, 5])})
    assert mapping.cores == 6
    assert str(mapping) == "6 cores"
    with pytest.raises(ParameterError, match="names no chip"):
        mapping.position(5)
    assert replace(mapping, chip=LOIHI1).position(5) == (0, 0, 1)
