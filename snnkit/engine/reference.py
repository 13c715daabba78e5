"""The definition: a network simulated densely, one step and one matrix at a time.

    x[t] = Σ_projections Σ_d W_d · s_source[t − d] + bias          input of a population
    s[t], h[t], state[t] = neuron.step(state[t − 1], x[t], params)

W_d holds the weights of delay d. Every other simulator of snnkit must give the same spikes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import INPUT, Graph
from ..neurons.neuron import resolve
from .synapses import synapses


def by_delay(graph: Graph, index: int, dtype: Any) -> dict[int, np.ndarray]:
    """Delay → dense weights [O, I] of projection `index`; synapses with equal ends and delay add up."""
    projection = graph.projections[index]
    shape = (graph.populations[projection.target].size, graph.populations[projection.source].size)
    listed = synapses(graph, projection)
    matrices = {}
    for d in np.unique(listed.delay):
        chosen = listed.delay == d
        matrices[int(d)] = np.zeros(shape, dtype)
        np.add.at(matrices[int(d)], (listed.target[chosen], listed.source[chosen]), listed.weight[chosen])
    return matrices


def shifted(x: np.ndarray, shift: int) -> np.ndarray:
    """Arithmetic right shift (rounds down) of int64 [N]; a negative `shift` goes left."""
    return x >> shift if shift >= 0 else x << -shift


def run(
    graph: Graph, inputs: dict[str, np.ndarray], steps: int, dtype: Any
) -> tuple[dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]:
    """Spikes and variables of one sample.

    inputs  input population → dense spikes [T, I]; steps past its end are silent
    dtype   a float type; or an integer type: then sums are int64 and states int32
    Returns ({population: s [T, N]}, {(population, variable): [T, N]}), the variables being the
    states after each step, "h" and "x".
    """
    integer = np.dtype(dtype).kind == "i"
    wide = np.dtype(np.int64) if integer else np.dtype(dtype)
    stored = np.dtype(np.int32) if integer else wide
    matrices = [by_delay(graph, k, wide) for k in range(len(graph.projections))]
    sent: dict[str, np.ndarray] = {}
    recorded: dict[tuple[str, str], np.ndarray] = {}
    neurons, states, params = {}, {}, {}
    for name, population in graph.populations.items():
        sent[name] = np.zeros((steps, population.size), wide)
        if population.neuron == INPUT:
            given = inputs.get(name, np.zeros((0, population.size)))[:steps]
            sent[name][: len(given)] = given
            continue
        neuron = neurons[name] = resolve(population.neuron, population.options)
        start: dict[str, Any] = {**neuron.start, **population.initial}
        states[name] = [
            np.broadcast_to(start[v], population.shape).reshape(-1).astype(stored) for v in neuron.state
        ]
        params[name] = [population.param(p, wide) for p in neuron.params]
        for variable in (*neuron.state, "h", "x"):
            kind = wide if variable in "hx" else stored
            recorded[name, variable] = np.zeros((steps, population.size), kind)

    for t in range(steps):
        for name in graph.order():
            population = graph.populations[name]
            if population.neuron == INPUT:
                continue
            neuron = neurons[name]
            x = np.zeros(population.size, wide)
            for projection, weights in zip(graph.projections, matrices, strict=True):
                if projection.target != name:
                    continue
                shift = int(projection.options.get("shift", 0))
                for d, w in weights.items():
                    if d <= t:
                        arriving = w @ sent[projection.source][t - d]
                        x += shifted(arriving, shift) if integer else arriving
            x += np.broadcast_to(population.bias, population.shape).reshape(-1).astype(wide)
            before = [s.astype(wide) for s in states[name]]
            with np.errstate(over="ignore", under="ignore"):
                s, h, *after = neuron.step(*before, x, *params[name])
            states[name] = [np.broadcast_to(v, x.shape).astype(stored) for v in after]
            if neuron.spiking:
                sent[name][t] = s
            for variable, value in zip(neuron.state, states[name], strict=True):
                recorded[name, variable][t] = value
            recorded[name, "h"][t], recorded[name, "x"][t] = h, x
    return sent, recorded
