"""The torch modules: what they keep, refuse, lower and how they live with the rest of torch."""

import numpy as np
import pytest
import torch

from snnkit import backend
from snnkit.errors import BackendError, ParameterError, ShapeError
from snnkit.graph import Graph
from snnkit.neurons import IF, LI, LIF, AdLIF, CubaLIF, resolve
from snnkit.neurons.run import run

MODULES = [
    LIF(5.0, v_reset=-0.2),
    LIF(5.0, refractory=2, reset="soft"),
    IF(v_th=2.0),
    CubaLIF(3.0, 6.0),
    LI(4.0, decay_input=True),
    AdLIF(5.0, 20.0, a=0.3, b=0.5, v_th=0.4),
]
each = pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)


def example(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=dtype) + 0.5


@each
def test_single_steps_give_the_whole(module):
    x = example(12, 3, 5)
    want, after = module(x), module.run(x).state
    state, outputs = None, []
    for x_t in x:
        s, state = module.step(x_t, state)
        outputs.append(s)
    assert torch.equal(torch.stack(outputs), want)
    assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))


@each
def test_a_population_steps_as_the_module_does(module, tmp_path):
    population = module.population("hidden", 5)
    assert module.population("image", (1, 5, 1)).shape == (1, 5, 1)
    Graph({"hidden": population}, []).save(tmp_path / "graph.h5")
    population = Graph.load(tmp_path / "graph.h5").populations["hidden"]

    neuron = resolve(population.neuron, population.options)
    x = example(40, 5)
    state = [np.broadcast_to(population.initial.get(n, 0.0), 5).astype(np.float64) for n in neuron.state]
    spikes = []
    params = [population.param(n) for n in neuron.params]
    for x_t in x.double().numpy():
        s, h, *state = neuron.step(*state, x_t, *params)
        spikes.append(s if neuron.spiking else h)
    got = run(
        population.neuron, x.double(), None, {k: torch.from_numpy(v) for k, v in population.params.items()},
        options=population.options, initial={k: torch.from_numpy(v) for k, v in population.initial.items()},
        trace=True,
    )  # fmt: skip
    np.testing.assert_array_equal(np.stack(spikes), (got.s if neuron.spiking else got.h).numpy())
    np.testing.assert_allclose(np.stack(spikes), module(x).numpy(), atol=1e-4)


@each
def test_images_and_strided_inputs_are_neurons_too(module):
    x = example(9, 2, 3, 4, 5)
    flat = module(x.reshape(9, 2, 60))
    assert torch.equal(module(x).reshape(9, 2, 60), flat)
    strided = x.movedim(1, -1)
    assert not strided.is_contiguous()
    assert torch.equal(module(strided).movedim(-1, 1), module(x))


def test_a_parameter_of_each_channel_acts_on_its_channel():
    decays = torch.tensor([0.2, 0.9])
    x = example(20, 3, 2, 4, 4)
    both = LIF(decay=decays.reshape(2, 1, 1))(x)
    for c in range(2):
        alone = LIF(decay=decays[c].item())(x[:, :, c])
        assert torch.equal(both[:, :, c], alone)


def test_no_neuron_at_all_is_no_error():
    s, _, (v,) = LIF(5.0).run(torch.zeros(4, 0, 7, requires_grad=True))
    s.sum().backward()
    assert s.shape == (4, 0, 7)
    assert v.shape == (0, 7)


def test_learned_decay_stays_between_0_and_1():
    neuron = LIF(3.0, learn_tau=True, size=4)
    optimiser = torch.optim.SGD(neuron.parameters(), lr=1e4)
    for sign in (1, -1, -1):
        optimiser.zero_grad()
        (sign * neuron.run(example(10, 2, 4).abs(), trace=True).h.sum()).backward()
        optimiser.step()
        decay = neuron.per_step()["decay"]
        assert ((decay >= 0) & (decay <= 1)).all()


