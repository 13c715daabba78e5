"""Counts from any torch network of SpikingJelly, Norse or snnTorch, by watching it run.

    with EnergyMonitor(net) as monitor:
        net(x)
    monitor.price("lemaire45").total_pj

The layers of `snnkit.energy.layers` are watched for the spikes that enter them, spiking modules for those
that leave. Every other multiply-accumulate that torch runs meanwhile (attention, recurrent layers,
`F.linear`, weights inside a neuron module) is in `Counts.unseen`, by module, and a warning says so.
Potentials are not read, so which neurons idle is not known: profiles of chips need a `Graph` and
`estimate` instead.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..backend import unfused
from ..errors import ParameterError, ShapeError
from ..graph import INPUT
from .counts import Counts, NeuronCounts, SynapseCounts, UnseenCounts, concatenate, most_waiting
from .estimates import Estimate
from .price import Price, price
from .profile import Profile
from .spiking import facts, fires, is_batch_first, is_multi_step, is_ours, is_single_step, is_spiking

STEPS = ("auto", "single", "loop", "multi")


class EnergyMonitor:
    """Watches a torch module and counts its operations.

    module   the network
    spiking  further classes to be taken as spiking modules (their output, or its first item, are spikes)
    steps    "multi": tensors are [T, B, …] and every call of the network is a new batch
             (sinabs' are [B, T, …]);
             "single": they are [B, …], every call is a step, `new_samples` begins the next batch;
             "loop": the network is called once a batch and calls its layers with [B, …] in every step, as
             snnTorch's do; its input is [T, B, …], [B, T, …], or one [B, …] for all steps;
             "auto": SpikingJelly's step_mode where there is one, multi for Norse's LIF and snnkit's
             neurons; else loop if the first call runs every spiking module equally often and more than
             once, or gives layers the second axis of its input as samples; else single
    """

    def __init__(self, module: Any, spiking: Sequence[type] = (), steps: str = "auto") -> None:
        if steps not in STEPS:
            raise ParameterError(f"steps = {steps!r} is none of {', '.join(STEPS)}.")
        self.module = module
        self.spiking = tuple(spiking)
        if steps == "auto" and is_multi_step(module, self.spiking):
            steps = "multi"
        self._batch_first = is_batch_first(module) and steps in ("auto", "multi")
        self.steps = "multi" if self._batch_first else steps
        self._inside = False
        self._handles: list[Any] = []
        self._apart = ExitStack()
        self._finished: list[Counts] = []
        self._fans: dict[tuple[Any, ...], Any] = {}
        self._begin()

    def __enter__(self) -> EnergyMonitor:
        from .layers import KINDS, kind_of
        from .unseen import MacCounter

        watched = 0
        for name, module in self.module.named_modules():
            name = name or type(module).__name__
            kind, spikes = kind_of(module), is_spiking(module, self.spiking)
            counted = kind is not None
            watched += counted
            self._handles.append(module.register_forward_pre_hook(self._opens(name, counted)))
            if spikes:
                if kind is not None:  # recurrence: what the neurons send is what enters
                    self._handles.append(
                        module.register_forward_hook(
                            self._synapses(f"{name}.recurrence", kind, recurrent=True)
                        )
                    )
                self._handles.append(module.register_forward_hook(self._neurons(name)))
            elif kind is not None:
                self._handles.append(module.register_forward_hook(self._synapses(name, kind)))
            self._handles.append(module.register_forward_hook(self._closes, always_call=True))
        if not watched:
            self.__exit__()
            raise ParameterError(
                "the network has no Linear or Conv layer to watch, nor another of "
                f"{', '.join(layer.__name__ for layer in KINDS)}."
            )
        self._handles.append(
            self.module.register_forward_pre_hook(self._call, with_kwargs=True, prepend=True)
        )
        self._handles.append(self.module.register_forward_hook(self._called, always_call=True))
        self._apart.enter_context(unfused())
        self._apart.enter_context(MacCounter(self._computed))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._apart.close()

    def new_samples(self) -> None:
        """End the samples that are being counted; the next call begins others."""
        if self._order:
            self._finished.append(self._collect())
        self._begin()

    def counts(self) -> Counts:
        """Counts of all samples that ran so far; warns of what is not among them.

        Raises `ParameterError` if there are none.
        """
        parts = [*self._finished, *([self._collect()] if self._order else [])]
        if not parts:
            raise ParameterError("the monitor has seen no call of the network yet; run it inside `with`.")
        counts = concatenate(parts)
        for note in counts.notes():
            warnings.warn(note, stacklevel=2)
        return counts

    def price(self, profile: str | Profile = "cmos45", **settings: Any) -> Price:
        """Energy of what was counted; see `price`."""
        return price(self.counts(), profile, **settings)

    def estimate(self, profile: str | Profile = "cmos45", **settings: Any) -> Estimate:
        """What was counted and its price, as `energy_page` takes it."""
        counts = self.counts()
        priced = price(counts, profile, **settings)
        name = priced.profile.name
        return Estimate(prices={name: priced}, counts={name: counts}, skipped={}, notes=counts.notes())

    def _begin(self) -> None:
        self._order: list[tuple[str, str]] = []  # ("synapses" or "neurons", name), as first called
        self._sums: dict[str, dict[str, Any]] = {}
        self._fixed: dict[str, dict[str, Any]] = {}
        self._unseen: dict[str, tuple[str, Counter[str]]] = {}  # module → its type, MACs of operations
        self._samples: int | None = None

    def _call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        x = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)), None)
        if x is None:
            raise ParameterError("the monitored network must be called with a tensor.")
        if self.steps in ("multi", "loop"):
            self.new_samples()
        if self.steps == "multi" and x.dim() < 2:
            raise ShapeError(f"a multi-step network takes [T, B, …], got {list(x.shape)}.")
        self._input = (x.shape[1], x.shape[0]) if self._batch_first else tuple(x.shape)
        self._time_first = self.steps == "multi"
        if self.steps == "multi":
            self._samples = self._input[1]
        elif self.steps == "single" or self._samples is not None:
            self._fits(x.shape[0])
        self._open: list[tuple[str, str, bool]] = []  # modules that run: name, type, whether it is counted
        self._calls: Counter[tuple[str, str]] = Counter()
        self._inside = True

    def _fits(self, samples: int) -> None:
        if self._samples not in (None, samples):
            raise ShapeError(
                f"a step of {samples} samples after steps of {self._samples}; call "
                "monitor.new_samples() between batches."
            )
        self._samples = samples

    def _called(self, *_: Any) -> None:
        self._inside = False
        if self.steps == "auto" and self._calls:
            neurons = {n for (kind, _), n in self._calls.items() if kind == "neurons"}
            often = neurons or set(self._calls.values())
            looped = self._time_first or (len(often) == 1 and often != {1})
            self.steps = "loop" if looped else "single"

    def _opens(self, name: str, counted: bool) -> Any:
        def hook(module: Any, args: tuple[Any, ...]) -> None:
            if self._inside:
                self._open.append((name, type(module).__name__, counted))

        return hook

    def _closes(self, *_: Any) -> None:
        if self._inside and self._open:
            self._open.pop()

    def _computed(self, operation: str, macs: int) -> None:
        """MACs that torch runs: those within a layer that is counted are known already."""
        if self._inside and not any(counted for _, _, counted in self._open):
            name, kind, _ = self._open[-1]
            self._unseen.setdefault(name, (kind, Counter()))[1][operation] += macs

    def _steps_first(self, x: Any, sample: int | None, whole: bool) -> Any:
        """Any layer's tensor as [T, B, …].

        sample  axes of one sample in one step, or None where any number will do
        whole   True where it is [T, B, …] for sure
        """
        if whole:
            self._samples = x.shape[1] if self._samples is None else self._samples
            return x
        if self._batch_first:
            whole_batch = self._input[::-1]
            if x.shape[:2] != whole_batch and x.shape[0] == math.prod(whole_batch):
                x = x.reshape(*whole_batch, *x.shape[1:])
            x = x.transpose(0, 1)
        lead, more, first = x.shape[0], x.dim() - 1, self._input[0]
        if self._samples is None:
            second = self._input[1] if len(self._input) > 1 else None
            self._time_first = lead == second != first
            if lead in (first, second):
                self._samples = lead
        B = self._samples
        per_step, per_sample = sample in (None, more), sample in (None, more - 1)
        timed = self._time_first and per_sample and x.shape[1:2] == (B,) and (more > 1 or lead != B)
        if timed and lead == first:
            return x
        if per_step and lead == B:
            return x.unsqueeze(0)
        if per_step and self._time_first and B is not None and lead == first * B:
            return x.reshape(first, B, *x.shape[1:])
        if timed and lead > first:
            return x  # steps that delays add
        runs = f"{first} steps of {B} samples" if self._time_first else f"steps of {B or first} samples"
        raise ShapeError(
            f"a layer got a tensor of shape {list(x.shape)} in a network that runs {runs}, called with "
            f'{list(self._input)}; if its tensors have no time axis, use EnergyMonitor(net, steps="single"), '
            'if all have, steps="multi".'
        )

    def _add(self, kind: str, name: str, values: dict[str, Any]) -> None:
        self._calls[kind, name] += 1
        if name not in self._sums:
            self._order.append((kind, name))
            self._sums[name] = dict(values)
        else:
            for key, value in values.items():
                combine = np.maximum if key == "peak" else np.add
                self._sums[name][key] = combine(self._sums[name][key], value)

    def _synapses(self, name: str, kind: Any, recurrent: bool = False) -> Any:
        from .layers import fixed

        def hook(layer: Any, args: tuple[Any, ...], output: Any) -> None:
            import torch

            if not self._inside:
                return
            with torch.no_grad():
                sample = kind.sample(layer)
                x = self._steps_first(output if recurrent else args[0], sample, kind.whole)
                y = self._steps_first(output, sample, kind.whole)
                T, B = y.shape[:2]
                flat = x.reshape(*x.shape[:2], -1)
                fans = self._fans_of(name, layer, kind, (x.shape[2:], y.shape[2:]))
                fired = flat != 0
                valued = fired & (flat.abs() != 1)
                per_place = fired.sum(0).cpu().numpy()
                per_valued = valued.sum(0).cpu().numpy()
            self._fixed[name] = fixed(layer, kind, fans, x.shape[2:], y.shape[2:])
            source, delay = fans.pairs.T
            self._add(
                "synapses",
                name,
                {
                    "steps": np.full(B, T),
                    "spikes": per_place.sum(1),
                    "spikes_valued": per_valued.sum(1),
                    "synops": per_place @ fans.stored,
                    "synops_effective": per_place @ fans.effective,
                    "synops_mac": np.zeros(B, np.int64) if kind.name == "pool" else per_valued @ fans.stored,
                    "delayed": per_place[:, source].sum(1),
                    "waiting": per_place[:, source] @ delay,
                    "peak": most_waiting(fired.cpu().numpy(), fans.pairs, T),
                },
            )

        return hook

    def _neurons(self, name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> None:
            if not self._inside:
                return
            spikes = output[0] if isinstance(output, tuple) else output
            sample = spikes.dim() - 1 if is_single_step(module) else None
            spikes = self._steps_first(spikes, sample, is_ours(module))
            T, B = spikes.shape[:2]
            fired = (spikes != 0).reshape(T, B, -1).sum((0, 2)).cpu().numpy() * fires(module)
            self._fixed[name] = {"size": math.prod(spikes.shape[2:]), **facts(module, output)}
            self._add("neurons", name, {"steps": np.full(B, T), "spikes": fired})

        return hook

    def _fans_of(self, name: str, layer: Any, kind: Any, shapes: tuple[Any, Any]) -> Any:
        """`Fans` of a layer, computed once while weights and delays stay as they are."""
        parameters = list(layer.parameters())
        if any(p.is_inference() for p in parameters):  # these do not tell whether they were changed
            return self._apart_from_the_network(kind.fans, layer, shapes)
        key = (name, *(p._version for p in parameters), *shapes)
        if key not in self._fans:
            self._fans[key] = self._apart_from_the_network(kind.fans, layer, shapes)
        return self._fans[key]

    def _apart_from_the_network(self, fans: Any, layer: Any, shapes: tuple[Any, Any]) -> Any:
        """What is computed here is not counted."""
        self._inside = False
        try:
            return fans(layer, *shapes)
        finally:
            self._inside = True

    def _collect(self) -> Counts:
        """Counts of the samples that ran since `_begin`, layers in the order of their first call."""
        first = next((name for kind, name in self._order if kind == "synapses"), None)
        if first is None:
            raise ParameterError("no Linear or Conv layer was called.")
        neuron = next((name for kind, name in self._order if kind == "neurons"), first)
        source = "input"
        synapses: list[SynapseCounts] = []
        neurons = [
            NeuronCounts(
                name=source,
                neuron=INPUT,
                size=self._fixed[first]["inputs"],
                states=0,
                leak_macs=0,
                biased=0,
                biases=0,
                steps=np.asarray(self._sums[first]["steps"], np.int64),
                spikes=self._sums[first]["spikes"],
            )
        ]
        waiting: list[str] = []  # layers whose neurons have not come yet
        for kind, name in self._order:
            if kind == "synapses":
                waiting.append(name)
                continue
            # a layer within a neuron module is its recurrence
            synapses += [
                self._synapse_counts(layer, name if layer.startswith(f"{name}.") else source, name)
                for layer in waiting
            ]
            neurons.append(self._neuron_counts(name, waiting))
            source, waiting = name, []
        if waiting:
            synapses += [self._synapse_counts(layer, source, waiting[-1]) for layer in waiting]
            neurons.append(self._readout_counts(waiting))
        steps = np.asarray(self._sums[neuron]["steps"], np.int64)
        unseen = [
            UnseenCounts(
                name=name,
                module=kind,
                operations=tuple(macs),
                macs=np.full(len(steps), sum(macs.values()) / max(len(steps), 1)),
            )
            for name, (kind, macs) in self._unseen.items()
        ]
        return Counts(synapses, neurons, steps, unseen=unseen)

    def _total(self, key: str, layers: list[str]) -> int:
        return sum(self._fixed[layer][key] for layer in layers)

    def _neuron_counts(self, name: str, layers: list[str]) -> NeuronCounts:
        """Counts of a spiking module into which these layers lead."""
        f, s = self._fixed[name], self._sums[name]
        return NeuronCounts(
            name=name,
            neuron=f["neuron"],
            size=f["size"],
            states=f["states"],
            leak_macs=f["leak_macs"],
            biased=self._total("biased", layers),
            biases=self._total("biases", layers),
            steps=np.asarray(s["steps"]),
            spikes=s["spikes"],
        )

    def _readout_counts(self, layers: list[str]) -> NeuronCounts:
        """Counts of a read-out without neurons, called as the last of the layers into it."""
        f, s = self._fixed[layers[-1]], self._sums[layers[-1]]
        return NeuronCounts(
            name=layers[-1],
            neuron="none",
            size=f["outputs"],
            states=0,
            leak_macs=0,
            biased=self._total("biased", layers),
            biases=self._total("biases", layers),
            steps=s["steps"],
            spikes=np.zeros_like(s["spikes"]),
        )

    def _synapse_counts(self, name: str, source: str, target: str) -> SynapseCounts:
        f = {k: v for k, v in self._fixed[name].items() if k not in ("biased", "biases")}
        s: dict[str, Any] = {k: np.asarray(v, np.int64) for k, v in self._sums[name].items()}
        dense = s.pop("steps") * f["synapses"]
        return SynapseCounts(name=name, source=source, target=target, synops_dense=dense, **f, **s)
