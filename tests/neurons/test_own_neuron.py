"""A neuron, a surrogate and a reset that somebody else wrote, one registration each, are as the built-in."""

import inspect
import math
from math import exp

import numpy as np
import pytest
import torch
from numpy import tanh

from snnkit import backend
from snnkit.engine import simulate
from snnkit.errors import ConfigError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.neurons import (
    MODULES,
    NEURONS,
    RESETS,
    SURROGATES,
    CubaLIF,
    Neuron,
    Registered,
    Reset,
    Surrogate,
    module_of,
    register,
    resolve,
)
from snnkit.neurons.equations import step_source
from snnkit.neurons.modules import arguments_of
from snnkit.neurons.run import run
from tests.neurons import test_every_neuron as battery

HALF = np.float64(0.5)
STEEP = 3
LIMIT = math.inf
TABLE = np.ones(3)


def bent(u: float) -> float:
    """u / (1 + HALF·|u|)"""
    steep: float = 1 + HALF * abs(u)
    return u / steep


def bent_slope(u):
    return 1 / ((1 + HALF * abs(u)) * (1 + HALF * abs(u)))


def kept(h, v_th):
    """The comparison stands in a helper: it is the step's own."""
    return (h < v_th) * h


def step(u, v, x, decay, v_th):
    """A current that saturates: a helper, a constant of the module, and a comparison in another helper."""
    u = HALF * u + x
    h = decay * v + bent(u)
    fires = h >= v_th
    return fires, h, u, kept(h, v_th)


def adjoint(gs, gh, gu, gv, h, ds_dh, through, u, v, x, decay, v_th):
    now = HALF * u + x
    spike = (gs - through * gv * h) * ds_dh
    gh = gh + spike + (h < v_th) * gv
    gu = gu + bent_slope(now) * gh
    return HALF * gu, decay * gh, gu, v * gh, -spike


def make(detail="plain"):
    return Neuron("bent neuron/2", ("decay", "v_th"), ("u", "v"), step, adjoint, defaults={"v_th": 0.9})


def wave(u, alpha):
    """exp(−STEEP·|u|·α), of a constant and an imported function; tanh of a helper."""
    return exp(-STEEP * abs(u) * alpha) + bump(u)


def bump(u):
    return 0.1 * (1 - tanh(u) * np.tanh(u)) * (abs(u) < 1) + 0 * math.pi


@pytest.fixture
def own(monkeypatch):
    """The neuron and the surrogate, registered for one test."""
    register("bent neuron/2", make)
    monkeypatch.setitem(SURROGATES, "wave", Surrogate(wave, 1.5))
    yield "bent neuron/2"
    del NEURONS["bent neuron/2"]


@pytest.mark.parametrize("through", [False, True], ids=["detached", "through-reset"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (37, 3, 65)], ids=str)
def test_its_gradients_are_autograds(own, through, shape, poison_empty):
    battery.test_gradients_of_everything_are_autograds(own, {}, through, *shape, poison_empty)


@pytest.mark.parametrize(
    "test",
    [
        battery.test_float32_spikes_are_the_references,
        battery.test_running_in_two_pieces_changes_nothing,
        battery.test_neurons_do_not_know_their_neighbours,
        battery.test_the_step_acts_alike_on_floats_and_arrays,
        battery.test_the_operator_holds_torchs_contract,
    ],
    ids=lambda test: test.__name__,
)
def test_it_passes_the_battery(own, test):
    test(name=own, options={"detail": "plain"})


