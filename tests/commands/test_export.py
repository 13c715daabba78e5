"""`snnkit export`: options of one format are refused by the others."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from snnkit import cli
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


def test_a_bias_on_a_current_needs_the_option_that_the_message_names(tmp_path):
    rng = np.random.default_rng(0)
    cuba = {"decay_syn": 0.5, "decay_mem": 0.8, "v_th": 1.0, "v_reset": 0.0}
    populations = {
        "in": Population("in", INPUT, 9),
        "a": Population("a", "cuba", 8, cuba, bias=np.asarray(0.05)),
        "out": Population("out", "li", 3, {"decay": 0.9, "gain": 1.0}),
    }
    dense = [
        Projection("p", "in", "a", rng.normal(size=(8, 9))),
        Projection("q", "a", "out", rng.normal(size=(3, 8))),
    ]
    Graph(populations, dense, 1.0, ["out"], {"readout": "mean"}).save(tmp_path / "net.h5")

    def export(*options):
        given = ["export", tmp_path / "net.h5", "--to", "netx", "-o", tmp_path / "a.net", "--calibration", 0]
        return CliRunner().invoke(cli.app, [*map(str, given), *options])

    refused = export()
    assert refused.exit_code != 0
    assert not (tmp_path / "a.net").exists()
    assert "--settled-bias" in refused.output + str(refused.exception)
    done = export("--settled-bias", "--json")
    assert done.exit_code == 0
    assert "in full" in json.loads(done.stdout)["warnings"][0]
    assert load(tmp_path / "a.net").populations["a"].params["bias"].any()
    with pytest.raises(ParameterError, match="holds floats, so nothing is rounded; leave out settled_bias"):
        export_network(tmp_path / "net.h5", "nir", tmp_path / "a.nir", settled_bias=True)
