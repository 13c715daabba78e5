"""Coarser bins for networks with delays: 10 → 20 → 40 ms, each stage from the one before.

What IIR-SNN does to the steps of an image is done to the bins of a recording, whose time steps carry
the signal and can't be cut to one. With r the ratio of the new bin to the old,

    delays        position / r, the window in as many ms as before; σ / r, but at least the final one
    leak          λ → λ^r
    input gain    what one event adds to a potential stays; a bin gathers the events of r bins
    batch norm    measured anew on the coarser bins, with γ so that γ / √(σ² + ε) stays, and r times the
                  offset, since one step now does the work of r

and the network is trained further.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets import Splits
from ..engine import simulate
from ..errors import ParameterError
from ..files import PathLike
from ..graph import Graph
from ..training.checkpoint import check_configuration, load_network
from ..training.config import Config, Model, parse_config
from ..training.evaluation import as_tensors, evaluate
from ..training.lowering import lower
from ..training.network import Layer, SpikingClassifier, TimeBatchNorm, build
from ..training.trainer import Trainer

BinCost = Callable[[Graph, Any], dict[str, float]]
"""``cost(graph, events)``: further figures of a stage, such as energy and latency of a chip."""


def coarser(config: Config, dt: float) -> Config:
    """The configuration of the stage with bins of `dt` ms: λ^r as its tau_mem, the same window in ms.

    Raises `ParameterError` unless `dt` is longer than the configuration's.
    """
    ratio = dt / config.data.dt
    if not ratio > 1:
        raise ParameterError(f"bins of {dt} ms are not coarser than {config.data.dt} ms.")
    model = config.model
    if not model.plain:
        raise ParameterError(
            "coarser bins are worked out for model.hidden of neuron 'lif' with delays at the synapses; this "
            "network has other neurons, recurrence or [[model.layers]]. Train it with the coarser data.dt."
        )
    changes: dict[str, Any] = {
        "tau_mem": _coarser_tau(model.tau_mem, config.data.dt, dt),
        "max_delay": max(1, math.ceil(model.max_delay / ratio)) if model.delays != "none" else 0,
    }
    if model.tau_readout is not None:
        changes["tau_readout"] = _coarser_tau(model.tau_readout, config.data.dt, dt)
    if model.tail is not None:
        changes["tail"] = math.ceil(model.tail / ratio)
    tree = config.model_dump(mode="json")
    tree["model"].update(changes)
    tree["data"]["dt"] = dt
    if tree["data"]["steps"] is not None:
        tree["data"]["steps"] = math.ceil(tree["data"]["steps"] / ratio)
    # the width the stage before ended with, in new steps; a kernel narrower than sigma_final is a point
    tree["train"]["sigma"] = tree["train"]["sigma_final"]
    return parse_config(tree, f"bins of {dt} ms")


def _coarser_tau(tau: float, old: float, new: float) -> float:
    """tau of which ``1 − new/tau = (1 − old/tau)^(new/old)``."""
    if not tau >= old:
        raise ParameterError(f"a time constant of {tau} ms is shorter than the bins of {old} ms.")
    return new / (1 - (1 - old / tau) ** (new / old))


@torch.no_grad()
def rescale(fine: SpikingClassifier, coarse: SpikingClassifier) -> None:
    """Give `coarse` the weights of `fine`, in its own bins; both have the same layers.

    Batch norms get the offsets by the formula; their statistics want `renormalise` next. Raises
    `ParameterError` where the bins are not coarser or the layers differ.
    """
    ratio = coarse.dt / fine.dt
    if not ratio > 1:
        raise ParameterError(f"bins of {coarse.dt} ms are not coarser than {fine.dt} ms.")
    state = {k: v.clone() for k, v in fine.state_dict().items()}
    for name, module in coarse.named_modules():
        if hasattr(module, "position"):
            position = state[f"{name}.position"] / ratio
            state[f"{name}.position"] = position.clamp_(module.least_delay, module.max_delay)
            state[f"{name}._sigma"] = state[f"{name}._sigma"] / ratio
    target = coarse.state_dict()
    different = [k for k in target if k not in state or state[k].shape != target[k].shape]
    if different:
        raise ParameterError(f"the networks differ in {different[0]}; only the bins may differ.")
    for name, value in state.items():
        last = name.rsplit(".", 1)[-1]
        if last == "decay":
            value = value**ratio
        elif last == "decay_raw":  # a learned decay is kept as its logit
            value = torch.logit(torch.sigmoid(value.double()) ** ratio)
        target[name].copy_(value)
    if fine.config.decay_input:
        _keep_gain(fine, coarse)


def _keep_gain(fine: SpikingClassifier, coarse: SpikingClassifier) -> None:
    """With decay_input, x is weighed by 1 − λ: the norms' γ and β, or the weights, make up for its change."""
    for a, b in zip(fine.layers, coarse.layers, strict=True):
        assert isinstance(a, Layer)
        assert isinstance(b, Layer)
        assert b.norm is not None
        factor = _gain(a.neuron) / _gain(b.neuron)
        b.norm.weight.mul_(factor)
        b.norm.bias.mul_(factor)
    weight = coarse.readout_synapses.weight
    assert isinstance(weight, Tensor)
    factor = _gain(fine.readout) / _gain(coarse.readout)
    weight.mul_(factor.reshape(-1, *[1] * (weight.ndim - 1)))


def _gain(neuron: Any) -> Tensor:
    gain: Tensor = neuron.per_step()["gain"]
    return gain


