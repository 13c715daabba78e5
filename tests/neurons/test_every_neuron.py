"""The battery that every neuron of `NEURONS` passes: adding to the list is adding the tests."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit import backend, neurons
from snnkit.errors import ParameterError
from snnkit.neurons import NEURONS, resolve
from snnkit.neurons.neuron import encode
from snnkit.neurons.run import run as run_neuron

OPTIONS = {
    "lif": [
        *(
            {"reset": r, **({"refractory": True} if k else {})}
            for r in ("hard", "soft", "none")
            for k in (0, 1)
        ),
        {"reset": "soft", "floor": True},
        {"reset": "subtract", "strict": True},
        {"reset": "subtract", "max_spikes": 3},
        {"reset": "hard", "strict": True, "floor": True, "refractory": True},
        *({"reset": r, "max_spikes": None, "floor": True} for r in ("hard", "soft", "none")),
        {"reset": "soft", "max_spikes": 2, "strict": True},
    ],
    "if": [{"reset": "hard"}, {"reset": "soft"}, {"reset": "soft", "max_spikes": None, "floor": True}],
    "cuba": [
        *({"reset": r, **({"refractory": True} if k else {})} for r in ("hard", "soft") for k in (0, 1)),
        {"reset": "soft", "strict": True},
        {"reset": "hard", "floor": True, "refractory": True},
        *({"reset": r, "max_spikes": 3, "floor": True} for r in ("hard", "soft")),
    ],
    "adlif": [{"discretisation": "se"}, {"discretisation": "euler"}],
}
VALUES = {
    "decay": 0.8,
    "decay_syn": 0.6,
    "decay_mem": 0.85,
    "decay_w": 0.9,
    "gain": 0.9,
    "a": 0.4,
    "b": 0.7,
    "v_th": 0.9,
    "v_reset": -0.2,
    "v_rest": 0.1,
    "v_min": -0.4,
    "refractory": 2.0,
}
TRAINED = [
    (name, options)
    for name in sorted(NEURONS)
    if not resolve(name, (OPTIONS.get(name) or [{}])[0]).integer
    for options in OPTIONS.get(name, [{}])
]
each = pytest.mark.parametrize(("name", "options"), TRAINED, ids=str)


def parameters(neuron, size=None, dtype=torch.float64, requires_grad=False):
    """Typical values, one per neuron where `size` is given; counts of steps stay whole."""
    g = torch.Generator().manual_seed(3)
    params = {}
    for n in neuron.params:
        value = torch.tensor(VALUES.get(n, 0.5), dtype=dtype)
        if size is not None:
            spread = torch.rand(size, generator=g, dtype=dtype)
            value = value + (torch.round(2 * spread) if n == "refractory" else 0.1 * (spread - 0.5))
        params[n] = value.requires_grad_(requires_grad and n != "refractory")
    return params


def inputs(shape, dtype=torch.float64, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=dtype) + 0.6


@each
@pytest.mark.parametrize("through", [False, True], ids=["detached", "through-reset"])
@pytest.mark.parametrize(("T", "B", "N"), [(1, 1, 1), (37, 3, 65)])
def test_gradients_of_everything_are_autograds(name, options, through, T, B, N, poison_empty):
    neuron = resolve(name, options)
    x = inputs((T, B, N)).requires_grad_()
    start = [inputs((B, N), seed=2 + k).mul(0.3).requires_grad_() for k in range(len(neuron.state))]
    for k, n in enumerate(neuron.state):
        if n in ("wait", "z"):
            start[k] = (start[k] > 0.3).double().requires_grad_(n == "z")
    params = parameters(neuron, N, requires_grad=True)
    wanted = [x, *start, *params.values()]
    wanted = [w for w in wanted if w.requires_grad]
    cotangents = [inputs((T, B, N), seed=11), inputs((T, B, N), seed=12), inputs((B, N), seed=13)]

    results = []
    for used in ("reference", "numba"):
        with backend.use(used):
            run = run_neuron(name, x, start, params, options=options, detach_reset=not through, trace=True)
        loss = (run.h * cotangents[1]).sum() + sum(
            (v * cotangents[2]).sum()
            for n, v in zip(neuron.state, run.state, strict=True)
            if n not in ("wait",)
        )
        if neuron.spiking:
            loss = loss + (run.s * cotangents[0]).sum()
        grads = torch.autograd.grad(loss, wanted, allow_unused=True)
        zeros = [torch.zeros_like(w) if g is None else g for g, w in zip(grads, wanted, strict=True)]
        results.append((run, zeros))
    (want, want_grads), (got, got_grads) = results

    if neuron.spiking:
        assert T == 1 or 0 < (want.s > 0).double().mean() < 1, "the example must spike, and not always"
        assert T == 1 or (want.s.max() > 1) == neuron.counts, "several spikes a step are to be seen"
        assert torch.equal(got.s, want.s)
    assert torch.equal(got.h, want.h)
    for a, b in zip((*got.state, *got_grads), (*want.state, *want_grads), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@each
def test_float32_spikes_are_the_references(name, options):
    neuron = resolve(name, options)
    x = inputs((60, 4, 33), torch.float32)
    params = parameters(neuron, dtype=torch.float32)
    with backend.use("reference"):
        want = run_neuron(name, x, None, params, options=options, trace=True)
    got = run_neuron(name, x, None, params, options=options, trace=True)
    assert torch.equal(got.s, want.s)
    assert torch.equal(got.h, want.h)


@each
@settings(max_examples=20)
@given(data=st.data())
def test_running_in_two_pieces_changes_nothing(name, options, data):
    """Streaming: the state that is carried over holds all that the past can do."""
    neuron = resolve(name, options)
    steps = data.draw(st.integers(2, 40))
    cut = data.draw(st.integers(1, steps - 1))
    x = inputs((steps, 2, 3), seed=data.draw(st.integers(0, 1000)))
    params = parameters(neuron)

    def run(x, state=None):
        return run_neuron(name, x, state, params, options=options, trace=True)

    whole, first = run(x), run(x[:cut])
    second = run(x[cut:], first.state)
    assert torch.equal(torch.cat([first.s, second.s]), whole.s)
    assert torch.equal(torch.cat([first.h, second.h]), whole.h)
    assert all(torch.equal(a, b) for a, b in zip(second.state, whole.state, strict=True))


@each
def test_neurons_do_not_know_their_neighbours(name, options):
    neuron = resolve(name, options)
    x = inputs((30, 3, 21))
    order = torch.randperm(21, generator=torch.Generator().manual_seed(0))
    params = parameters(neuron, 21)
    moved = {n: p[order] for n, p in params.items()}
    want = run_neuron(name, x, None, params, options=options, trace=True).h[..., order]
    assert torch.equal(run_neuron(name, x[..., order], None, moved, options=options, trace=True).h, want)


@each
def test_the_step_acts_alike_on_floats_and_arrays(name, options):
    neuron = resolve(name, options)
    x = inputs((25, 7)).numpy()
    params = {n: p.item() for n, p in parameters(neuron).items()}
    state = [np.zeros(7) for _ in neuron.state]
    scalars = [[0.0] * len(neuron.state) for _ in range(7)]
    run = run_neuron(name, torch.from_numpy(x)[:, None], None, params, options=options, trace=True)
    for t in range(25):
        _, h, *state = neuron.step(*state, x[t], *params.values())
        for j in range(7):
            _, one, *scalars[j] = neuron.step(*scalars[j], float(x[t, j]), *params.values())
            assert one == h[j]
        np.testing.assert_array_equal(run.h[t, 0].numpy(), h)


@each
def test_the_operator_holds_torchs_contract(name, options):
    """Schema, fake kernel and autograd registration, as torch.compile relies on them."""
    neuron = resolve(name, options)
    params = list(parameters(neuron, 5, requires_grad=True).values())
    x = inputs((4, 2, 5)).requires_grad_()
    start = [torch.zeros(2, 5, dtype=torch.float64) for _ in neuron.state]
    learn = ",".join(n for n in neuron.params if n != "refractory")
    text = encode(options)
    torch.library.opcheck(
        torch.ops.snnkit.scan.default,
        (x, start, params, name, text, "atan", 2.0, True, True, True, learn, "numba"),
    )


@each
def test_a_population_names_a_neuron_and_its_parameters(name, options):
    modules = {"lif": neurons.LIF, "if": neurons.IF, "cuba": neurons.CubaLIF, "adlif": neurons.AdLIF}
    if name not in modules:
        pytest.skip(f"{name} has no module with options")
    arguments = {"lif": (5.0,), "if": (), "cuba": (5.0, 8.0), "adlif": (5.0, 30.0)}[name]
    named = {k: (2 if k == "refractory" else v) for k, v in options.items()}
    if named.pop("floor", False):
        named["v_min"] = -0.5
    population = modules[name](*arguments, **named).population("hidden", 12)
    neuron = resolve(population.neuron, population.options)
    assert neuron == resolve(name, options) or neuron.params == resolve(name, options).params
    assert set(population.params) == set(neuron.params)
    assert all(p.dtype == np.float64 for p in population.params.values())


def test_an_unknown_neuron_or_option_names_what_there_is():
    with pytest.raises(ParameterError, match=r"known are .*lif"):
        resolve("lief")
    with pytest.raises(ParameterError, match="hard, soft, subtract, none"):
        resolve("lif", {"reset": "gentle"})
    with pytest.raises(ParameterError, match="do not fit"):
        resolve("li", {"reset": "soft"})
