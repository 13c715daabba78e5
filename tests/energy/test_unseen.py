"""What the monitor does not count is named: against torch's FLOP counter, and by hand where that is blind."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, lists, sampled_from
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from snnkit.energy import EnergyMonitor
from snnkit.report import energy_page

WIDTH = 8


class First(nn.Module):
    """The first output of a module that gives several."""

    def __init__(self, inner, *more):
        super().__init__()
        self.inner, self.more = inner, more

    def forward(self, x):
        return self.inner(x, *(x for _ in self.more))[0]


class Functional(nn.Module):
    """Products that no module makes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH, WIDTH))

    def forward(self, x):
        x = F.linear(x, self.weight) + x @ self.weight
        x = torch.einsum("bij,kj->bik", x, self.weight)
        x = torch.baddbmm(x, x, self.weight.expand(len(x), -1, -1))
        return F.conv1d(x.mT, self.weight[:, :, None]).mT


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv1d(WIDTH, 6, 3, 2), nn.ConvTranspose1d(6, WIDTH, 3, 2)

    def forward(self, x):
        return self.up(self.down(x.mT)).mT


PARTS = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "relu": nn.ReLU,
    "conv": Convolutions,
    "functional": Functional,
    "rnn": lambda: First(nn.RNN(WIDTH, WIDTH, 2, batch_first=True)),
    "gru": lambda: First(nn.GRU(WIDTH, WIDTH, batch_first=True)),
    "attention": lambda: First(nn.MultiheadAttention(WIDTH, 2, batch_first=True), 1, 1),
}


def watched(net, *x, **settings):
    """Counts, and the text of every warning."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with EnergyMonitor(net, **settings) as monitor:
            net(*x)
        counts = monitor.counts()
    return counts, [str(w.message) for w in told]


def dense(counts):
    return sum(s.synops_dense.sum() for s in counts.synapses) + sum(u.macs.sum() for u in counts.unseen)


@settings(max_examples=60)
@given(parts=lists(sampled_from(sorted(PARTS)), max_size=5), training=booleans())
def test_all_macs_are_counted_or_named(parts, training):
    """Ours and unseen together are torch's FLOPs, two a MAC, in any network."""
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH), *(PARTS[p]() for p in parts)).train(training)
    x = torch.rand(2, 7, WIDTH)

    counts, told = watched(net, x)
    with FlopCounterMode(display=False) as flops:
        net(x)

    assert dense(counts) == flops.get_total_flops() / 2 > 0
    assert (
        len(told) == len(counts.unseen) == sum(p in ("functional", "rnn", "gru", "attention") for p in parts)
    )


B, T, E, H = 2, 5, 8, 6
ATTENTION = 4 * T * E * E + 2 * T * T * E
BLIND = {
    "lstm": (
        First(nn.LSTM(E, H, 2, batch_first=True, bidirectional=True)),
        2 * T * (4 * H * (E + H) + 4 * H * (2 * H + H)),
    ),
    "lstm cell": (First(nn.LSTMCell(T * E, H)), 4 * H * (T * E + H)),
    "attention": (First(nn.MultiheadAttention(E, 2, batch_first=True).eval(), 1, 1), ATTENTION),
    "encoder": (nn.TransformerEncoderLayer(E, 2, H, batch_first=True).eval(), ATTENTION + 2 * T * E * H),
    "bilinear": (nn.Bilinear(E, E, 3), T * 3 * E * E),
}


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("case", BLIND)
def test_what_torchs_counter_is_blind_to_is_counted_by_hand(case, mode):
    """Fused kernels: an operation of its own with gradients, another without."""
    inner, macs = BLIND[case]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner = nn.Linear(E, E, bias=False), inner

        def forward(self, x):
            y = self.first(x)
            return inner(y, y) if case == "bilinear" else inner(y.flatten(1) if "cell" in case else y)

    with mode():
        counts, told = watched(Net(), torch.rand(B, T, E))
    assert dense(counts) == B * (T * E * E + macs)
    assert told


