"""Any architecture of the configuration: network, Graph and engine agree; what training needs is there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnkit.commands.simulate import agreement
from snnkit.datasets.splits import Splits
from snnkit.delays import AxonalDelay, DelayedConv2d, DelayedLinear, DendriticDelay, RecurrentDelayedLinear
from snnkit.engine import simulate
from snnkit.errors import ConfigError, ShapeError
from snnkit.events import EventBatch
from snnkit.graph import Graph
from snnkit.neurons import NEURONS, AdLIF, CubaLIF, Neuron, register
from snnkit.training import Trainer, build, load_network, lower
from snnkit.training.config import Model, load_config, parse_config
from snnkit.training.network import ImageBatchNorm, TimeBatchNorm
from snnkit.training.schedules import optimisers
from tests.helpers.architectures import dense, images

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DT = 10.0


def disturbed(network):
    """Double precision, evaluation mode, statistics of norms that are not those of the start."""
    for module in network.modules():
        if isinstance(module, TimeBatchNorm | ImageBatchNorm):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.2, 0.6)
    return network.double().eval()


def engine_says(network, x):
    """Hidden spikes of the Graph after a round trip through a file, and those of the network."""
    graph = lower(network)
    steps = len(x) + network.tail
    out = simulate(
        graph, EventBatch.from_dense(x.flatten(2).numpy()), steps=steps, dtype="float64", record=["v"]
    )
    with torch.no_grad():
        want = network(x)
    hidden = [out.spikes[f"hidden{i}"].to_dense(steps) for i in range(len(network.layers))]
    return graph, hidden, want, out.recorded.get(("out", "v"))


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data(), seed=st.integers(0, 1 << 16))
def test_network_graph_and_engine_agree_on_any_layers(data, seed):
    shape = data.draw(st.sampled_from([(8,), (2, 6, 7)]))
    layers = data.draw(dense() if len(shape) == 1 else images())
    model = Model(
        layers=layers,
        delays=data.draw(st.sampled_from(["learned", "none", "axonal", "dendritic"])),
        max_delay=3,
        tau_mem=20.0,
        v_th=0.5,
    )
    torch.manual_seed(seed)
    network = disturbed(build(model, shape, 4, DT))
    x = (torch.rand(12, 2, *shape) < 0.4).double()
    _, hidden, want, v = engine_says(network, x)
    for got, s in zip(hidden, want.spikes, strict=True):
        np.testing.assert_array_equal(got, s.numpy())
    np.testing.assert_allclose(v, want.v.numpy(), rtol=1e-9, atol=1e-11)


COUNTING = {"reset": "soft", "max_spikes": 3, "v_min": -0.4}


def test_counts_go_through_delays_recurrence_pools_and_skips_to_the_graph():
    layers = [
        {"conv": {"channels": 3, "kernel": 3, "padding": 1}, "delays": "learned", "parameters": COUNTING},
        {"pool": 2},
        {"size": 8, "delays": "axonal", "recurrent": "delays", "neuron": "cuba", "parameters": {
            **COUNTING, "tau_syn": 15.0, "strict": True}},
        {"size": 8, "delays": "learned", "recurrent": "dense", "skip": 1, "parameters": {"max_spikes": 2}},
    ]  # fmt: skip
    torch.manual_seed(0)
    model = Model(layers=layers, max_delay=3, tau_mem=20.0, v_th=0.3)
    network = disturbed(build(model, (2, 6, 7), 4, DT))
    x = (torch.rand(12, 2, 2, 6, 7) < 0.4).double()
    graph, hidden, want, v = engine_says(network, x)
    for got, s in zip(hidden, want.spikes, strict=True):
        np.testing.assert_array_equal(got, s.numpy())
        assert s.max() > 1
    np.testing.assert_allclose(v, want.v.numpy(), rtol=1e-9, atol=1e-11)
    assert graph.populations["hidden1"].options == {
        "reset": "soft", "max_spikes": 3, "strict": True, "floor": True,
    }  # fmt: skip


EVERYTHING = [
    {"conv": {"channels": 4, "kernel": 3, "padding": 1}, "delays": "learned", "max_delay": 3},
    {
        "conv": {"channels": 4, "kernel": 3, "padding": 1}, "skip": 1, "neuron": "cuba",
        "parameters": {"tau_syn": 20.0},
    },
    {"pool": 2},
    {"size": 20, "delays": "axonal", "recurrent": "delays", "max_delay": 5, "tau_spread": 0.5},
    {"size": 20, "delays": "dendritic", "skip": 1, "neuron": "adlif", "parameters": {"tau_w": 60.0}},
    {"size": 16, "delays": "none", "recurrent": "dense", "learn_tau": True, "tau_spread": 1.0},
]  # fmt: skip


def everything(**model):
    torch.manual_seed(0)
    return build(Model(layers=EVERYTHING, max_delay=6, tau_mem=30.0, **model), (2, 8, 8), 3, DT)


def test_all_of_it_in_one_network_spikes_and_lowers_to_the_same_spikes(tmp_path):
    network = disturbed(everything(v_th=0.6))
    x = (torch.rand(20, 2, 2, 8, 8) < 0.3).double()
    graph, hidden, want, _ = engine_says(network, x)
    for got, s in zip(hidden, want.spikes, strict=True):
        assert 0.01 < s.mean() < 0.99
        np.testing.assert_array_equal(got, s.numpy())
    graph.save(tmp_path / "net.h5")
    assert Graph.load(tmp_path / "net.h5").populations["hidden1"].shape == (4, 8, 8)


def test_every_layer_with_delays_has_its_width_its_window_and_its_group():
    network = everything()
    kinds = [type(m) for m in network.delayed]
    assert kinds == [
        DelayedConv2d, DelayedConv2d, AxonalDelay, RecurrentDelayedLinear, DendriticDelay,
        RecurrentDelayedLinear, DelayedLinear,
    ]  # fmt: skip
    network.set_sigma(3.0)
    assert [m.sigma for m in network.delayed] == [1.5, 3.0, 2.5, 2.5, 3.0, 0.5, 3.0]
    with torch.no_grad():
        for module in network.delayed:
            module.position += 100
    network.clamp_()
    assert [m.position.max().item() for m in network.delayed] == [3, 6, 5, 5, 6, 1, 6]
    groups = optimisers(network, parse_config({}))
    (positions,) = groups["positions"][0].param_groups
    learned = [m.position for m in network.delayed if m.position.requires_grad]
    assert [id(p) for p in positions["params"]] == [id(p) for p in learned]
    assert len(learned) == 6, "the one delay of a dense recurrence is not learned"
    decayed, spared = groups["weights"][0].param_groups
    assert any(p is network.layers[4].neuron.neuron.decay_raw for p in spared["params"])
    assert {id(p) for p in decayed["params"]} == {
        id(p) for n, p in network.named_parameters() if n.endswith("weight") and p.ndim > 1
    }


def test_every_parameter_gets_a_gradient():
    network = everything()
    network.set_sigma(1.0)
    x = (torch.rand(20, 4, 2, 8, 8) < 0.4).float()
    torch.nn.functional.cross_entropy(network(x).scores, torch.tensor([0, 1, 2, 0])).backward()
    for name, p in network.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            assert torch.isfinite(p.grad).all(), name
            assert p.grad.any(), name


@pytest.mark.parametrize("options", [{}, {"delays": "none"}, {"kernel_count": 2, "learn_tau": True}])
def test_hidden_is_the_short_form_of_layers(options):
    made = []
    for layers in ({"hidden": (12, 10)}, {"layers": [{"size": 12}, {"size": 10}]}):
        torch.manual_seed(4)
        network = build(Model(max_delay=6, **layers, **options), 8, 3, DT)
        x = torch.rand(15, 4, 8)
        made.append((network.state_dict(), network(x), network.tail))
    (short, one, tail), (long, other, same) = made
    assert tail == same
    assert list(short) == list(long)
    assert all(torch.equal(short[k], long[k]) for k in short)
    assert torch.equal(one.scores, other.scores)
    assert 0 < one.spikes[1].mean() < 1


@pytest.mark.parametrize(
    ("options", "kind", "values"),
    [
        (
            {"neuron": "cuba", "parameters": {"tau_syn": 15.0}, "tau_mem": 40.0, "reset": "soft"},
            CubaLIF,
            {"tau_syn": 15.0, "tau_mem": 40.0},
        ),
        (
            {"neuron": "adlif", "parameters": {"tau_w": 90.0, "a": 0.3, "discretisation": "euler"}},
            AdLIF,
            {"tau_w": 90.0, "tau_mem": 10.05, "a": 0.3, "b": 1.0},
        ),
    ],
)
def test_a_neuron_by_name_is_made_with_the_general_keys_and_its_own(options, kind, values):
    network = build(Model(hidden=(5,), surrogate="triangle", surrogate_alpha=0.4, **options), 8, 3, DT)
    neuron = network.layers[0].neuron
    assert isinstance(neuron, kind)
    for name, value in values.items():
        assert float(getattr(neuron, name)) == pytest.approx(value, rel=1e-5)
    assert (neuron.surrogate, neuron.alpha) == ("triangle", 0.4)
    assert neuron.options.get("reset", "hard") == options.get("reset", "hard")
    assert neuron.options.get("discretisation") == options["parameters"].get("discretisation")


def test_drawn_time_constants_lie_in_their_range_and_differ_between_neurons():
    network = build(Model(hidden=(500,), tau_mem=40.0, tau_spread=1.0), 8, 3, DT)
    tau = network.layers[0].neuron.tau_mem
    assert tau.shape == (500,)
    assert 20.0 <= tau.min() < 22
    assert 75 < tau.max() <= 80.0
    assert np.log(tau.numpy() / 40.0).mean() == pytest.approx(0, abs=0.05)
    short = build(Model(hidden=(50,), tau_mem=11.0, tau_spread=1.0, learn_tau=True), 8, 3, DT)
    assert short.layers[0].neuron.tau_mem.min() > DT


def step(v, x, leak, v_th):
    """A neuron whose potential loses a fixed amount in every step."""
    h = v + x - leak
    return h >= v_th, h, (h < v_th) * h


def adjoint(gs, gh, gv, h, ds_dh, through, v, x, leak, v_th):
    spike = (gs - through * gv * h) * ds_dh
    gh = gh + spike + (h < v_th) * gv
    return gh, gh, -gh, -spike


@pytest.fixture
def drip():
    register("drip", lambda: Neuron("drip", ("leak", "v_th"), ("v",), step, adjoint, defaults={"v_th": 0.6}))
    yield "drip"
    del NEURONS["drip"]


def test_a_registered_neuron_is_chosen_by_name_and_lowers(drip):
    """Its own threshold stands, since the model's was left as it is."""
    config = parse_config(
        {"model": {"hidden": [9], "neuron": "drip", "parameters": {"leak": 0.05}, "recurrent": "dense"}}
    )
    network = disturbed(build(config.model, 8, 3, DT))
    x = (torch.rand(15, 2, 8) < 0.4).double()
    graph, hidden, want, _ = engine_says(network, x)
    np.testing.assert_array_equal(hidden[0], want.spikes[0].numpy())
    assert 0 < want.spikes[0].mean() < 1
    assert graph.populations["hidden0"].params["v_th"] == pytest.approx(0.6)
    with pytest.raises(ConfigError, match=r"neuron 'drip' needs leak; give it in model.parameters"):
        parse_config({"model": {"neuron": "drip"}})


