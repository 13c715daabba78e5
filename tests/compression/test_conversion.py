"""Conversion: what folding keeps, what thresholds are, what is refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.compression import Residual, build_ann, convert, fold_batchnorm, resnet20, vgg
from snnkit.compression.conversion import converted_like
from snnkit.compression.spiking import ChannelScale
from snnkit.errors import ParameterError, ShapeError


def trained(ann, shape, batches=3):
    """Batch norms with statistics, and scales and offsets that are not 1 and 0."""
    torch.manual_seed(2)
    for module in ann.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    for _ in range(batches):
        ann(torch.randn(16, *shape).to(next(ann.parameters())))
    return ann


@pytest.mark.parametrize(
    "make", [lambda: vgg(9, 4, 2, 8, width=0.05, hidden=9), lambda: resnet20(4, 2, 8, width=0.2)]
)
def test_folding_keeps_what_the_network_computes(make):
    ann = trained(make().double(), (2, 8, 8)).eval()
    before = {k: v.clone() for k, v in ann.state_dict().items()}
    folded, x = fold_batchnorm(ann).eval(), torch.randn(5, 2, 8, 8, dtype=torch.float64)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())
    torch.testing.assert_close(folded(x), ann(x), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(before[k], v) for k, v in ann.state_dict().items())


def short():
    """Two residual sums, one over a pooling shortcut."""
    narrow = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1))
    wide = nn.Sequential(nn.Conv2d(6, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6))
    return nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), Residual(narrow), nn.ReLU(),
        Residual(wide, nn.AvgPool2d(2)), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4),
    )  # fmt: skip


@pytest.mark.parametrize(
    "make", [lambda: vgg(5, 4, 2, 8, width=0.1, hidden=9), short], ids=["vgg5", "residual"]
)
@pytest.mark.parametrize("per_channel", [False, True])
def test_over_many_steps_a_converted_network_is_its_ann(make, per_channel):
    ann = trained(make().double(), (2, 8, 8)).eval()
    x = torch.randn(12, 2, 8, 8, dtype=torch.float64)
    network = convert(ann, x, 100, steps=400, calibration_steps=20, per_channel=per_channel)
    with torch.no_grad():
        want, got = ann(x), network(x) / 400
    assert (got - want).abs().mean() < 0.1 * want.abs().mean()


@pytest.mark.parametrize(
    "make", [lambda: vgg(5, 4, 2, 8, width=0.1, hidden=9), short], ids=["vgg5", "residual"]
)
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_state_loads_into_a_network_of_its_anns_shape(make, per_channel):
    ann, x = trained(make(), (2, 8, 8)).eval(), torch.randn(12, 2, 8, 8)
    network = convert(ann, x, 90, steps=3, calibration_steps=4, per_channel=per_channel)
    again = converted_like(ann, network.state_dict(), per_channel=per_channel)
    again.load_state_dict(network.state_dict())
    again.steps = 3
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network(x))


def test_thresholds_are_percentiles_set_from_the_front():
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 5), nn.ReLU(), nn.Linear(5, 2)
    )
    ann = ann.double()
    x = torch.randn(7, 1, 5, 5, dtype=torch.float64)
    network = convert(ann, x, 80, calibration_steps=12)

    first = ann[0](x).detach()
    v1 = np.percentile(first.numpy(), 80)
    v, largest = torch.zeros_like(first), 0.0
    for _ in range(12):  # the definition, written out: spikes of the first layer, each worth v1
        v = v + first
        s = (v >= v1).double()
        v = v - v1 * s
        largest = max(largest, np.percentile(ann[3](v1 * s.flatten(1)).detach().numpy(), 80))

    (_, a), (_, b) = network.spiking()
    assert a.v_th.item() == pytest.approx(v1, rel=1e-12)
    assert b.v_th.item() == pytest.approx(largest, rel=1e-12)
    assert a.decay.item() == b.decay.item() == 1
    torch.testing.assert_close(network.layers[3].weight, ann[3].weight * v1)
    torch.testing.assert_close(network.head[0].weight, ann[5].weight * largest)
    assert torch.equal(network.layers[3].bias, ann[3].bias)


def test_a_spike_on_a_shortcut_weighs_its_threshold():
    ann = trained(resnet20(3, 2, 8, width=0.2), (2, 8, 8))
    network = convert(ann, torch.randn(16, 2, 8, 8), 98, calibration_steps=4)
    shortcut = network.layers.block1a.shortcut
    assert isinstance(shortcut[-1], ChannelScale)
    assert shortcut[-1].weight.item() == network.layers.relu.v_th.item()
    assert not any(isinstance(m, ChannelScale) for m in network.layers.block2a.modules())


X = torch.randn(6, 2, 8, 8)


def small(*middle):
    return nn.Sequential(nn.Conv2d(2, 3, 3), *middle, nn.Flatten(), nn.Linear(3 * 36, 2))


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.Tanh(), nn.LeakyReLU()], ids=str)
def test_another_activation_is_named(activation):
    with pytest.raises(ParameterError, match=rf"layer '2' \({type(activation).__name__}\): only ReLU"):
        convert(small(nn.ReLU(), activation), X)


def test_a_layer_of_another_kind_is_named_in_a_residual_too():
    body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3))
    with pytest.raises(ParameterError, match=r"layer '2\.body\.1' \(GroupNorm\) can't be converted"):
        convert(small(nn.ReLU(), Residual(body), nn.ReLU()), X)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)])
def test_a_norm_without_statistics_is_named(norm):
    with pytest.raises(ParameterError, match=r"layer '1' \(BatchNorm2d\) has no running statistics"):
        convert(small(norm, nn.ReLU()), X)


@pytest.mark.parametrize(
    ("ann", "message"),
    [
        (small(nn.ReLU(), nn.BatchNorm2d(3)), "layer '2'.*follows no Conv2d or Linear"),
        (small(), "no ReLU"),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), "ends in a ReLU"),
        (nn.Conv2d(2, 3, 3), "nn.Sequential, got Conv2d"),
        (nn.Sequential(nn.Conv2d(2, 3, 3, padding="same"), nn.ReLU(), nn.Linear(8, 2)), "layer '0'"),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_said(ann, message):
    with pytest.raises(ParameterError, match=message):
        convert(ann, X)


@pytest.mark.parametrize(
    ("calibration", "error", "message"),
    [
        (torch.zeros(0, 2, 8, 8), ParameterError, "calibration set is empty"),
        (torch.zeros(4, 3, 8, 8), ShapeError, r"\[B, 2, H, W\], got \[4, 3, 8, 8\]"),
        (torch.zeros(2, 8, 8), ShapeError, r"got \[2, 8, 8\]"),
        (torch.randn(4, 2, 9, 9), ShapeError, "do not go through"),
        (torch.full((4, 2, 8, 8), float("nan")), ParameterError, "not finite"),
    ],
)
def test_wrong_calibration_images_are_said(calibration, error, message):
    with pytest.raises(error, match=message):
        convert(small(nn.ReLU()), calibration)


def test_a_threshold_that_would_not_be_positive_is_named():
    ann = small(nn.ReLU())
    nn.init.constant_(ann[0].bias, -100)
    with pytest.raises(ParameterError, match="layer '1': the 90th percentile of its currents is -"):
        convert(ann, X)


@pytest.mark.parametrize("percentile", [0, 101, -1])
def test_a_percentile_out_of_range_is_said(percentile):
    with pytest.raises(ParameterError, match=f"percentile = {percentile}"):
        convert(small(nn.ReLU()), X, percentile)


def test_max_pooling_and_plain_vectors_are_convertible():
    ann = trained(vgg(5, 4, 2, 8, width=0.1, hidden=9, maximum=True), (2, 8, 8))
    assert convert(ann, X, 95, calibration_steps=3)(X).shape == (6, 4)
    flat = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    assert convert(flat, torch.randn(9, 7), calibration_steps=3)(torch.randn(4, 7)).shape == (4, 3)


@pytest.mark.parametrize(
    ("name", "layers"), [("vgg5", 5), ("vgg9", 9), ("vgg11", 11), ("vgg16", 16), ("resnet20", 20)]
)
def test_networks_have_as_many_layers_as_their_name_says(name, layers):
    ann = build_ann(name, 10, 3, 32, width=0.05, hidden=8)
    main = [
        m for n, m in ann.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "shortcut" not in n
    ]
    assert len(main) == layers
    assert ann.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_unknown_networks_are_refused():
    with pytest.raises(ParameterError, match="no VGG of depth 7"):
        vgg(7)
    with pytest.raises(ParameterError, match="unknown network 'alexnet'"):
        build_ann("alexnet", 10, 3, 32)
    with pytest.raises(ParameterError, match="size = 6 does not divide by 4"):
        resnet20(size=6)
