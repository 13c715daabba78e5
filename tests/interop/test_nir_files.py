"""What a framework's NIR file leaves open or fixes: read-outs, steps, values that its writer never writes."""

import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.errors import ExportError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import INPUT
from snnkit.interop import nir as exchange

nir = pytest.importorskip("nir")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")


def drive(steps=200, size=6, share=0.4):
    return (np.random.default_rng(3).random((steps, size)) < share).astype(np.float32)


def linear(n, m, seed, gain=1.0):
    torch.manual_seed(seed)
    made = torch.nn.Linear(n, m)
    with torch.no_grad():
        made.weight.mul_(gain).add_(0.3 * gain)
    return made


def ran(graph, x, record=()):
    return simulate(graph, EventBatch.from_dense(x[:, None]), len(x), record=record, dtype="float64")


def spikes(graph, x):
    name = [n for n, p in graph.populations.items() if p.neuron != INPUT][-1]
    return ran(graph, x).spikes[name].to_dense(len(x))[:, 0]


def potential(graph, x):
    name = graph.outputs[0]
    return ran(graph, x, [(name, "v")]).recorded[name, "v"][:, 0]


def one(node):
    size = 2
    nodes = {"in": nir.Input(np.array([size])), "a": node, "out": nir.Output(np.array([size]))}
    return nir.NIRGraph(nodes, [("in", "a"), ("a", "out")], type_check=False)


def filled(size, value):
    return torch.full((size,), value)


def of_sinabs(x, **options):
    """NIR of Linear → LIF → Linear → ExpLeak, and the read-out's potential."""
    sl = pytest.importorskip("sinabs.layers")
    from sinabs.nir import to_nir

    lif = sl.LIFSqueeze(batch_size=1, tau_mem=filled(5, 12.0), spike_threshold=filled(5, 0.5), **options)
    last = sl.ExpLeakSqueeze(batch_size=1, tau_mem=filled(3, 8.0), **options)
    net = torch.nn.Sequential(linear(6, 5, 1, 2.0), lif, linear(5, 3, 2), last)
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    for part in (lif, last):
        part.reset_states()
    return to_nir(net, torch.from_numpy(x[:1])), want


@pytest.mark.parametrize("options", [{}, {"norm_input": False}, {"norm_input": True}])
def test_a_read_out_of_sinabs_has_its_own_default(options):
    """LIF takes a share of its input by default, ExpLeak all of it."""
    x = drive()
    made, want = of_sinabs(x, **options)
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(potential(exchange.from_nir(made, "sinabs", **options), x), want, atol=2e-5)


def test_a_floor_of_sinabs_is_given_by_node_where_a_read_out_has_none():
    x = drive()
    made, _ = of_sinabs(x)
    with pytest.raises(ExportError, match=r"node '3' is an LI, which has no floor v_min here; .* by node"):
        exchange.from_nir(made, "sinabs", v_min=-0.3)
    graph = exchange.from_nir(made, "sinabs", v_min={"1": -0.3})
    assert float(graph.populations["1"].params["v_min"]) == -0.3
    with pytest.raises(ParameterError, match="v_min names a node '4'"):
        exchange.from_nir(made, "sinabs", v_min={"4": -0.3})


def test_a_step_of_sinabs_is_a_name(tmp_path):
    """Its tau counts steps: what they are called does not change a spike."""
    x = drive()
    made, want = of_sinabs(x)
    nir.write(tmp_path / "a.nir", made)
    graph = exchange.read(tmp_path / "a.nir", "sinabs", dt=1.0)
    assert graph.dt == 1.0
    np.testing.assert_allclose(graph.populations["1"].params["decay"], np.exp(-1 / 12), rtol=1e-6)
    np.testing.assert_allclose(potential(graph, x), want, atol=2e-5)


@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
def test_snntorch_forgets_all_nothing_or_some_in_steps_of_any_name(kind, beta):
    snn, export = pytest.importorskip("snntorch"), pytest.importorskip("snntorch.export_nir")
    options = {"threshold": filled(4, 2.0), "reset_mechanism": "zero", "reset_delay": False}
    options |= {"beta": filled(4, beta), "init_hidden": True}
    if kind == "Synaptic":
        options["alpha"] = filled(4, 1.0 if beta == 1 else 0.5)
    net = torch.nn.Sequential(linear(6, 4, 1, 0.1 if beta == 1 else 2.0), getattr(snn, kind)(**options))
    x = drive()
    with torch.no_grad():
        want = np.stack([net(row[None]).numpy()[0] for row in torch.from_numpy(x)])
        net[1].reset_mem()
        made = export.export_to_nir(net, torch.zeros(1, 6), ignore_dims=[0])
    assert 0 < want.mean() < 1
    for dt in (None, 1.0):
        graph = exchange.from_nir(made, "snntorch", dt=dt)
        assert graph.dt == pytest.approx(0.1 if dt is None else dt)
        np.testing.assert_array_equal(spikes(graph, x), want)


@pytest.mark.parametrize("dt", [1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "CUBALIFNode"])
def test_the_step_of_spikingjelly_shows_in_r(kind, dt):
    pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    given = {"LIFNode": {"tau": 3.0, "decay_input": False}, "CUBALIFNode": {"c_decay": 0.5, "v_decay": 0.5}}
    net = torch.nn.Sequential(linear(6, 4, 1), getattr(neuron, kind)(**given.get(kind, {})))
    functional.set_step_mode(net, "s")
    x = drive()
    with torch.no_grad():
        want = np.stack([net(row[None]).numpy()[0] for row in torch.from_numpy(x)])
        functional.reset_net(net)
        made = export_to_nir(net, torch.zeros(1, 6), dt=dt)
    graph = exchange.from_nir(made, "spikingjelly")
    assert graph.dt == pytest.approx(1e3 * dt, rel=1e-12)
    assert 0 < want.mean() < 1
    np.testing.assert_array_equal(spikes(graph, x), want)
    with pytest.raises(ExportError, match=rf"r of the nodes says that a step is {1e3 * dt:g} ms, not 2 ms"):
        exchange.from_nir(made, "spikingjelly", dt=2.0)