@pytest.mark.parametrize(
    ("layers", "inputs", "message"),
    [
        ([{"conv": {"channels": 2}}], 8, r"model.layers.0: conv needs images \[C, H, W\].*given \[8\]"),
        ([{"pool": 9}, {"size": 3}], (2, 8, 8), "pool = 9 needs images .* at least 9 × 9 .* given .2, 8, 8."),
        ([{"size": 5}, {"size": 6, "skip": 1}], 8, r"layers.1: skip = 1 adds \[5\] to \[6\]; both need one"),
        ([{"conv": {"channels": 2}}, {"pool": 2}], (2, 8, 8), "layers.1: nothing follows but the read-out"),
    ],
)
def test_layers_that_do_not_fit_are_named(layers, inputs, message):
    with pytest.raises(ShapeError, match=message):
        build(Model(layers=layers), inputs, 3, DT)


def test_images_may_come_flat_and_other_shapes_are_refused():
    network = build(Model(layers=EVERYTHING, tau_mem=30.0), (2, 8, 8), 3, DT).eval()
    x = (torch.rand(5, 2, 2, 8, 8) < 0.4).float()
    assert torch.equal(network(x).scores, network(x.flatten(2)).scores)
    with pytest.raises(ShapeError, match=r"x of shape \[T, B, 2, 8, 8\], got \[5, 2, 8, 8, 2\]"):
        network(x.movedim(2, 4))


