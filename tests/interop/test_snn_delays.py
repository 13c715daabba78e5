"""Checkpoints of SNN-delays against a network built from the packages that it uses."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.engine import simulate
from snnkit.errors import CheckpointError
from snnkit.events import EventBatch
from snnkit.interop import snn_delays
from snnkit.training import build
from snnkit.training.config import Model
from snnkit.training.lowering import lower

WINDOW, TAU = 9, 1.5


class Published(nn.Module):
    """The layers of SNN-delays in their order, in evaluation: rounded positions, version 'max'."""

    def __init__(self, sizes=(12, 14, 13, 5), plif=False, bias=False, norm=True, filtered=False, outputs=1e9):
        super().__init__()
        dcls = pytest.importorskip("DCLS.construct.modules")
        sj = pytest.importorskip("spikingjelly.activation_based")
        from spikingjelly.activation_based import layer, neuron

        assert sj
        parts = []
        for i, (n, m) in enumerate(pairwise(sizes)):
            last = i == len(sizes) - 2
            conv = dcls.Dcls1d(n, m, kernel_count=1, dilated_kernel_size=WINDOW, bias=bias, version="gauss")
            with torch.no_grad():
                conv.weight.uniform_(-0.5, 1)
                conv.P.uniform_(-(WINDOW // 2), WINDOW // 2)
            parts.append(conv)
            options = {
                "decay_input": False,
                "v_threshold": outputs if last else 1.0,
                "step_mode": "m",
                "store_v_seq": True,
            }
            make = (
                neuron.ParametricLIFNode(TAU + 0.2 * i, **options) if plif else neuron.LIFNode(TAU, **options)
            )
            if not last:
                after = layer.BatchNorm1d(m, step_mode="m")
                after.running_mean.uniform_(-0.3, 0.3)
                after.running_var.uniform_(0.5, 2)
                parts += [*([after] if norm else []), make, layer.Dropout(0.4, step_mode="m")]
                parts += [layer.SynapseFilter(tau=2.0, learnable=plif, step_mode="m")] if filtered else []
            else:
                parts.append(make)
        self.model = nn.Sequential(*parts)

    @torch.no_grad()
    def forward(self, x):
        for part in self.model:
            if hasattr(part, "P"):
                part.version = part.DCK.version = "max"
                part.P.round_()
                part.SIG.zero_()
                x = nn.functional.pad(x.permute(1, 2, 0), (WINDOW - 1, (WINDOW - 1) // 2))
                x = part(x).permute(2, 0, 1)
            else:
                x = part(x)
        return self.model[-1].v_seq


def inputs():
    torch.manual_seed(1)
    return (torch.rand(40, 3, 12) < 0.2).float() * torch.randint(1, 3, (40, 3, 12))


@pytest.mark.parametrize("plif", [False, True], ids=["lif", "plif"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
def test_the_checkpoint_computes_what_the_published_network_does(plif, bias, tmp_path):
    torch.manual_seed(0)
    published = Published(plif=plif, bias=bias).eval()
    torch.save(published.state_dict(), tmp_path / "best.pt")
    network = snn_delays.read(tmp_path / "best.pt", window=WINDOW, tau=TAU)
    want = published(inputs())
    with torch.no_grad():
        got = network(inputs()).v
    assert want.abs().max() > 1
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_a_bias_of_the_readout_lowers_and_is_written():
    torch.manual_seed(0)
    published = Published(bias=True).eval()
    assert published.model[8].bias.abs().min() > 0, "as the repository builds it, in the read-out too"
    network = snn_delays.read(published.state_dict(), window=WINDOW, tau=TAU)
    other = Published(bias=True).eval()
    other.load_state_dict(snn_delays.write(network))
    torch.testing.assert_close(other(inputs()), published(inputs()), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(lower(network).populations["out"].bias, published.model[8].bias.detach())


@pytest.mark.parametrize("threshold", [2.0, 0.7])
def test_outputs_that_spike_and_dropout_are_said(threshold):
    torch.manual_seed(0)
    published = Published(bias=True, outputs=threshold).eval()
    state = published.state_dict()
    v_th = 1.0 if threshold == 2.0 else (1.0, threshold)
    network = snn_delays.read(state, window=WINDOW, tau=TAU, v_th=v_th, readout="spike_count", dropout=0.25)
    published(inputs())
    x = inputs()
    with torch.no_grad():
        got = network(x)
        spikes = spikes_of(published, x)
    assert spikes.sum() > 10
    torch.testing.assert_close(got.v, spikes)
    assert (network.config.dropout, network.config.readout) == (0.25, "spike_count")


def spikes_of(published, x):
    """The output's spikes, from the start."""
    from spikingjelly.activation_based import functional

    functional.reset_net(published)
    potentials = published(x)
    assert potentials.shape[0] > len(x)
    functional.reset_net(published)
    last, found = published.model[-1], []
    handle = last.register_forward_hook(lambda module, given, made: found.append(made))
    published(x)
    handle.remove()
    return found[0]


