"""`snnkit simulate`: a Graph run on real inputs, alone or beside the network that it came from."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import engine
from ..datasets.splits import Data
from ..engine.readout import classify, hits, read_out, recorded, rule_of, tied
from ..errors import ParameterError, listed
from ..events import EventBatch
from ..files import PathLike
from ..graph import Graph
from ..hardware.graded import sent
from ..metadata import Timing
from ..training.checkpoint import load_network
from ..training.config import Model
from ..training.evaluation import as_tensors
from ..training.losses import kind_of
from ..training.own import runner
from .data import data_of
from .formats import AS_WRITTEN, Reading, load

_log = logging.getLogger("snnkit.commands")


def simulate_on_data(
    net: PathLike,
    split: str = "valid",
    settings: Sequence[str] = (),
    *,
    limit: int | None = None,
    dtype: str | None = None,
    against: PathLike | None = None,
    engine: str = "snnkit",
    reading: Reading = AS_WRITTEN,
) -> dict[str, Any]:
    """Accuracy, spikes and time of a graph file; with `against`, also the share of spikes in common.

    With a class in every step "step_accuracy" is the share of steps that count whose highest output is their
    class; other targets have neither. "silent" names what gave no spike; "tied", where there are any, is the
    number of samples whose highest score several classes share, of which the first is taken.

    "spikes_per_inference" counts each spike of a neuron that fires several times a step; synaptic operations,
    "synops_per_inference", are one for each such event.

    The time of an inference is that of kernels at hand: ``first_inference_ms`` is one sample before them, in
    which kernels are compiled, or read from Numba's cache, and the network is laid out.
    """
    graph = load(net, reading)
    data = data_of(graph, split, settings, limit)
    simulate = simulator(engine)
    options = {} if dtype is None else {"dtype": dtype}

    def run(events: EventBatch) -> Any:
        return simulate(graph, sent(graph, events), record=recorded(graph), **options)

    before = time.perf_counter()
    run(data.subset(np.arange(1)).events)
    started = time.perf_counter()
    right, synops, fired = Right(data.labels), 0, Counter(dict.fromkeys(_spiking(graph), 0))
    for start in range(0, len(data), 64):
        part = data.subset(np.arange(start, min(start + 64, len(data))))
        result = run(part.events)
        right.add_run(result, graph, part)
        sums = result.counts.get("spike_sum", result.counts["spikes"]).items()  # NEST's all carry 1
        fired.update({n: float(s.sum()) for n, s in sums if n not in graph.inputs})
        synops += sum(int(n.sum()) for n in result.counts.get("synops", {}).values())
    seconds = time.perf_counter() - started
    silent = [name for name in _spiking(graph) if fired[name] == 0]
    if silent:
        _log.warning(
            "%s gave no spike on %s: what follows hears nothing of it.", listed(map(repr, silent)), split
        )
    summary: dict[str, Any] = {
        **{key: graph.metadata[key] for key in ("convention", "readout") if key in graph.metadata},
        "split": split,
        "samples": len(data),
        **right.share(),
        **({"tied": right.tied} if right.tied else {}),
        "spikes_per_inference": fired.total() / len(data),
        "synops_per_inference": synops / len(data),
        "ms_per_inference": 1e3 * seconds / len(data),
        "first_inference_ms": 1e3 * (started - before),
        "silent": silent,
    }
    if against is not None:
        network, config, _ = load_network(against)
        summary |= agreement(network, graph, data, dtype or "float32", config.model)
    return summary


def _spiking(graph: Graph) -> list[str]:
    """The populations that should spike: all but inputs, relays and outputs that are read by potential."""
    quiet = [] if rule_of(graph).of_spikes else graph.outputs
    return [n for n in graph.populations if n not in (*graph.inputs, *quiet) and "~relay" not in n]


class Right:
    """How many samples, or steps that count, are classified correctly, and of how many the score is a tie.

    labels  of the data: a class a sample or in every step; of other targets nothing is counted
    """

    def __init__(self, labels: np.ndarray) -> None:
        kind = kind_of(labels)
        self.steps, self.known = kind == "steps", kind in ("class", "steps")
        self.right = self.of = self.tied = 0

    def add(self, scores: np.ndarray, values: np.ndarray | None, lengths: np.ndarray, data: Data) -> None:
        """Count a batch of scores [B, C]; of values [T, B, C] and lengths [B] where steps are counted."""
        if self.steps and values is not None:
            right, of = hits(values, lengths, data.labels)
        elif self.known:
            right, of = int((scores.argmax(1) == data.labels).sum()), len(scores)
            self.tied += tied(scores)
        else:
            return
        self.right, self.of = self.right + right, self.of + of

    def add_run(self, result: engine.Result, graph: Graph, data: Data) -> None:
        """Count a run of a Graph on `data`."""
        lengths = data.lengths
        late = Timing.of(graph.metadata).latency
        values = read_out(result, graph)[late:] if self.steps else None
        self.add(classify(result, graph, lengths), values, lengths, data)

    def share(self, prefix: str = "") -> dict[str, float]:
        """ "accuracy" or "step_accuracy" and the share; nothing where there is none."""
        name = f"{prefix}{'step_' * self.steps}accuracy"
        return {name: self.right / max(self.of, 1)} if self.known else {}


def simulator(name: str) -> Any:
    """`snnkit.engine.simulate`, or its twin that runs on NEST. Raises `ParameterError` for another name."""
    if name == "snnkit":
        return engine.simulate
    if name == "nest":
        from ..interop import nest

        return nest.simulate
    raise ParameterError(f"unknown engine {name!r}; known are snnkit and nest.")


@torch.no_grad()
def agreement(
    network: nn.Module, graph: Graph, data: Data, dtype: str = "float32", model: Model | None = None
) -> dict[str, Any]:
    """Hold the engine's spikes and predictions on `data` against the trained network's own.

    model  of its configuration, for a network of one's own

    With ``padding="grow"`` the network is run over all steps in every layer, as the Graph is.

    Returns how many spikes of hidden neurons at least one of the two has, the share of them that both
    have, the share of (step, neuron) cells that agree, and both accuracies, as `simulate_on_data` has them.
    """
    network = network.eval()
    run = runner(network, model, data.shape, None)
    was = next((p.dtype for p in network.parameters()), torch.float32)
    network = network.double() if dtype == "float64" else network
    names = [name for name in graph.populations if name not in (*graph.inputs, *graph.outputs)]
    cells = same = either = both = 0
    right = {"network": Right(data.labels), "graph": Right(data.labels)}
    for start in range(0, len(data), 64):
        indices = np.arange(start, min(start + 64, len(data)))
        x, lengths, _ = as_tensors(data.batch(indices), network)
        out = run(x, lengths, whole=True)
        part = data.subset(indices)
        result = engine.simulate(graph, part.events, record=recorded(graph), dtype=dtype, progress=False)
        right["network"].add(out.scores.numpy(), out.v.numpy(), lengths.numpy(), part)
        right["graph"].add_run(result, graph, part)
        for name, s in zip(names, out.spikes, strict=True):
            ours = result.spikes[name].to_dense(s.shape[0], bool)
            theirs = (s != 0).numpy() & out.mask[: s.shape[0], :, None].numpy()
            cells += int(out.mask[: s.shape[0]].sum()) * s.shape[2]
            same += int(out.mask[: s.shape[0]].sum()) * s.shape[2] - int((ours != theirs).sum())
            either += int((ours | theirs).sum())
            both += int((ours & theirs).sum())
    network.to(was)
    return {
        "dtype": dtype,
        "spikes": either,
        "equal_spikes": both / either if either else 1.0,
        "equal_cells": same / max(cells, 1),
        **right["network"].share("network_"),
        **right["graph"].share("graph_"),
    }