def test_a_surrogate_of_ones_own_trains_every_neuron_alike(own):
    for name in ("lif", own):
        neuron = resolve(name)
        x = battery.inputs((20, 3, 7)).requires_grad_()
        params = battery.parameters(neuron, 7, requires_grad=True)
        found = []
        for used in ("reference", "numba"):
            with backend.use(used):
                s = run(name, x, None, params, surrogate="wave", detach_reset=False).s
            found.append([s, *torch.autograd.grad(s.cumsum(0).sum(), [x, params["decay"]])])
        assert 0 < found[0][0].mean() < 1
        for want, got in zip(*found, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_the_engine_gives_the_spikes_of_training(own):
    x = (torch.rand(60, 1, 9, generator=torch.Generator().manual_seed(4), dtype=torch.float64) < 0.4).double()
    params = {"decay": np.linspace(0.5, 0.9, 9), "v_th": np.float64(0.9)}
    graph = Graph(
        {"in": Population("in", "input", (9,)), "a": Population("a", own, (9,), params)},
        [Projection("w", "in", "a", 1.5 * np.eye(9))],
    )
    trained = run(own, 1.5 * x, None, {k: torch.from_numpy(np.asarray(v)) for k, v in params.items()}).s
    assert 0 < trained.mean() < 1
    batch = EventBatch.from_dense(x.numpy(), np.array([60]))
    for used in ("reference", "numba"):
        found = simulate(graph, batch, backend=used, dtype="float64").spikes["a"].to_dense()
        np.testing.assert_array_equal(found, trained.numpy())


SIMULATED = """
import torch
import own_neuron
from snnkit import backend
from snnkit.neurons import NEURONS, SURROGATES, Surrogate, register, resolve
from snnkit.neurons.run import run

register("bent", own_neuron.make)
SURROGATES["wave"] = Surrogate(own_neuron.wave, 1.5)
x = (torch.randn(9, 2, 3, generator=torch.Generator().manual_seed(0)).double() + 0.6).requires_grad_()
decay = torch.full((3,), 0.8, dtype=torch.float64, requires_grad=True)
found = []
for used in ("reference", "numba", "cuda"):
    with backend.use(used):
        params = {"decay": decay, "v_th": 0.5}
        s, _, state = run("bent", x, None, params, surrogate="wave", detach_reset=False)
        grads = torch.autograd.grad(s.cumsum(0).sum() + state[1].sum(), [x, decay])
    found.append((s, *state, *grads))
assert 0 < found[0][0].mean() < 1
for others in found[1:]:
    assert torch.equal(others[0], found[0][0])
    for want, got in zip(found[0], others):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
"""


def test_under_the_simulator_it_trains_too(simulated, tmp_path, monkeypatch):
    head = """
import math
from math import exp
import numpy as np
from numpy import tanh
from snnkit.neurons import Neuron
HALF, STEEP = 0.5, 3

"""
    parts = [bent, bent_slope, kept, step, adjoint, make, wave, bump]
    (tmp_path / "own_neuron.py").write_text(head + "\n\n".join(inspect.getsource(f) for f in parts))
    monkeypatch.syspath_prepend(tmp_path)
    simulated(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{SIMULATED}")


def test_its_module_is_found_by_name_and_learns(own):
    made = module_of(own)(decay=0.8, learn=("decay",), size=5, detail="plain", surrogate="wave", dt=2.0)
    assert isinstance(made, Registered)
    assert list(made.state_dict()) == ["values.decay", "values.v_th"]
    assert (made.surrogate, made.dt, made.options) == ("wave", 2.0, {"detail": "plain"})
    x = battery.inputs((20, 3, 5), torch.float32)
    s, _, state = made.run(x)
    assert 0 < s.mean() < 1
    assert len(state) == 2
    s.sum().backward()
    assert (made.values.decay.grad != 0).all()
    population = made.population("hidden", 5)
    assert set(population.params) == {"decay", "v_th"}
    wanted = arguments_of(own)
    assert wanted["v_th"] == 0.9
    assert wanted["detail"] == "plain"
    assert wanted["decay"] is not wanted["v_th"]
    assert "learn" in wanted


def test_a_row_of_modules_gives_it_other_parameters(own, monkeypatch):
    def in_ms(tau_mem, dt=1.0, **others):
        return Registered(own, decay=1 - dt / tau_mem, dt=dt, **others)

    monkeypatch.setitem(MODULES, own, in_ms)
    assert module_of(own)(tau_mem=5.0).per_step()["decay"] == pytest.approx(0.8)
    assert list(arguments_of(own)) == ["tau_mem", "dt"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_registered_module_computes_what_the_neurons_own_does(name):
    arguments = {"lif": (5.0,), "if": (), "cuba": (5.0, 8.0), "adlif": (5.0, 30.0), "li": (5.0,)}[name]
    want = module_of(name)(*arguments)
    values = {n: p for n, p in want.per_step().items() if n not in resolve(name).defaults}
    got = Registered(name, **values)
    x = battery.inputs((30, 2, 4), torch.float32)
    assert torch.equal(got(x)[0], want(x)[0])
    assert set(arguments_of(name)) >= {"dt"}


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (lambda: Registered("lif"), r"'lif' has decay, .*missing \['decay'\]"),
        (lambda: Registered("lif", decay=0.5, slope=1.0), r"unknown \['slope'\]"),
        (lambda: Registered("lif", decay=0.5, learn=["tau"]), r"unknown \['tau'\]"),
        (lambda: Registered("loihi", du=1, dv=1, vth=1), "computes in integers"),
        (lambda: Registered("lief"), "known are .*lif"),
        (lambda: module_of("lief"), "known are adlif, cuba"),
        (lambda: Neuron("x", ("theta",), ("v",), step, adjoint), "must be 'v_th'"),
        (lambda: Neuron("x", ("theta",), ("v",), step, start={"w": 1.0}), r"start name \['w'\], it has v"),
        (lambda: Neuron("x", (), ("v",), step, defaults={"w": 1.0}), "defaults name .*it has none"),
    ],
)
def test_what_does_not_fit_is_named(make_it, words):
    with pytest.raises(ParameterError, match=words):
        make_it()


def halved(h, resets, rests, v_th, v_reset):
    return rests * h + HALF * resets * h


def halved_adjoint(gs, gh, gv, h, ds_dh, through, resets, rests, v_th, v_reset):
    gu = (gs - through * gv * HALF * h) * ds_dh
    return gh + gu + rests * gv + HALF * resets * gv, -gu, 0 * gv


@pytest.mark.parametrize("through", [False, True], ids=["detached", "through-reset"])
@pytest.mark.parametrize(("name", "others"), [("lif", {"refractory": True}), ("cuba", {})], ids=str)
def test_a_reset_is_one_row(name, others, through, monkeypatch, poison_empty):
    monkeypatch.setitem(RESETS, "halved", Reset(after=halved, adjoint=halved_adjoint))
    options = {"reset": "halved", **others}
    battery.test_gradients_of_everything_are_autograds(name, options, through, 37, 3, 65, poison_empty)
    battery.test_float32_spikes_are_the_references(name, options)


def test_a_module_takes_it_too(monkeypatch):
    monkeypatch.setitem(RESETS, "halved", Reset(after=halved, adjoint=halved_adjoint))
    s, _, (i, v) = CubaLIF(2.0, 4.0, reset="halved").run(battery.inputs((20, 2, 3), torch.float32))
    assert 0 < s.mean() < 1
    assert v.shape == i.shape == (2, 3)


def test_a_file_names_it_and_its_network_lowers_to_the_same_spikes(monkeypatch):
    from snnkit.training import build, lower
    from snnkit.training.config import parse_config

    tree = {"model": {"hidden": [24], "reset": "halved", "max_delay": 4, "tau_mem": 40.0, "v_th": 0.5}}
    with pytest.raises(ConfigError, match="reset = 'halved': is none of hard, soft, subtract, none"):
        parse_config(tree)
    monkeypatch.setitem(RESETS, "halved", Reset(after=halved, adjoint=halved_adjoint))
    torch.manual_seed(0)
    network = build(parse_config(tree).model, 10, 3, 10.0).double().eval()
    hard = (
        build(parse_config({"model": tree["model"] | {"reset": "hard"}}).model, 10, 3, 10.0).double().eval()
    )
    hard.load_state_dict(network.state_dict())
    x = (torch.rand(30, 4, 10, dtype=torch.float64) < 0.4).double()
    with torch.no_grad():
        ours, others = (net(x, whole=True).spikes[0] for net in (network, hard))
    graph = lower(network)
    result = simulate(graph, EventBatch.from_dense(x.numpy()), dtype="float64")
    np.testing.assert_array_equal(result.spikes["hidden0"].to_dense(len(ours)), ours.numpy())
    assert not torch.equal(ours, others), "the example must tell this reset from another"


def reads_an_array(v, x, v_th):
    return TABLE[0] * v, v, x


def calls_a_reader(v, x, v_th):
    return reads_an_array(v, x, v_th)


def calls_torch(v, x, v_th):
    return torch.sigmoid(v), v, x


def calls_functional(v, x, v_th):
    return torch.nn.functional.relu(v), v, x


def reads_nothing_there(v, x, v_th):
    return v, v, x + missing  # noqa: F821


def names_a_variable_real(v, x, v_th):
    real = v + x
    return real >= v_th, real, real


def closes_over(table):
    def inner(v, x, v_th):
        return v, v, x + table[0]

    return inner


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (reads_an_array, "'reads_an_array' uses 'TABLE', a ndarray; .*a parameter of the neuron"),
        (calls_a_reader, "'calls_a_reader' calls 'reads_an_array': 'reads_an_array' uses 'TABLE'"),
        (calls_torch, "uses 'torch.sigmoid', a builtin_function_or_method; .*write out"),
        (calls_functional, "calls 'torch.nn.functional.relu': 'relu' uses"),
        (reads_nothing_there, "uses 'missing', which its module does not define"),
        (names_a_variable_real, "has a variable 'real'"),
        (closes_over(np.ones(2)), "'inner' uses 'table', a ndarray"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_carried_is_refused_by_name(function, words):
    with pytest.raises(ParameterError, match=words):
        step_source(step=function)
    for used in ("reference", "numba"):
        NEURONS["broken"] = lambda: Neuron("broken", ("v_th",), ("v",), function)
        try:
            with backend.use(used), torch.no_grad(), pytest.raises(ParameterError, match=words):
                run("broken", torch.ones(3, 2), None, {"v_th": 1.0})
        finally:
            del NEURONS["broken"]


def two_of_a_name():
    SLOPE = 2.0

    def helper(v):
        return SLOPE * v

    def outer(v, x, v_th):
        spike = v >= v_th
        return spike, helper(v), (0 < x < LIMIT) * x

    return outer


def test_closures_chains_and_names_of_the_kernels_own_are_no_trouble():
    """A variable "spike", a constant of infinity, a chain of comparisons."""
    NEURONS["plain"] = lambda: Neuron("plain", ("v_th",), ("v",), two_of_a_name())
    try:
        x = battery.inputs((9, 2, 3))
        found = []
        for used in ("reference", "numba"):
            with backend.use(used), torch.no_grad():
                found.append(run("plain", x, None, {"v_th": 0.8}, trace=True))
        assert torch.equal(found[0].s, found[1].s)
        assert torch.equal(found[0].h, found[1].h)
        assert torch.equal(found[0].h[1], 2 * x[0].clamp(min=0))
    finally:
        del NEURONS["plain"]


def test_a_neuron_registered_anew_is_computed_anew():
    x = torch.ones(3, 2)
    for factor in (1.0, 2.0):
        NEURONS["again"] = lambda factor=factor: Neuron("again", ("g",), ("v",), STEPS[factor], spiking=False)
        assert run("again", x, None, {"g": 1.0}, trace=True).h[0, 0] == factor
    del NEURONS["again"]


def once(v, x, g):
    return 0 * x, g * x, v


def twice(v, x, g):
    return 0 * x, 2 * g * x, v


STEPS = {1.0: once, 2.0: twice}