def test_the_shares_are_told_in_the_result_by_a_warning_and_on_the_page(tmp_path):
    net = nn.Sequential(nn.Linear(E, E), First(nn.MultiheadAttention(E, 2, batch_first=True), 1, 1))
    x = torch.rand(B, T, E)
    with EnergyMonitor(net) as monitor:
        net(x)
    share = ATTENTION / (ATTENTION + T * E * E)
    note = (
        f"Not counted: '1.inner' (MultiheadAttention: mm, bmm, addmm), 1,680 MACs an inference, "
        f"{100 * share:.3g} % of all MACs of the network."
    )

    with pytest.warns(UserWarning, match="Not counted") as told:
        price = monitor.price("cmos45")
    with pytest.warns(UserWarning, match="Not counted"):
        estimate = monitor.estimate("lemaire45")
    energy_page(estimate, tmp_path / "page.html")

    assert [str(w.message) for w in told] == [note]
    assert [*price.notes] == price.to_json()["notes"] == [note]
    assert estimate.notes == estimate.to_json()["notes"] == [note]
    counts = estimate.counts["lemaire45"]
    assert counts.unseen_share() == {"1.inner": (1680.0, pytest.approx(share))}
    page = (tmp_path / "page.html").read_text()
    assert page.count("1,680 MACs an inference") == 2


def test_batches_put_together_keep_what_each_did_not_see():
    """A product in one batch only; samples are chosen with what is theirs."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.more = nn.Linear(3, 2), False

        def forward(self, x):
            y = self.first(x)
            return y @ y.new_ones(2, 4) if self.more else y

    net = Net()
    with EnergyMonitor(net) as monitor:
        net(torch.rand(2, 3))
        monitor.new_samples()
        net.more = True
        net(torch.rand(3, 3))
    with pytest.warns(UserWarning, match="'Net' \\(Net: mm\\)"):
        counts = monitor.counts()
    assert counts.unseen[0].macs.tolist() == [0, 0, 8, 8, 8]
    assert counts.select([4, 0]).unseen[0].macs.tolist() == [8, 0]


def test_an_error_inside_the_network_leaves_nothing_open():
    class Breaks(nn.Module):
        def forward(self, x):
            if x.shape[1] == 3:
                raise ArithmeticError
            return x

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.first = nn.Sequential(nn.Linear(3, 3), Breaks()), nn.Linear(3, 3)

        def forward(self, x):
            try:
                y = self.inner(x)
            except ArithmeticError:
                y = x
            return self.first(y) @ y.new_ones(3, 2)

    counts, told = watched(Net(), torch.rand(2, 3))
    assert [u.name for u in counts.unseen] == ["Net"]
    assert counts.unseen[0].macs.tolist() == [6, 6]
    assert [s.synops_dense.tolist() for s in counts.synapses] == [[9, 9], [9, 9]]
    assert len(told) == 1


def test_weights_inside_a_neuron_module_are_named():
    norse = pytest.importorskip("norse.torch")
    net = norse.SequentialState(nn.Linear(6, 5), norse.LIFRecurrentCell(5, 5))
    counts, told = watched(net, torch.rand(2, 6))
    (unseen,) = counts.unseen
    assert unseen.module == "LIFRecurrentCell"
    assert unseen.macs.tolist() == [2 * 25] * 2  # its inputs' weights and its own
    assert "LIFRecurrentCell" in told[0]


def test_macs_of_neurobench():
    """Of a network of real values, where each of its layers is one that it knows."""
    pytest.importorskip("neurobench")
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    x = torch.rand(3, 2, 6, 6) - 0.3
    counts, _ = watched(net, x)
    model = TorchModel(net)
    model.register_hooks()
    with torch.no_grad():
        predictions = model(x)
    operations = SynapticOperations()(model, predictions, (x, torch.zeros(3)))
    assert counts.synops_effective.mean() == pytest.approx(operations["Effective_MACs"], rel=1e-12)
    assert sum(s.synops_dense.mean() for s in counts.synapses) == operations["Dense"]
    np.testing.assert_array_equal(counts.synops, sum(s.synops_mac for s in counts.synapses))
