"""EnergyMonitor on networks of SpikingJelly, Norse and plain torch, against NeuroBench and by hand."""

import numpy as np
import pytest

from snnkit.energy import EnergyMonitor, measure
from snnkit.errors import ParameterError, ShapeError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection

torch = pytest.importorskip("torch")


class Spike(torch.nn.Module):
    """A neuron of nobody's library: v ← v/2 + x, soft reset at 1."""

    v = 0.0

    def forward(self, x):
        self.v = self.v * 0.5 + x
        z = (self.v >= 1.0).float()
        self.v = self.v - z
        return z


class Twin(torch.nn.Module):
    """8-16-4, one `nn.Linear` a step, two dead input columns: what NeuroBench can see."""

    def __init__(self):
        super().__init__()
        self.l1, self.n1, self.l2, self.n2 = (
            torch.nn.Linear(8, 16),
            Spike(),
            torch.nn.Linear(16, 4, False),
            Spike(),
        )
        with torch.no_grad():
            self.l1.weight.mul_(3)
            self.l2.weight.mul_(3)
            self.l1.weight[:, :2] = 0

    def forward(self, x):
        return self.n2(self.l2(self.n1(self.l1(x))))


class Recording(torch.nn.Module):
    """All steps of a recording [B, T, N] through the twin, as NeuroBench calls it."""

    def __init__(self, twin):
        super().__init__()
        self.twin = twin

    def forward(self, x):
        self.twin.n1.v = self.twin.n2.v = 0.0
        return sum(self.twin(x[:, t]) for t in range(x.shape[1]))


@pytest.fixture
def twin():
    torch.manual_seed(0)
    return Twin(), (torch.rand(3, 10, 8) < 0.3).float()


def monitored(net, x):
    net.n1.v = net.n2.v = 0.0
    with EnergyMonitor(net, spiking=(Spike,)) as monitor, torch.no_grad():
        for t in range(x.shape[1]):
            net(x[:, t])
    return monitor


def test_effective_acs_are_neurobenchs_stored_figures(twin):
    counts = monitored(*twin).counts()
    assert counts.synops_effective.mean() == pytest.approx(345.3333, abs=5e-5)
    assert sum(s.synops_dense.mean() for s in counts.synapses) == 1920
    spikes = sum(n.spikes.sum() for n in counts.neurons if not n.is_input)
    places = sum(n.updates.sum() for n in counts.neurons if not n.is_input)
    assert 1 - spikes / places == pytest.approx(0.901667, abs=5e-7)
    stored, effective = (sum(getattr(s, f) for s in counts.synapses) for f in ("synapses", "effective"))
    assert 1 - effective / stored == pytest.approx(0.1667, abs=5e-5)
    assert sum(s.weights for s in counts.synapses) * 4 + sum(n.biases for n in counts.neurons) * 4 == 832


def test_effective_acs_are_neurobenchs(twin):
    pytest.importorskip("neurobench")
    from neurobench.metrics.static import ConnectionSparsity, Footprint
    from neurobench.metrics.workload import ActivationSparsity, SynapticOperations
    from neurobench.models import TorchModel

    net, x = twin
    counts = monitored(net, x).counts()

    model = TorchModel(Recording(net))
    model.add_activation_module(Spike)
    model.register_hooks()
    data = (x, torch.zeros(3))
    with torch.no_grad():
        predictions = model(x)
    operations = SynapticOperations()(model, predictions, data)

    assert counts.synops_effective.mean() == pytest.approx(operations["Effective_ACs"], rel=1e-12)
    assert operations["Effective_MACs"] == 0
    assert sum(s.synops_dense.mean() for s in counts.synapses) == operations["Dense"]
    spikes = sum(n.spikes.sum() for n in counts.neurons if not n.is_input)
    places = sum(n.updates.sum() for n in counts.neurons if not n.is_input)
    assert 1 - spikes / places == pytest.approx(ActivationSparsity()(model, predictions, data), rel=1e-6)
    stored, effective = (sum(getattr(s, f) for s in counts.synapses) for f in ("synapses", "effective"))
    assert 1 - effective / stored == pytest.approx(ConnectionSparsity()(model), abs=5e-5)
    words = sum(s.weights for s in counts.synapses) + sum(n.biases for n in counts.neurons)
    assert words * 4 == Footprint()(model)