def test_a_time_constant_of_each_neuron_is_learned_alone():
    neuron = LIF([2.0, 4.0, 8.0], learn_tau=True)
    torch.testing.assert_close(neuron.tau_mem, torch.tensor([2.0, 4.0, 8.0]))
    s = neuron(example(30, 2, 3))
    s[..., 1].sum().backward()
    assert neuron.decay_raw.grad[1] != 0
    assert (neuron.decay_raw.grad[[0, 2]] == 0).all()


@pytest.mark.parametrize("learn", [False, True])
def test_torch_compile_of_the_network_around_it_changes_nothing(learn):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5), LIF(4.0, learn_tau=learn), torch.nn.Linear(5, 2))

    def forward(x):
        s, _, (v,) = network[1].run(network[0](x))
        return network[2](s) + v.sum()

    x = example(7, 3, 6)
    compiled = torch.compile(forward, backend="aot_eager", fullgraph=True)
    results = []
    for f in (forward, compiled):
        network.zero_grad()
        y = f(x)
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad.clone() for p in network.parameters())])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_under_autocast_neurons_compute_in_float32():
    linear, neuron = torch.nn.Linear(6, 5), LIF(4.0)
    with torch.autocast("cpu", torch.bfloat16):
        y = linear(example(7, 3, 6))
        s, _, (v,) = neuron.run(y)
    assert y.dtype == torch.bfloat16
    assert v.dtype == torch.float32
    assert torch.equal(s.float(), neuron(y.float()))
    s.float().sum().backward()
    assert torch.isfinite(linear.weight.grad).all()


def test_weights_and_state_dict_go_together():
    neuron = LIF([2.0, 3.0], v_th=0.7, refractory=1)
    other = LIF([5.0, 5.0], refractory=3)
    other.load_state_dict(neuron.state_dict())
    x = example(20, 4, 2)
    assert torch.equal(other(x), neuron(x))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: LIF(0.5, dt=1.0), ParameterError, "tau_mem ≥ dt"),
        (lambda: LIF(), ParameterError, "either tau_mem .* or decay_mem"),
        (lambda: LIF(5.0, decay=0.5), ParameterError, "not both"),
        (lambda: LIF(decay=1.5), ParameterError, "0..1"),
        (lambda: LIF(1.0, learn_tau=True), ParameterError, "strictly between"),
        (lambda: LIF(5.0, dt=0.0), ParameterError, "dt must be"),
        (lambda: LIF(5.0, reset="gentle"), ParameterError, "hard, soft, subtract, none"),
        (lambda: LIF(5.0, surrogate="step"), ParameterError, "known are atan"),
        (lambda: LIF(5.0, alpha=-1.0), ParameterError, "positive"),
        (lambda: LIF(5.0, refractory=-1), ParameterError, "steps ≥ 0"),
        (lambda: LIF(5.0, refractory=1.5), ParameterError, "steps ≥ 0"),
        (lambda: LIF(5.0, v_th=float("nan")), ParameterError, "finite"),
        (lambda: CubaLIF(5.0), ParameterError, "tau_mem"),
        (lambda: AdLIF(5.0, 0.0), ParameterError, "tau_w > 0"),
        (lambda: AdLIF(5.0, 9.0, discretisation="exact"), ParameterError, "euler, se"),
        (lambda: LIF([2.0, 3.0])(torch.zeros(4, 2, 5)), ShapeError, r"decay has shape \[2\]"),
        (lambda: LIF(2.0)(torch.zeros(4, 2, 5), [torch.zeros(5)]), ShapeError, r"state v has shape \[5\]"),
        (lambda: LIF(2.0)(torch.zeros(4, 2, 5), []), ShapeError, r"state \(v\), got 0"),
        (lambda: LIF(2.0)(torch.zeros(0, 2)), ShapeError, "T ≥ 1"),
        (lambda: LIF(2.0)(torch.zeros(3, 2, dtype=torch.int64)), ShapeError, "float"),
        (lambda: run("lif", torch.zeros(3, 2), None, {"decay": 1.0}), ParameterError, "missing"),
    ],
)
def test_refusals_say_what_would_be_right(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_backend_that_cannot_run_says_why():
    with backend.use("cuda"), pytest.raises(BackendError, match="CPU"):
        LIF(2.0)(torch.zeros(3, 2))
