"""Networks that were lowered from modules, on their way to NIR, NetX and a price; refusals by name."""

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.delays import DelayedConv2d, RecurrentDelayedLinear
from snnkit.energy import estimate
from snnkit.engine import simulate
from snnkit.errors import ExportError
from snnkit.events import EventBatch
from snnkit.hardware import netx
from snnkit.hardware.quantise import quantise
from snnkit.neurons import LI, LIF, AdLIF
from snnkit.training import lower

pytest.importorskip("nir")
from snnkit.interop import nir


def lif():
    return LIF(tau_mem=3.0, v_th=0.3)


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.neuron = DelayedConv2d(2, 2, 3, padding=1, max_delay=4), lif()
        self.linear, self.out = nn.Linear(32, 5, bias=False), LI(tau_mem=5.0)

    def forward(self, x):
        return self.out(self.linear((self.neuron(self.conv(x)) + x).flatten(2)))


NETWORKS = {
    "convolutions with delays": lambda: nn.Sequential(
        DelayedConv2d(2, 3, 3, padding=1, max_delay=4, kernel_count=2),
        lif(),
        DelayedConv2d(3, 3, 3, stride=2, max_delay=3),
        lif(),
        nn.Flatten(2),
        nn.Linear(3, 5),
        LI(tau_mem=5.0),
    ),
    "a chain": lambda: nn.Sequential(
        DelayedConv2d(2, 3, 3, padding=1, max_delay=4),
        lif(),
        nn.Flatten(2),
        nn.Linear(48, 5, bias=False),
        LI(tau_mem=5.0),
    ),
    "a loop": lambda: nn.Sequential(
        nn.Flatten(2),
        nn.Linear(32, 10, bias=False),
        RecurrentDelayedLinear(10, lif(), 4),
        nn.Linear(10, 5, bias=False),
        LI(tau_mem=5.0),
    ),
    "a skip": Skip,
}


@pytest.fixture(scope="module")
def events():
    x = torch.rand(20, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.3
    return EventBatch.from_dense(x.flatten(2).numpy().astype(np.float32))


def lowered(network):
    return lower(network.double().eval(), (2, 4, 4), dt=1.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_nir_gives_the_network_back(name, events, tmp_path):
    torch.manual_seed(0)
    graph = lowered(NETWORKS[name]())
    nir.write(graph, tmp_path / "a.nir")
    again = nir.read(tmp_path / "a.nir")
    (out,) = graph.outputs
    mine, its = (
        simulate(g, events, record=[(out, "v")], dtype="float64").recorded[out, "v"] for g in (graph, again)
    )
    assert np.abs(mine).max() > 0.1
    np.testing.assert_allclose(its, mine, atol=1e-12)
    assert [p.name for p in again.projections] == [p.name for p in graph.projections]
    assert all(
        (p.delays == q.delays).all() for p, q in zip(graph.projections, again.projections, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convolutions with delays", r"'input' feeds \['1', '1'\]; NetX holds a plain chain"),
        ("a chain", "layer '1': a convolution with delays .* --unroll"),
        ("a loop", "layer '2': recurrence with delays"),
        ("a skip", r"'input' feeds \['neuron', 'out'\]; NetX holds a plain chain"),
    ],
)
def test_netx_names_what_it_has_no_place_for(name, message, events, tmp_path):
    torch.manual_seed(0)
    integer = quantise(lowered(NETWORKS[name]()), calibration=events)
    with pytest.raises(ExportError, match=message):
        netx.write(integer, tmp_path / "a.net")
    if name == "a chain":
        netx.write(integer, tmp_path / "a.net", unroll=True)


def test_adaptive_neurons_in_a_loop_are_simulated_priced_and_refused_at_export_by_name(events, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(2),
        nn.Linear(32, 10),
        RecurrentDelayedLinear(10, AdLIF(5.0, 20.0, v_th=0.3), 4),
        nn.Linear(10, 5),
        LI(tau_mem=5.0),
    )
    graph = lowered(network)
    assert estimate(graph, events, ["cmos45"]).prices["cmos45"].total_pj > 0
    with pytest.raises(ExportError, match="'2': neurons of kind 'adlif' have no counterpart on Loihi"):
        quantise(graph, calibration=events)
    with pytest.raises(ExportError, match="'2': neurons of kind 'adlif' have no NIR node"):
        nir.write(graph, tmp_path / "a.nir")
