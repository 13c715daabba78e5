"""Modules made of a `forward`, and what holds their Graph to them."""

import inspect

import numpy as np
import torch
from torch import nn

from snnkit.engine import simulate
from snnkit.events import EventBatch
from snnkit.neurons import LIF
from snnkit.training import lower
from tests.helpers.random_networks import outputs

STEPS, BATCH = 20, 2


def module(forward, **parts):
    """A module with this `forward` and these parts, in evaluation mode and float64."""
    made = type("Mine", (nn.Module,), {"forward": forward})()
    for name, part in parts.items():
        setattr(made, name, part)
    return made.double().eval()


def lif(**options):
    return LIF(tau_mem=3.0, v_th=0.2, **options)


def spikes(*shape, seed=0, rate=0.3):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(STEPS, BATCH, *shape, generator=generator) < rate).double()


def agrees(network, *inputs):
    """Holds the lowered network to the module, spike for spike; returns the graph and its spikes in all."""
    names = ["input", *(f"input{k}" for k in range(1, len(inputs)))]
    graph = lower(network, {n: tuple(x.shape[2:]) for n, x in zip(names, inputs, strict=True)}, dt=1.0)
    made, found = outputs(network, *inputs)
    events = {n: EventBatch.from_dense(x.flatten(2).numpy()) for n, x in zip(names, inputs, strict=True)}
    potentials = [n for n in graph.outputs if graph.populations[n].neuron == "li"]
    result = simulate(graph, events, steps=STEPS, record=[(n, "v") for n in potentials], dtype="float64")
    assert set(found) == set(graph.populations) - set(names)
    total = 0
    for name, want in found.items():
        if name in potentials:
            np.testing.assert_allclose(result.recorded[name, "v"], want, rtol=1e-9, atol=1e-9)
        else:
            np.testing.assert_array_equal(result.spikes[name].to_dense(STEPS), want, err_msg=name)
            total += int(want.sum())
    for name, want in zip(graph.outputs, made if isinstance(made, tuple) else (made,), strict=True):
        np.testing.assert_array_equal(found[name], want.flatten(2))
    return graph, total


def line_of(function, words):
    """Number of the one line of a function's source that holds the words."""
    lines, first = inspect.getsourcelines(function)
    (found,) = [first + k for k, line in enumerate(lines) if words in line]
    return found
