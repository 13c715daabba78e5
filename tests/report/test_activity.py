"""The picture of a network at work is a PNG of every layer."""

import numpy as np
import pytest

from snnkit.errors import ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.report.activity import draw_activity


def network(readout):
    rng = np.random.default_rng(0)
    lif = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    out = Population("out", "lif", 3, lif) if readout == "spike_count" else Population(
        "out", "li", 3, {"decay": 0.5, "gain": 1.0})  # fmt: skip
    return Graph(
        {"in": Population("in", "input", 6), "h": Population("h", "lif", 5, lif), "out": out},
        [
            Projection("a", "in", "h", rng.normal(1, 1, (5, 6)), rng.integers(0, 4, (5, 6))),
            Projection("b", "h", "out", rng.normal(1, 1, (3, 5)), rng.integers(0, 4, (3, 5))),
        ],
        10.0,
        ["out"],
        {"readout": readout, "classes": ["x", "y", "z"], "steps_tail": 3},
    )


@pytest.mark.parametrize("readout", ["softmax_sum", "spike_count"])
@pytest.mark.parametrize("active", [True, False], ids=["spikes", "silence"])
def test_it_draws_any_network_that_classifies(tmp_path, readout, active):
    x = (np.random.default_rng(1).random((20, 1, 6)) < 0.4 * active) * 1.0
    draw_activity(network(readout), EventBatch.from_dense(x), tmp_path / "a.png", "title")
    raw = (tmp_path / "a.png").read_bytes()
    assert raw.startswith(b"\x89PNG")
    assert len(raw) > 20_000


def test_more_than_one_sample_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="one sample, got 2"):
        draw_activity(network("mean"), EventBatch.from_dense(np.ones((2, 2, 6))), tmp_path / "a.png")