def test_the_graph_of_the_twin_counts_what_neurobench_counts(twin):
    """The same network as a Graph on the engine: event-driven counts equal those of the per-step twin."""
    net, x = twin
    params = {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    soft = {"reset": "soft"}
    weights = [layer.weight.detach().numpy() for layer in (net.l1, net.l2)]
    graph = Graph(
        {
            "in": Population("in", "input", (8,)),
            "hidden": Population("hidden", "lif", (16,), params, net.l1.bias.detach().numpy(), soft),
            "out": Population("out", "lif", (4,), params, options=soft),
        },
        [Projection("l1", "in", "hidden", weights[0]), Projection("l2", "hidden", "out", weights[1])],
    ).validate()

    counts = measure(graph, EventBatch.from_dense(x.transpose(0, 1).numpy()), dtype="float32")

    seen = monitored(net, x).counts()
    np.testing.assert_array_equal(counts.synops_effective, seen.synops_effective)
    np.testing.assert_array_equal(counts.synops, seen.synops)
    np.testing.assert_array_equal(counts.spikes, seen.spikes)
    assert counts.synops_effective.mean() == pytest.approx(345.3333, abs=5e-5)


def spikingjelly_net(step_mode):
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(0)

    def lif():
        return neuron.LIFNode(tau=2.0, decay_input=False, v_reset=None, step_mode=step_mode)

    net = torch.nn.Sequential(
        layer.Linear(8, 16, bias=False, step_mode=step_mode),
        lif(),
        layer.Linear(16, 4, bias=False, step_mode=step_mode),
        lif(),
    ).eval()
    x = (torch.rand(10, 1, 8) < 0.3).float()
    with torch.no_grad():
        net[0].weight.mul_(3)
        net[2].weight.mul_(3)
    return net, x


def test_a_spikingjelly_network_costs_what_spikingjelly_says():
    net, x = spikingjelly_net("m")
    from spikingjelly.activation_based import functional, op_counter

    with EnergyMonitor(net) as monitor, torch.no_grad():
        net(x)
    functional.reset_net(net)

    got = monitor.price("lemaire45").total_pj

    assert got == pytest.approx(op_counter.estimate_lemaire_energy(net, x).total_pj, rel=1e-12)
    assert got == pytest.approx(1455.9953125, rel=1e-12)
    assert monitor.price("lemaire45", memory_curve="regression").total_pj == pytest.approx(
        26465.89, abs=0.005
    )


def test_spikingjellys_simple_estimate_follows_from_the_counts():
    """Their bytes are ours; their ACs add five a neuron update, less one where a state is new."""
    net, x = spikingjelly_net("m")
    from spikingjelly.activation_based import functional, op_counter

    with EnergyMonitor(net) as monitor, torch.no_grad():
        net(x)
    functional.reset_net(net)
    counts = monitor.counts()
    synops, updates = int(counts.synops[0]), sum(int(n.updates[0]) for n in counts.neurons)

    want = op_counter.estimate_simple_energy(net, x)

    assert want.counts["synop"] == synops == 492
    assert want.counts["weight_read_bytes"] == 4 * synops
    assert want.counts["neuron_state_read_bytes"] == want.counts["neuron_state_write_bytes"] == 4 * updates
    neurons = sum(n.size for n in counts.neurons if not n.is_input)
    ours = 0.9 * (synops + 5 * updates - neurons) + 24.96 * 4 * (synops + 2 * updates)
    assert ours == pytest.approx(want.energy_total_pj, rel=1e-12)
    assert ours == pytest.approx(90_382.08, rel=1e-12)


def test_single_steps_and_all_steps_at_once_count_alike():
    (many, x), (single, _) = spikingjelly_net("m"), spikingjelly_net("s")
    with EnergyMonitor(many) as at_once, EnergyMonitor(single) as by_step, torch.no_grad():
        many(x)
        for t in range(len(x)):
            single(x[t])

    a, b = at_once.counts().table(), by_step.counts().table()

    assert a["mean"].sum() > 0
    assert (a["part"] == b["part"]).all()
    np.testing.assert_array_equal(a["mean"], b["mean"])


def test_convolutions_count_borders_and_strides():
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(1)
    conv = layer.Conv2d(2, 4, kernel_size=(3, 2), stride=(2, 1), padding=1, groups=2, step_mode="m")
    net = torch.nn.Sequential(conv, neuron.IFNode(step_mode="m"))
    x = (torch.rand(5, 3, 2, 6, 5) < 0.3).float()
    with EnergyMonitor(net) as monitor, torch.no_grad():
        net(x)

    # by the definition: a SynOp for each output that reads a spike through a weight
    taps = torch.nn.functional.conv2d(
        x.flatten(0, 1),
        torch.ones_like(conv.weight),
        None,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )
    want = taps.reshape(5, 3, -1).sum((0, 2)).numpy()

    np.testing.assert_array_equal(monitor.counts().synops, want)
    assert monitor.counts().neurons[1].leak_macs == 0


def test_a_norse_network_is_seen():
    norse = pytest.importorskip("norse.torch")

    torch.manual_seed(0)
    net = norse.SequentialState(
        torch.nn.Linear(6, 5, bias=False), norse.LIFCell(), torch.nn.Linear(5, 2, bias=False)
    )
    x = (torch.rand(12, 2, 6) < 0.5).float()
    state = None
    with EnergyMonitor(net) as monitor, torch.no_grad():
        net[0].weight.abs_().mul_(20)
        for step in x:
            before = net[0](step)  # a layer called by itself is not the network's doing
            _, state = net(step, state)
        assert before.shape == (2, 5)

    counts = monitor.counts()
    assert counts.synapses[0].synops.sum() > 0
    assert counts.neurons[1].neuron == "LIFCell"
    assert counts.neurons[1].states == 2
    assert counts.spikes.sum() > 0
    np.testing.assert_array_equal(counts.synapses[0].synops, x.sum((0, 2)).numpy() * 5)
    np.testing.assert_array_equal(counts.synapses[1].synops, counts.neurons[1].spikes * 2)


def test_values_other_than_spikes_are_macs():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False))
    with EnergyMonitor(net) as monitor:
        net(torch.tensor([[0.5, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    counts = monitor.counts()
    np.testing.assert_array_equal(counts.synops, [4, 0])
    np.testing.assert_array_equal(counts.synapses[0].synops_mac, [2, 0])
    assert monitor.price("cmos45").per_inference == pytest.approx([2 * 4.6 + 2 * 0.9, 0])


def test_what_the_monitor_refuses():
    with pytest.raises(ParameterError, match="no Linear or Conv"), EnergyMonitor(torch.nn.ReLU()):
        pass
    net = torch.nn.Sequential(torch.nn.Linear(3, 2))
    with pytest.raises(ParameterError, match="seen no call"):
        EnergyMonitor(net).counts()
    with EnergyMonitor(net) as monitor:
        net(torch.zeros(2, 3))
        with pytest.raises(ShapeError, match="new_samples"):
            net(torch.zeros(4, 3))
    with pytest.raises(ParameterError, match=r"were active is not known|without a mapping"):
        monitor.price("loihi1_sanafe")


def test_a_norse_network_on_whole_recordings_is_seen():
    norse = pytest.importorskip("norse.torch")

    torch.manual_seed(0)
    net = norse.SequentialState(
        torch.nn.Linear(6, 5, bias=False), norse.LIF(), torch.nn.Linear(5, 2, bias=False)
    )
    x = (torch.rand(12, 3, 6) < 0.5).float()
    with EnergyMonitor(net) as monitor, torch.no_grad():
        net[0].weight.abs_().mul_(20)
        net(x)
        net(x[:, :2])

    counts = monitor.counts()
    assert counts.steps.tolist() == [12] * 5
    np.testing.assert_array_equal(counts.synapses[0].synops[:3], x.sum((0, 2)).numpy() * 5)
    np.testing.assert_array_equal(counts.synops[3:], counts.synops[:2])
    assert counts.neurons[1].updates.tolist() == [60] * 5
    assert counts.spikes.sum() > 0


def test_an_snnkit_network_is_seen():
    from snnkit.neurons import LIF

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.lif = torch.nn.Linear(6, 5, bias=False), LIF(tau_mem=5.0)

        def forward(self, x):
            return self.lif(self.linear(x))

    torch.manual_seed(0)
    net, x = Net(), (torch.rand(12, 3, 6) < 0.5).float()
    with EnergyMonitor(net) as monitor, torch.no_grad():
        net.linear.weight.abs_().mul_(5)
        spikes = net(x)

    counts = monitor.counts()
    assert counts.spikes.sum() > 0
    np.testing.assert_array_equal(counts.spikes, spikes.sum((0, 2)).numpy())
    np.testing.assert_array_equal(counts.synops, x.sum((0, 2)).numpy() * 5)
    assert counts.steps.tolist() == [12] * 3