def test_a_neuron_without_memory_is_tau_1():
    """Their heaviside: the surrogate function in the neuron's place, numbers as they come at the end."""
    torch.manual_seed(0)
    published = Published().eval()
    network = snn_delays.read(published.state_dict(), window=WINDOW, tau=1.0)
    for i in (2, 6):
        published.model[i] = Heaviside()
    published.model[9] = Kept()
    want = published(inputs())
    assert want.abs().max() > 1
    with torch.no_grad():
        torch.testing.assert_close(network(inputs()).v, want, rtol=1e-4, atol=1e-4)


class Heaviside(nn.Module):
    def forward(self, x):
        return (x >= 1.0).to(x.dtype)


class Kept(nn.Module):
    def forward(self, x):
        self.v_seq = x
        return x


@pytest.mark.parametrize("plif", [False, True])
def test_what_the_numbering_shows_and_a_graph_has_no_place_for_is_named(plif):
    def read(**options):
        return snn_delays.read(Published(plif=plif, **options).state_dict(), window=WINDOW, tau=TAU)

    with pytest.raises(
        CheckpointError, match=r"'model.0' to 'model.5' are five parts.* stateful_synapse = True"
    ):
        read(filtered=True)
    with pytest.raises(CheckpointError, match=r"'model.1' is no batch norm .* use_batchnorm = False"):
        read(norm=False)
    with pytest.raises(CheckpointError, match=r"'model.1' is no batch norm .* use_batchnorm = False"):
        read(norm=False, filtered=True)


def test_the_checkpoint_lowers_to_a_graph_with_its_delays():
    torch.manual_seed(0)
    published = Published().eval()
    network = snn_delays.read(published.state_dict(), window=WINDOW, tau=TAU)
    graph = lower(network)
    delay = WINDOW // 2 - published.model[0].P.detach().round()[0, :, :, 0].numpy()
    np.testing.assert_array_equal(graph.projections[0].delays, delay)
    x = inputs()
    result = simulate(
        graph, EventBatch.from_dense(x.numpy()), len(x) + WINDOW, record=[("out", "v")], dtype="float64"
    )
    want = published(x).numpy()
    whole = len(x) + WINDOW // 2  # after that the published network cuts its first layer's spikes off
    np.testing.assert_allclose(result.recorded["out", "v"][:whole], want[:whole], rtol=1e-4, atol=1e-4)


def test_what_is_written_the_published_network_loads():
    torch.manual_seed(0)
    published, other = Published().eval(), Published().eval()
    network = snn_delays.read(published.state_dict(), window=WINDOW, tau=TAU)
    other.load_state_dict(snn_delays.write(network))
    torch.testing.assert_close(other(inputs()), published(inputs()))


def test_a_network_that_snn_delays_has_no_place_for_is_refused():
    network = build(Model(hidden=(4,), recurrent="dense"), 5, 3, 1.0)
    with pytest.raises(CheckpointError, match="this network has other neurons, recurrence or layers"):
        snn_delays.write(network)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.1.running_var"), r"'model.1.running_var' is missing"),
        (lambda s: s.pop("model.4.weight"), r"'model.4.weight' is missing"),
        (lambda s: s.update({"model.4.P": s["model.4.P"][..., :0]}), r"'model.4.P' has shape"),
        (
            lambda s: s.update({"model.4.P": s["model.4.P"] * 4}),
            r"outside a window of 9 steps",
        ),
        (lambda s: s.clear(), r"no checkpoint of SNN-delays"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(change, message):
    state = dict(Published().state_dict())
    change(state)
    with pytest.raises(CheckpointError, match=message):
        snn_delays.read(state, window=WINDOW, tau=TAU)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"x\.pt is no readable PyTorch checkpoint"):
        snn_delays.read(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="does not exist"):
        snn_delays.read(tmp_path / "y.pt")
