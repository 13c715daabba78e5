"""A configuration file is checked whole, and its mistakes are named."""

from pathlib import Path

import pytest

from snnkit.errors import ConfigError
from snnkit.training.config import load_config, parse_config

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    "file", sorted(set(EXPERIMENTS.glob("*.toml")) - set(EXPERIMENTS.glob("iir_*"))), ids=lambda f: f.name
)
def test_every_experiment_fits_the_schema(file):
    load_config(file)


def test_all_problems_of_a_file_are_reported_at_once_with_the_nearest_key():
    tree = {"train": {"epoch": 3, "batch": "many"}, "modle": {}, "model": {"tau_mem": -1.0}}
    with pytest.raises(ConfigError) as error:
        parse_config(tree, "x.toml")
    text = str(error.value)
    assert "4 problems" in text
    assert "unknown key 'epoch', did you mean 'epochs'?" in text
    assert "unknown key 'modle', did you mean 'model'?" in text
    assert "batch = 'many'" in text
    assert "tau_mem = -1.0" in text


def test_an_override_replaces_one_value(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("[train]\nepochs = 5\n")
    config = load_config(file, ["train.epochs=7", "model.hidden=[3]", "data.name=shd"])
    assert (config.train.epochs, config.model.hidden, config.data.name) == (7, (3,), "shd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train\n", "is no TOML"),
        ("[model]\nhidden = []\n", "hidden is empty"),
        ("[model]\ndelays = 'none'\nkernel_count = 2\n", "kernel_count > 1 needs delays"),
        ("[train]\nhardware_aware = 'loihi2'\n[model]\nreset = 'soft'\n", "needs model.reset = 'hard'"),
    ],
)
def test_a_wrong_file_says_why(tmp_path, text, message):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(file)


def test_a_missing_file_and_a_wrong_override_are_named(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.toml")
    file = tmp_path / "a.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match="should read key=value"):
        load_config(file, ["epochs"])