def spots(samples, seed):
    """Events of a bright spot that goes right or left, int [B, T, 2, 34, 34], and which."""
    rng = np.random.default_rng(seed)
    x, labels = np.zeros((samples, 10, 2, 34, 34), np.uint8), np.arange(samples) % 2
    for b, label in enumerate(labels):
        row = rng.integers(8, 20)
        for t in range(10):
            column = 3 * t if label else 30 - 3 * t
            x[b, t, :, row : row + 6, column : column + 4] = rng.integers(0, 2, (2, 6, 4))
    return x, labels


def test_the_configuration_for_an_event_camera_trains_on_arrays_of_its_shape(tmp_path):
    config = load_config(EXPERIMENTS / "nmnist_conv_delays.toml", ["train.epochs=1", "train.batch=8"])
    parts = {name: spots(16, seed) for seed, name in enumerate(("train", "valid", "test"))}
    data = Splits.from_arrays(**parts, dt=config.data.dt, name="spots")
    network = Trainer(config, data, tmp_path, progress=False).fit()
    assert network.inputs == (2, 34, 34)
    loaded, _, _ = load_network(tmp_path / "last.pt")
    assert loaded.inputs == (2, 34, 34)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in network.state_dict().items())
    graph = lower(loaded)
    kinds = [p.kind for p in graph.projections]
    assert kinds == ["conv", "conv", "dense", "dense"]
    assert graph.populations["input"].shape == (2, 34, 34)
    told = agreement(loaded, graph, data.test, "float64")
    assert told["spikes"] > 0
    assert told["equal_spikes"] == 1


def test_the_adaptive_recurrent_configuration_trains_and_lowers(task, tmp_path):
    config = load_config(
        EXPERIMENTS / "spoken_digits_adlif_recurrent.toml",
        ["train.epochs=1", "model.hidden=[12, 10]", "model.v_th=0.2"],
    )
    network = Trainer(config, task, tmp_path, progress=False).fit()
    assert {type(layer.neuron.neuron) for layer in network.layers} == {AdLIF}
    loaded, _, _ = load_network(tmp_path / "last.pt")
    told = agreement(loaded, lower(loaded), task.test, "float64")
    assert told["spikes"] > 0
    assert told["equal_spikes"] == 1
