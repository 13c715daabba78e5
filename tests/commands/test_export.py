"""`snnkit export`: options of one format are refused by the others."""

import numpy as np
import pytest

from snnkit.commands.export import export_network
from snnkit.commands.formats import load
from snnkit.errors import ExportError, ParameterError
from snnkit.graph import INPUT, Graph, Population, Projection
from tests.helpers import networks


@pytest.fixture
def saved(tmp_path):
    """A convolution with a delay at every weight, and its read-out."""
    rng = np.random.default_rng(0)
    options = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    hidden = networks.lif("c", (2, 4, 4))
    out = Population("out", "li", 3, {"decay": 0.9, "gain": 1.0})
    weight = rng.normal(size=(2, 1, 3, 3))
    delay = rng.integers(0, 4, weight.shape)
    conv = Projection("a", "in", "c", weight, delay, "conv", options=options)
    populations = {"in": Population("in", INPUT, (1, 4, 4)), "c": hidden, "out": out}
    dense = Projection("b", "c", "out", rng.normal(size=(3, 32)))
    Graph(populations, [conv, dense], 1.0, ["out"], {"readout": "mean"}).save(tmp_path / "net.h5")
    return tmp_path / "net.h5"


def test_a_convolution_with_delays_goes_to_netx_when_it_is_unrolled(saved, tmp_path):
    with pytest.raises(ExportError, match="--unroll"):
        export_network(saved, "netx", tmp_path / "a.net", calibration=0)
    export_network(saved, "netx", tmp_path / "a.net", unroll=True, calibration=0)
    written = load(tmp_path / "a.net")
    assert [p.kind for p in written.projections] == ["dense", "dense"]
    assert written.projections[0].delays.max() > 1


def test_what_needs_no_unrolling_says_so(saved, tmp_path):
    with pytest.raises(ParameterError, match="unroll is for netx"):
        export_network(saved, "nir", tmp_path / "a.nir", unroll=True)
    assert not (tmp_path / "a.nir").exists()
