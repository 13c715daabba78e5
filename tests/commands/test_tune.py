"""A point of the search is the configuration with all its times kept in ms."""

import pytest

from snnkit.commands.tune import changed
from snnkit.errors import ParameterError
from snnkit.training.config import parse_config


def test_times_keep_their_length_when_the_bin_width_changes():
    config = parse_config(
        {
            "data": {"dt": 10.0, "steps": 100},
            "model": {"max_delay": 24, "tail": 30, "tau_mem": 10.05, "delays": "random"},
            "train": {"sigma": 12.0},
        }
    )
    wide = changed(config, {"bin_width_ms": 20.0, "hidden": 64, "rate_regularisation": 0.5})
    assert (wide.data.dt, wide.data.steps) == (20.0, 50)
    assert (wide.model.max_delay, wide.model.tail, wide.train.sigma) == (12, 15, 6.0)
    assert wide.model.tau_mem >= 20.0
    assert wide.model.hidden == (64, 64)
    assert wide.model.delays == "random"
    assert (wide.train.rate_strength, wide.train.rate_target) == (0.5, 0.01)


def test_no_delay_is_a_network_without_delays():
    assert changed(parse_config({}), {"max_delay": 0}).model.delays == "none"
    assert changed(parse_config({}), {}) == parse_config({})


def test_a_search_over_layers_of_their_own_is_refused():
    with pytest.raises(ParameterError, match=r"hidden and max_delay, and this run has \[\[model.layers"):
        changed(parse_config({"model": {"layers": [{"size": 4}]}}), {})
    with pytest.raises(ParameterError, match=r"this run has model\.network"):
        changed(parse_config({"model": {"network": "mine:build"}}), {})
