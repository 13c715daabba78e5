"""Any architecture, trained: network, checkpoint, Graph, engine and the chip's integers say the same."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnkit.datasets.splits import Splits
from snnkit.engine import simulate
from snnkit.engine.readout import classify, recorded
from snnkit.errors import ExportError
from snnkit.graph import Graph
from snnkit.hardware import loihi
from snnkit.hardware.graded import sent
from snnkit.hardware.quantise import quantise
from snnkit.readouts import READOUTS
from snnkit.training import Trainer, load_network, lower
from snnkit.training.config import parse_config
from snnkit.training.evaluation import as_tensors
from snnkit.training.own import runner
from tests.helpers.architectures import dense, images
from tests.helpers.random_networks import ALL, ON_CHIP, SHAPE, Network

DT, CLASSES, STEPS = 10.0, 3, 10
CHIPS_OWN = ("lif", "cuba", "if")


@st.composite
def training(draw):
    """Keys of ``[train]`` that change what one or two epochs do."""
    return {
        "epochs": draw(st.integers(1, 2)),
        "batch": draw(st.sampled_from([3, 5, 20])),
        "seed": draw(st.integers(0, 99)),
        "weights": {"lr_max": 0.03},
        "rate_strength": draw(st.sampled_from([0.0, 0.1])),
        "precision": draw(st.sampled_from(["float32", "float32", "bfloat16"])),
        "gradient_accumulation": draw(st.integers(1, 2)),
        "threads": 1,
        "device": "cpu",
    }


@st.composite
def models(draw, shape):
    """``[model]`` for inputs of `shape`; half of them of neurons that a chip has cells for."""
    neurons = draw(st.sampled_from([("lif", "cuba", "adlif", "if"), CHIPS_OWN]))
    layers = draw(dense(neurons) if len(shape) == 1 else images(neurons))
    readout = draw(st.sampled_from(list(READOUTS)))
    return {
        "layers": layers,
        "delays": draw(st.sampled_from(["learned", "none", "axonal", "dendritic"])),
        "max_delay": 3,
        "tau_mem": 20.0,
        "v_th": 0.5,
        "dropout": draw(st.sampled_from([0.0, 0.3])),
        "readout": readout,
    }


@st.composite
def runs(draw):
    """A configuration, data for it, and what makes a module of one's own (None: of the configuration)."""
    shape = draw(st.sampled_from([(8,), (2, 6, 7), SHAPE]))
    train = draw(training())
    if shape == SHAPE:
        seed, neurons = draw(st.integers(0, 1 << 16)), draw(st.sampled_from([ALL, ON_CHIP]))
        tree = {"model": {"max_delay": 3, "tail": draw(st.integers(0, 4))}, "train": train}
        return parse_config(tree), data(shape, 5, train["seed"]), lambda: Network(seed, neurons).float()
    return (
        parse_config({"model": draw(models(shape)), "train": train}),
        data(shape, CLASSES, train["seed"]),
        None,
    )


def data(shape, classes, seed):
    """Counts in 12 and 6 recordings of up to `STEPS` steps."""
    rng = np.random.default_rng(seed)

    def part(samples):
        x = rng.poisson(0.5, (samples, STEPS, *shape)).astype(np.uint8)
        return [one[: rng.integers(STEPS - 3, STEPS + 1)] for one in x], np.arange(samples) % classes

    return Splits.from_arrays(train=part(12), valid=part(6), dt=DT, classes=[str(c) for c in range(classes)])


def said(network, part, model):
    """What a network in float64 says of data: its `Output`, with the layers run on all steps."""
    network = copy.deepcopy(network).double().eval()
    x, lengths, _ = as_tensors(part.batch(np.arange(len(part))), network)
    with torch.no_grad():
        return network, runner(network, model, part.shape, None)(x, lengths, whole=True)


def engine_equals(graph, part, want):
    """Holds the engine's hidden spikes and scores to the network's; how many spikes there are."""
    result = simulate(graph, part.events, record=recorded(graph), dtype="float64", progress=False)
    hidden = [name for name in graph.populations if name not in (*graph.inputs, *graph.outputs)]
    assert len(hidden) == len(want.spikes)
    total = 0
    for name, s in zip(hidden, want.spikes, strict=True):
        inside = want.mask[: len(s), :, None].numpy()
        got = result.spikes[name].to_dense(len(s), np.float64) * inside
        np.testing.assert_array_equal(got, s.numpy() * inside, err_msg=name)
        total += int(got.sum())
    scores = classify(result, graph, part.events.lengths)
    np.testing.assert_allclose(scores, want.scores.numpy(), rtol=1e-9, atol=1e-11)
    return total


def integers_equal(graph, part, decays):
    """Holds the engine to the plain model of the chip, state for state; whether the chip takes the graph."""
    try:
        integer = quantise(graph, calibration=part.events, decays=decays)
    except ExportError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        named = [repr(name) for name in (*graph.populations, *(p.name for p in graph.projections))]
        assert any(name in refusal for name in named), refusal
        return False
    events = sent(integer, part.events)
    steps = STEPS + 12
    want, got = loihi.reference(integer, events, steps), loihi.simulate(integer, events, steps)
    for kind in ("spikes", "u", "v"):
        for name, values in getattr(want, kind).items():
            np.testing.assert_array_equal(getattr(got, kind)[name], values, err_msg=f"{kind} of {name}")
    return True


def chain(run, decays, folder):
    """One run from data to integers; spikes that were compared, and whether the chip took the network."""
    config, splits, make = run
    own = {} if make is None else {"network": make()}
    trainer = Trainer(config, splits, folder, progress=False, **own)
    before = copy.deepcopy(trainer.network.state_dict())
    network = trainer.fit()
    assert any(not torch.equal(v, before[k]) for k, v in network.state_dict().items())
    double, want = said(network, splits.valid, config.model)

    again, _, _ = load_network(folder / "last.pt", **({} if make is None else {"network": make()}))
    _, same = said(again, splits.valid, config.model)
    assert torch.equal(same.scores, want.scores)
    assert len(same.spikes) == len(want.spikes)
    assert all(torch.equal(a, b) for a, b in zip(same.spikes, want.spikes, strict=True))

    shape = splits.train.shape
    graph = lower(double, shape, DT, trainer.graph().metadata)
    graph.save(folder / "net.h5")
    graph = Graph.load(folder / "net.h5")
    return engine_equals(graph, splits.valid, want), integers_equal(graph, splits.valid, decays)


def holds(examples):
    """The property; run it to look at that many architectures."""
    seen = []

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(run=runs(), decays=st.sampled_from(["refuse", "shared", "per_neuron"]))
    def property(run, decays):
        with tempfile.TemporaryDirectory() as folder:
            seen.append(chain(run, decays, Path(folder)))

    property()
    return seen


@pytest.mark.parametrize("examples", [12, pytest.param(150, marks=pytest.mark.slow)])
def test_a_trained_network_is_the_same_in_every_form_it_takes(examples):
    seen = holds(examples)
    assert np.median([spikes for spikes, _ in seen]) > 20
    assert 0.2 < np.mean([taken for _, taken in seen]) < 1