@pytest.mark.parametrize(
    "inverse", [(0.5, 0.5, 0.5), (0.5, 100.0, 200.0), (1.0, 1.0, 1.0), (50.0, 900.0, 1e3)]
)
def test_time_constants_of_norse_of_any_size(inverse):
    """Norse's LIBoxCell, in memory, whose NIR node holds torch tensors."""
    norse = pytest.importorskip("norse.torch")
    p = norse.LIBoxParameters(
        tau_mem_inv=torch.tensor(inverse, dtype=torch.float64), v_leak=torch.zeros(3, dtype=torch.float64)
    )
    net = norse.SequentialState(linear(6, 3, 1).double(), norse.LIBoxCell(p))
    x, state, rows = drive(), None, []
    with torch.no_grad():
        for row in torch.from_numpy(x).double():
            y, state = net(row[None], state)
            rows.append(y.numpy()[0])
        made = norse.to_nir(net, torch.zeros(1, 6, dtype=torch.float64))
    np.testing.assert_allclose(potential(exchange.from_nir(made, "norse"), x), np.stack(rows), atol=1e-9)


def of_rockpool(dts, last=None):
    modules = pytest.importorskip("rockpool.nn.modules")
    from rockpool.nn.combinators import Sequential

    def layer(n, dt):
        return modules.LIFTorch(n, tau_mem=filled(n, 0.02), tau_syn=torch.full((n, 1), 0.01), dt=dt)

    def weights(n, m):
        made = modules.LinearTorch((n, m), has_bias=False)
        made.weight.data = 0.1 * made.weight.data + 0.02
        return made

    end = modules.ExpSynTorch(4, tau=filled(4, 0.02), dt=dts[1]) if last else layer(4, dts[1])
    return modules, Sequential(weights(6, 5), layer(5, dts[0]), weights(5, 4), end)


def test_two_steps_of_rockpool_are_named():
    modules, net = of_rockpool((1e-3, 2e-3))
    made = modules.to_nir(net, torch.zeros(1, 6))
    with pytest.raises(ExportError, match=r"1 ms by r of node '1_LIFTorch' and 2 ms .* '3_LIFTorch'"):
        exchange.from_nir(made, "rockpool")


def test_a_read_out_of_rockpool_that_holds_tensors():
    """ExpSynTorch's tau is a Parameter that asks for gradients."""
    modules, net = of_rockpool((2e-3, 2e-3), last="ExpSynTorch")
    x = drive()
    with torch.no_grad():
        want = net(torch.from_numpy(x)[None])[0][0].numpy()
    graph = exchange.from_nir(modules.to_nir(net, torch.zeros(1, 6)), "rockpool")
    assert np.abs(want).max() > 0.01
    np.testing.assert_allclose(potential(graph, x), want, rtol=1e-4, atol=1e-5)


ONES, ZEROS = np.ones(2), np.zeros(2)
NEVER = [
    ("sinabs", nir.IF(2 * ONES, ONES), "r = 2, where sinabs's own writer has 1"),
    ("sinabs", nir.LIF(8 * ONES, 3 * ONES, ZEROS, ONES), "r = 3, where"),
    ("sinabs", nir.LIF(8 * ONES, ONES, 0.1 * ONES, ONES), "v_leak = 0.1, where"),
    ("sinabs", nir.LI(8 * ONES, 3 * ONES, ZEROS), "r = 3, where"),
    ("norse", nir.LIF(1e-5 * ONES, 2 * ONES, ZEROS, ONES), "r = 2, where"),
    ("norse", nir.IF(2 * ONES, ONES), "r = 2, where"),
    ("norse", nir.IF(ONES, ONES, 0.3 * ONES), "v_reset = 0.3, where"),
    ("norse", nir.CubaLIF(1e-5 * ONES, 1e-5 * ONES, ONES, ZEROS, ONES, w_in=2 * ONES), "w_in = 2, where"),
    ("snntorch", nir.LIF(1e-3 * ONES, 10 * ONES, ZEROS, ONES, 0.2 * ONES), "v_reset = 0.2, where"),
    ("snntorch", nir.LIF(1e-3 * ONES, ONES, ZEROS, ONES), "r = 1, where snntorch's own writer has 10;"),
    ("spikingjelly", nir.LIF(1e-3 * ONES, ONES, 0.1 * ONES, ONES), "v_leak = 0.1, where"),
    ("rockpool", nir.LIF(1e-2 * ONES, ONES, ONES, ONES), "v_leak = 1, where"),
]


@pytest.mark.parametrize(("convention", "node", "message"), NEVER)
def test_values_that_the_framework_never_writes_are_named(convention, node, message):
    with pytest.raises(ExportError, match=f"node 'a' has {message}.*read it by the convention nir"):
        exchange.from_nir(one(node), convention)


@pytest.mark.parametrize("tau", [-1e-3, 0.0, np.inf, np.nan])
@pytest.mark.parametrize("convention", ["nir", "exponential", "sinabs", "norse", "rockpool", "spikingjelly"])
def test_time_constants_that_are_none_are_named(convention, tau):
    with pytest.raises(ExportError, match=f"node 'a' has tau = {tau:g} s; a time constant is above 0"):
        exchange.from_nir(one(nir.LIF(tau * ONES, ONES, ZEROS, ONES)), convention)
