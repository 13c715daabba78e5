"""Thresholds that are strict, counted or have a floor: laws, closed forms, the frameworks' functions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnkit import backend
from snnkit.engine import simulate
from snnkit.errors import ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Projection
from snnkit.neurons import IF, LIF, SURROGATES, CubaLIF, resolve

WHOLE = st.integers(-40, 40)


def one_step(x, **options):
    """Spikes and potential of an IF at 0 that takes x, float64."""
    neuron = IF(**options).double()
    x = torch.as_tensor(x, dtype=torch.float64).reshape(1, -1)
    run = neuron.run(x, [torch.zeros_like(x[0])])
    return run.s[0].numpy(), run.state[0].numpy()


@given(h=st.lists(WHOLE, min_size=1), v_th=st.integers(1, 7), most=st.none() | st.integers(1, 5))
def test_counts_are_the_multiples_that_are_reached_or_exceeded(h, v_th, most):
    """In whole numbers, by counting them."""
    top = 50 if most is None else most
    for strict in (False, True):
        want = [min(sum(k > n * v_th if strict else k >= n * v_th for n in range(1, 50)), top) for k in h]
        s, v = one_step(h, v_th=v_th, reset="soft", strict=strict, max_spikes=most)
        assert s.tolist() == want
        assert v.tolist() == [k - n * v_th for k, n in zip(h, want, strict=True)]
        s, v = one_step(h, v_th=v_th, v_reset=-3.0, strict=strict, max_spikes=most)
        assert s.tolist() == want
        assert v.tolist() == [-3.0 if n else k for k, n in zip(h, want, strict=True)]


@given(h=st.lists(WHOLE, min_size=1), floor=WHOLE)
def test_a_floor_holds_after_the_reset(h, floor):
    for reset in ("hard", "soft"):
        s, v = one_step(h, v_th=10.0, reset=reset, v_min=float(floor))
        assert s.tolist() == [float(k >= 10) for k in h]
        left = [(0 if reset == "hard" else k - 10) if k >= 10 else k for k in h]
        assert v.tolist() == [max(k, floor) for k in left]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_are_those_of_sinabs_and_rockpool_at_every_multiple(dtype):
    """Decimal thresholds, whose multiples are rounded: 0.3 / 0.1 is below 3."""
    activation = pytest.importorskip("sinabs.activation")
    rockpool = pytest.importorskip("rockpool.nn.modules.torch.lif_torch")
    for v_th in (0.1, 0.3, 0.7, 1.1):
        h = torch.cat([k * torch.tensor([0.1, 0.3, 0.7, 1.1], dtype=dtype) for k in range(1, 40)])
        h = torch.cat([h, torch.nextafter(h, -h), torch.nextafter(h, 2 * h), -h])
        level = torch.tensor(v_th, dtype=dtype)
        neuron = IF(v_th=level, reset="soft", max_spikes=None).to(dtype)
        neuron.v_th = level  # in all its digits
        run = neuron.run(h[None])
        counted = activation.MultiSpike.apply(h, level, None).to(dtype)
        assert torch.equal(run.s[0], counted)
        assert torch.equal(run.s[0], rockpool.StepPWL.apply(h, level).to(dtype))
        assert torch.equal(run.state[0], h - counted * level)
        capped = IF(v_th=level, reset="soft", max_spikes=3).to(dtype)
        capped.v_th = level
        assert torch.equal(capped(h[None])[0], activation.MaxSpike(3).apply(h, level, None).to(dtype))


@pytest.mark.parametrize("used", ["reference", "numba"])
def test_the_surrogate_stands_at_the_nearest_multiple(used):
    """By hand: potentials of 0.3, 1.6, 2.2 and 9 thresholds of 0.5, of which 4 at most are counted."""
    neuron = IF(v_th=0.5, reset="soft", max_spikes=4, learn_threshold=True, size=4).double()
    x = torch.tensor([[0.15, 0.8, 1.1, 4.5]], dtype=torch.float64, requires_grad=True)
    with backend.use(used):
        s = neuron(x)
        gx, gv = torch.autograd.grad(s.sum(), [x, neuron.v_th])
    level = np.array([1, 2, 2, 4])
    slope = SURROGATES["atan"].ds_dh(x.detach().numpy()[0] - 0.5 * level, 2.0)
    assert s.tolist() == [[0, 1, 2, 4]]
    np.testing.assert_allclose(gx.numpy()[0], slope, rtol=1e-12)
    np.testing.assert_allclose(gv.numpy(), -level * slope, rtol=1e-12)


def test_below_the_floor_only_the_floor_has_a_gradient():
    params = {"decay": 1.0, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    floor = torch.tensor(-0.5, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[-2.0, 0.25]], dtype=torch.float64, requires_grad=True)
    from snnkit.neurons.run import run

    v = run("if", x, None, params | {"v_min": floor}, options={"floor": True}).state[0]
    assert v.tolist() == [-0.5, 0.25]
    gx, gv = torch.autograd.grad(v.sum(), [x, floor])
    assert gx.tolist() == [[0.0, 1.0]]
    assert gv.item() == 1.0


@pytest.mark.parametrize(
    "neuron",
    [
        LIF(decay=0.8, reset="soft", max_spikes=None, v_min=-0.7),
        LIF(decay=0.8, strict=True, refractory=2, v_min=-0.2),
        CubaLIF(decay_syn=0.5, decay_mem=0.8, max_spikes=3),
        IF(reset="soft", max_spikes=2, strict=True),
    ],
    ids=["counts", "strict", "cuba", "if"],
)
def test_the_engine_gives_the_counts_of_training(neuron):
    x = (torch.rand(80, 2, 9, generator=torch.Generator().manual_seed(4)) < 0.4).double()
    weight = torch.randn(6, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.4
    trained = neuron.double()(x @ weight.T)
    graph = Graph(
        {"in": neuron.population("in", 9), "a": neuron.population("a", 6)},
        [Projection("w", "in", "a", weight.numpy())],
    )
    graph.populations["in"].neuron, graph.populations["in"].options = "input", {}
    graph.populations["in"].params = {}
    events = EventBatch.from_dense(x.numpy())
    for used in ("reference", "numba"):
        found = simulate(graph, events, backend=used, dtype="float64").spikes["a"].to_dense(80)
        np.testing.assert_array_equal(found, trained.numpy())
    assert (trained.max() > 1) == resolve(neuron.neuron, neuron.options).counts


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LIF(5.0, max_spikes=0), "'lif': max_spikes must be an integer from 1, or None"),
        (lambda: IF(max_spikes=2.5), r"'if': max_spikes must be an integer from 1.*got 2\.5"),
        (lambda: CubaLIF(2.0, 5.0, max_spikes=2, refractory=1), "'cuba': max_spikes = 2 and a refractory"),
        (lambda: LIF(5.0, max_spikes=None, v_th=[1.0, 0.0]), "v_th must be above 0 where a step may give"),
    ],
)
def test_what_does_not_go_together_is_named(make, words):
    with pytest.raises(ParameterError, match=words):
        make()