@torch.no_grad()
def renormalise(network: SpikingClassifier, data: Any, ratio: float, samples: int = 256) -> None:
    """Measure the batch norms on the coarser bins, front to back, without changing their gain."""
    network.eval()
    indices = np.linspace(0, len(data) - 1, min(samples, len(data))).astype(np.int64)
    x, lengths, _ = as_tensors(data.batch(indices), network)
    for norm in [m for m in network.modules() if isinstance(m, TimeBatchNorm)]:
        seen: list[Tensor] = []
        hook = norm.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0].flatten(0, 1))
        )
        network(x, lengths)
        hook.remove()
        assert norm.running_var is not None
        assert norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        offset = ratio * (norm.bias - gain * norm.running_mean)
        norm.running_mean.copy_(seen[0].mean(0))
        norm.running_var.copy_(seen[0].var(0))
        norm.weight.copy_(gain * torch.sqrt(norm.running_var + norm.eps))
        norm.bias.copy_(offset + gain * norm.running_mean)


@dataclass
class BinStage:
    """One stage of `compress_bins`.

    stage_from       "" for the first, else the bins before, "10 ms"
    valid_start      validation accuracy before it was trained
    synops           synaptic operations of a recording, on validation
    steps            steps of a recording, tail included
    """

    dt: float
    stage_from: str
    accuracy: float
    valid_start: float
    spikes_per_neuron: float
    synops: float
    steps: float
    seconds: float
    cost: dict[str, float]
    network: SpikingClassifier

    def row(self) -> dict[str, Any]:
        """Plain numbers for a table."""
        return {
            "dt_ms": self.dt,
            "stage_from": self.stage_from,
            "valid_accuracy": self.accuracy,
            "valid_accuracy_start": self.valid_start,
            "spikes_per_neuron": self.spikes_per_neuron,
            "synops": self.synops,
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            **self.cost,
        }


def compress_bins(
    config: Config,
    load: Callable[[Config], Splits],
    folder: PathLike,
    bins: Sequence[float] = (10.0, 20.0, 40.0),
    *,
    epochs: Sequence[int] | None = None,
    resume: bool = False,
    floor: float | None = None,
    cost: BinCost | None = None,
    samples: int = 64,
    progress: bool = False,
) -> list[BinStage]:
    """Train with the first bins as `config` says, then with each coarser ones from the stage before.

    load     the recordings in the bins of ``config.data.dt``, e.g. `snnkit.training.run.load_data`
    folder   gets a folder of the trainer's for each stage; with `resume` finished stages are read from
             there and an unfinished one goes on
    epochs   of each stage; None: the configuration's
    floor    stop after the first stage whose validation accuracy is below
    cost     ``cost(Graph, events)`` of some validation recordings → further columns
    samples  validation recordings that SynOps (and `cost`) are counted on
    """
    plan = [float(dt) for dt in bins]
    if not plan or any(a >= b for a, b in itertools.pairwise(plan)) or plan[0] != config.data.dt:
        raise ParameterError(
            f"bins {plan} must rise from stage to stage and start with the {config.data.dt} ms of the "
            "configuration."
        )
    if epochs is not None and len(epochs) != len(plan):
        raise ParameterError(f"there are {len(plan)} stages and {len(epochs)} numbers of epochs.")
    stages: list[BinStage] = []
    for k, dt in enumerate(plan):
        if k:
            config = coarser(config, dt)
        if epochs is not None:
            config = parse_config(_with_epochs(config, epochs[k]), f"stage of {dt} ms")
        data = load(config)
        before = stages[-1].network if stages else None
        where = Path(folder) / f"dt{dt:g}"
        starts: list[float] = []

        def make(
            model: Model, inputs: int, classes: int, step: float, before: SpikingClassifier | None = before,
            data: Splits = data, starts: list[float] = starts,
        ) -> SpikingClassifier:  # fmt: skip
            network = build(model, inputs, classes, step)
            if before is not None:
                rescale(before, network)
                renormalise(network, data.train, step / before.dt)
            starts.append(evaluate(network, data.valid).accuracy)
            return network.train()

        started = time.perf_counter()
        if resume and (where / "record.json").exists():
            network, _, content = load_network(where / "last.pt")
            check_configuration(where / "last.pt", content, config)
            start = json.loads((where / "start.json").read_text())
        else:
            trainer = Trainer(config, data, where, progress=progress, make=make)
            where.mkdir(parents=True, exist_ok=True)
            (where / "start.json").write_text(json.dumps(starts[0]))
            start, network = starts[0], trainer.fit(resume=resume)
        stages.append(_measured(network, data, dt, stages, start, cost, samples, started))
        if floor is not None and stages[-1].accuracy < floor:
            break
    return stages


def _with_epochs(config: Config, epochs: int) -> dict[str, Any]:
    tree = config.model_dump(mode="json")
    tree["train"]["epochs"] = epochs
    return tree


def _measured(
    network: SpikingClassifier, data: Splits, dt: float, stages: list[BinStage], start: float,
    cost: BinCost | None, samples: int, started: float,
) -> BinStage:  # fmt: skip
    result = evaluate(network, data.valid)
    graph = lower(network, metadata={"classes": list(data.classes)})
    indices = np.linspace(0, len(data.valid) - 1, min(samples, len(data.valid))).astype(np.int64)
    events = data.valid.subset(indices).events
    run = simulate(graph, events, spikes=[], progress=False)
    neurons = sum(
        graph.populations[n].size for n in graph.populations if n not in (*graph.inputs, *graph.outputs)
    )
    return BinStage(
        dt=dt,
        stage_from=f"{stages[-1].dt:g} ms" if stages else "",
        accuracy=result.accuracy,
        valid_start=start,
        spikes_per_neuron=float(result.spikes.sum(0).mean()) / neurons,
        synops=float(sum(v.mean() for v in run.counts["synops"].values())),
        steps=float(run.steps.mean()),
        seconds=time.perf_counter() - started,
        cost={} if cost is None else cost(graph, events),
        network=network.eval(),
    )
