"""Norse's networks as snnkit's modules and as a Graph: the same spikes."""

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.engine import simulate
from snnkit.errors import GraphError
from snnkit.events import EventBatch
from snnkit.interop import norse as interop
from snnkit.neurons import LIF

norse = pytest.importorskip("norse.torch")


def cells():
    box = {"tau_mem_inv": 300.0, "v_leak": 0.1, "v_th": 0.6}
    cuba = {"tau_syn_inv": 400.0, "tau_mem_inv": 300.0, "v_th": 0.5}
    box, cuba = ({k: torch.tensor(v) for k, v in p.items()} for p in (box, cuba))
    return {
        "box": norse.LIFBoxCell(norse.LIFBoxParameters(**box)),
        "current": norse.LIFCell(norse.LIFParameters(**cuba)),
        "integrator": norse.IAFCell(norse.IAFParameters(v_th=torch.tensor(1.5))),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["box", "current", "integrator"])
def test_the_graph_spikes_as_the_cell_does(kind):
    torch.manual_seed(0)
    linear, cell = nn.Linear(7, 5), cells()[kind]
    with torch.no_grad():
        linear.weight.mul_(4)
    x, state, want = (torch.rand(80, 2, 7) < 0.4).float(), None, []
    with torch.no_grad():
        for row in x:
            s, state = cell(linear(row), state)
            want.append(s.numpy())
    want = np.stack(want)
    before = linear.weight.detach().clone()
    graph = interop.to_graph(norse.SequentialState(linear, cell), 7)
    assert torch.equal(linear.weight, before), "the network that was given keeps its weights"
    assert graph.dt == 1.0
    got = (
        simulate(graph, EventBatch.from_dense(x.numpy()), dtype="float64")
        .spikes[graph.outputs[0]]
        .to_dense(80)
    )
    assert 0.03 < want.mean() < 0.9
    np.testing.assert_array_equal(got, want)


@pytest.mark.filterwarnings("ignore")
def test_a_potential_at_the_threshold_is_no_spike():
    """Three inputs of 0.5 reach 1.5 exactly; the fourth exceeds it."""
    linear, cell = nn.Linear(1, 1, bias=False), cells()["integrator"]
    with torch.no_grad():
        linear.weight.fill_(0.5)
    x, state, want = torch.ones(9, 1, 1), None, []
    with torch.no_grad():
        for row in x:
            s, state = cell(linear(row), state)
            want.append(float(s))
    made = interop.to_snnkit(norse.SequentialState(linear, cell))
    assert want == made(x).detach().flatten().tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 0]


@pytest.mark.filterwarnings("ignore")
def test_a_readout_follows_norses():
    torch.manual_seed(0)
    linear, cell = nn.Linear(7, 3), norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=torch.tensor(150.0)))
    x, state, want = torch.rand(40, 2, 7), None, []
    with torch.no_grad():
        for row in x:
            v, state = cell(linear(row), state)
            want.append(v)
        made = interop.to_snnkit(norse.SequentialState(linear, cell))
        got = made[1](made[0](x))
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-5, atol=1e-6)


def test_what_has_no_counterpart_is_named():
    with pytest.raises(GraphError, match=r"layer '1' \(LSNNCell\) of Norse has no counterpart"):
        interop.to_snnkit(norse.SequentialState(nn.Linear(2, 3), norse.LSNNCell()))
    with pytest.raises(GraphError, match=r"a LIF of Norse without weights before it"):
        interop.to_snnkit(norse.SequentialState(norse.LIFCell()))


def test_a_cell_from_outside_is_one_row(monkeypatch):
    class HalfCell(norse.LIFBoxCell):
        """A LIFBoxCell of twice the threshold."""

    def module(name, part):
        decay = interop.number(1 - interop.leak(part, part.p.tau_mem_inv))
        return LIF(decay=decay, v_th=2 * interop.number(part.p.v_th)), None

    net = norse.SequentialState(nn.Linear(7, 3), HalfCell())
    with pytest.raises(GraphError, match=r"\(HalfCell\) of Norse has no counterpart; .*LIBox and IAF have"):
        interop.to_snnkit(net)
    monkeypatch.setitem(interop.TO_SNNKIT, "Half", module)
    made = interop.to_snnkit(net)
    assert float(made[1].v_th) == 2 * float(norse.LIFBoxParameters().v_th)
