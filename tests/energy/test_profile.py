"""Profiles: every number has a source; mistakes are all named at once."""

import pytest

from snnkit.energy import available, load_profile
from snnkit.energy.library import FOLDER
from snnkit.errors import ConfigError


@pytest.mark.parametrize("name", available())
def test_every_constant_says_where_it_comes_from(name):
    profile = load_profile(name)
    assert profile.name == name
    for constant in profile.constants.values():
        assert len(constant.source) > 10
        assert 2010 <= constant.year <= 2026
        assert constant.at("low") <= constant.value <= constant.at("high")
    if any(c.quality == "estimate" for c in profile.constants.values() if c.unit == "pJ"):
        assert "estimate" in profile.quality.lower()


@pytest.mark.parametrize("name", available())
def test_a_saved_profile_is_read_back_unchanged(name, tmp_path):
    profile = load_profile(name)
    profile.save(tmp_path / "mine.toml")
    assert load_profile(tmp_path / "mine.toml") == profile


def edited(tmp_path, *changes, name="cmos45"):
    text = (FOLDER / f"{name}.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "mine.toml").write_text(text)
    return tmp_path / "mine.toml"


def test_all_mistakes_are_listed(tmp_path):
    path = edited(
        tmp_path,
        ("[constants.add_int8]", "[constants.add_int9]"),
        ('precision = "fp32"', 'precison = "fp32"'),
        ('unit = "pJ"', 'unit = "ns"'),
    )
    with pytest.raises(ConfigError) as error:
        load_profile(path)
    text = str(error.value)
    assert "has 4 problems" in text
    assert "constant 'add_int8' is missing" in text
    assert "unknown constant 'add_int9', did you mean 'add_int8'?" in text
    assert "constant 'add_fp32' is in ns, the model takes pJ" in text
    assert "unknown setting 'precison', did you mean 'precision'?" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("year = 2014\n", ""), "constants.add_fp32.year is missing"),
        (("value = 0.9", "value = -0.9"), "constants.add_fp32.value"),
        (("value = 0.9", "value = nan"), "constants.add_fp32.value"),
        (("value = 0.9", "vlaue = 0.9"), "unknown key constants.add_fp32.vlaue, did you mean 'value'?"),
        (("low = 0.85", "low = 0.95"), "low ≤ value ≤ high does not hold"),
        (('unit = "pJ"', 'unit = "joule"'), "constants.add_fp32.unit"),
        (('model = "ops"', 'model = "opz"'), "has no cost model 'opz', did you mean 'ops'?"),
        (('model = "ops"', 'modle = "ops"'), "unknown key modle, did you mean 'model'?"),
        (('name = "cmos45"', "name = cmos45"), "is not valid TOML"),
    ],
)
def test_each_mistake_is_named(tmp_path, change, message):
    with pytest.raises(ConfigError) as error:
        load_profile(edited(tmp_path, change))
    assert message in str(error.value)
    assert "mine.toml" in str(error.value)


def test_a_chip_needs_its_mesh_and_barrier_and_static_power(tmp_path):
    path = edited(tmp_path, ("[constants.barrier_1]", "[constants.barrier_3]"), name="loihi1_sanafe")
    with pytest.raises(ConfigError, match="'barrier_1' is missing"):
        load_profile(path)
    path = edited(tmp_path, ("static = false", "static = true"), name="loihi1_sanafe")
    with pytest.raises(ConfigError, match="'static_chip' is missing"):
        load_profile(path)
    text = (FOLDER / "loihi1_sanafe.toml").read_text()
    start, end = text.index("[mesh]"), text.index("[constants.")
    (tmp_path / "mine.toml").write_text(text[:start] + text[end:])
    with pytest.raises(ConfigError, match=r"\[mesh\] is missing"):
        load_profile(tmp_path / "mine.toml")


def test_an_unknown_profile_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="no profile 'cmos54', did you mean 'cmos45'"):
        load_profile("cmos54")
    with pytest.raises(ConfigError, match="can't be read"):
        load_profile(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="has no constant 'add'; known are add_fp16"):
        load_profile("cmos45").with_constants(add=1.0)
