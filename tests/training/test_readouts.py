"""A read-out of one's own: one row, for configuration, training and engine."""

import numpy as np
import pytest
import torch

from snnkit.engine.readout import scores
from snnkit.errors import ConfigError, ParameterError
from snnkit.readouts import READOUTS, Rule
from snnkit.training import Trainer, lower
from snnkit.training.config import parse_config
from snnkit.training.run import compare


def test_a_readout_from_outside_trains_lowers_and_classifies(task, config, tmp_path, monkeypatch):
    def energy(v, mask):
        """Σ_t v_t²"""
        return (v * v * mask[..., None]).sum(0)

    with pytest.raises(ConfigError, match=r"readout = 'energy': is none of softmax_sum, .*spike_count"):
        config(model={"readout": "energy"})
    monkeypatch.setitem(READOUTS, "energy", Rule(energy))
    settings = config(model={"readout": "energy"}, train={"epochs": 1})
    network = Trainer(settings, task, tmp_path, progress=False).fit()
    graph = lower(network)
    assert graph.metadata["readout"] == "energy"
    told = compare(network, graph, task.test, "float64")
    assert told["network_accuracy"] == told["graph_accuracy"]
    x = torch.from_numpy(task.test.events.to_dense(dtype=np.float32))
    with torch.no_grad():
        want = network(x, torch.from_numpy(task.test.lengths)).scores
    np.testing.assert_allclose(scores(graph, task.test.events, dtype="float64"), want, rtol=1e-3)
    monkeypatch.delitem(READOUTS, "energy")
    with pytest.raises(ParameterError, match="read-out 'energy' is none of softmax_sum"):
        scores(graph, task.test.events)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"is none of .*, did you mean 'last_step'\?"):
        parse_config({"model": {"readout": "last_stp"}})


@pytest.mark.parametrize("name", READOUTS)
@pytest.mark.parametrize(("T", "B", "C"), [(1, 1, 1), (17, 3, 5)])
def test_arrays_and_tensors_give_the_same(name, T, B, C):
    r = np.random.default_rng(T)
    values, lengths = r.normal(size=(T, B, C)), r.integers(1, T + 1, B)
    mask = np.arange(T)[:, None] < lengths
    got = READOUTS[name](torch.from_numpy(values), torch.from_numpy(mask))
    np.testing.assert_allclose(got, READOUTS[name](values, mask), rtol=1e-12)
