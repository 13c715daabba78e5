"""Counts from any torch network of SpikingJelly, Norse or snnTorch, by watching it run.

    with EnergyMonitor(net) as monitor:
        net(x)
    monitor.price("lemaire45").total_pj

Linear and convolution layers are watched for the spikes that enter them, spiking modules for those
that leave. Operations in plain functions (`F.linear`) and recurrent weights inside a neuron module
are not seen. Potentials are not read, so which neurons idle is not known: profiles of chips need a
`Graph` and `estimate` instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..backend import unfused
from ..errors import ParameterError, ShapeError
from ..graph import INPUT
from .counts import Counts, NeuronCounts, SynapseCounts, concatenate
from .price import Price, price
from .profile import Profile

NEURON_PACKAGES = ("spikingjelly.activation_based.neuron", "snntorch._neurons", "sinabs.layers")
SNNKIT_NEURONS = ("LIF", "CubaLIF", "IF", "LI", "AdLIF")
LEAKLESS = ("IFNode", "IF", "IAF")
STEPS = ("auto", "single", "multi")


class EnergyMonitor:
    """Watches a torch module and counts its operations.

    module   the network
    spiking  further classes to be taken as spiking modules (their output, or its first item, are spikes)
    steps    "multi": tensors are [T, B, …] and every call of the network is a new batch;
             "single": they are [B, …], every call is a step, `new_samples` begins the next batch;
             "auto": SpikingJelly's step_mode where there is one, multi for Norse's LIF and snnkit's
             neurons, else single
    """

    def __init__(self, module: Any, spiking: Sequence[type] = (), steps: str = "auto") -> None:
        if steps not in STEPS:
            raise ParameterError(f"steps = {steps!r} is none of {', '.join(STEPS)}.")
        self.module = module
        self.spiking = tuple(spiking)
        self.multi = _is_multi_step(module, self.spiking) if steps == "auto" else steps == "multi"
        self._inside = False
        self._handles: list[Any] = []
        self._apart = ExitStack()
        self._finished: list[Counts] = []
        self._fans: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._begin()

    def __enter__(self) -> EnergyMonitor:
        import torch

        self._apart.enter_context(unfused())
        layers = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
        watched = 0
        for name, module in self.module.named_modules():
            name = name or type(module).__name__
            if _is_spiking(module, self.spiking):
                self._handles.append(module.register_forward_hook(self._neurons(name)))
            elif isinstance(module, layers):
                self._handles.append(module.register_forward_hook(self._synapses(name)))
                watched += 1
        if not watched:
            self.__exit__()
            raise ParameterError("the network has no Linear or Conv layer to watch.")
        self._handles.append(self.module.register_forward_pre_hook(self._call, with_kwargs=True))
        self._handles.append(self.module.register_forward_hook(self._called))
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
        """Counts of all samples that ran so far. Raises `ParameterError` if there are none."""
        parts = [*self._finished, *([self._collect()] if self._order else [])]
        if not parts:
            raise ParameterError("the monitor has seen no call of the network yet; run it inside `with`.")
        return concatenate(parts)

    def price(self, profile: str | Profile = "cmos45", **settings: Any) -> Price:
        """Energy of what was counted; see `price`."""
        return price(self.counts(), profile, **settings)

    def _begin(self) -> None:
        self._order: list[tuple[str, str]] = []  # ("synapses" or "neurons", name), as first called
        self._sums: dict[str, dict[str, Any]] = {}
        self._fixed: dict[str, dict[str, Any]] = {}
        self._shape: tuple[int, int] | None = None

    def _call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        import torch

        x = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)), None)
        if x is None:
            raise ParameterError("the monitored network must be called with a tensor.")
        if self.multi:
            self.new_samples()
            if x.dim() < 2:
                raise ShapeError(f"a multi-step network takes [T, B, …], got {list(x.shape)}.")
            self._shape = (x.shape[0], x.shape[1])
        else:
            if self._shape is not None and self._shape[1] != x.shape[0]:
                raise ShapeError(
                    f"a step of {x.shape[0]} samples after steps of {self._shape[1]}; call "
                    "monitor.new_samples() between batches."
                )
            self._shape = (1, x.shape[0])
        self._inside = True

    def _called(self, *_: Any) -> None:
        self._inside = False

    def _steps_first(self, x: Any) -> Any:
        """Any layer's tensor as [T, B, …]."""
        assert self._shape is not None
        T, B = self._shape
        if tuple(x.shape[:2]) == (T, B) and self.multi:
            return x
        if x.shape[0] == T * B:
            return x.reshape(T, B, *x.shape[1:])
        if x.shape[0] == B and not self.multi:
            return x.unsqueeze(0)
        raise ShapeError(
            f"a layer got a tensor of shape {list(x.shape)} in a network that runs {T} steps of {B} samples; "
            'if its tensors have no time axis, use EnergyMonitor(net, steps="single").'
        )

    def _add(self, kind: str, name: str, values: dict[str, Any]) -> None:
        if name not in self._sums:
            self._order.append((kind, name))
            self._sums[name] = dict(values)
        else:
            for key, value in values.items():
                self._sums[name][key] = self._sums[name][key] + value

    def _synapses(self, name: str) -> Any:
        def hook(layer: Any, args: tuple[Any, ...], output: Any) -> None:
            import torch

            if not self._inside:
                return
            with torch.no_grad():
                x = self._steps_first(args[0])
                y = self._steps_first(output)
                T, B = x.shape[:2]
                flat = x.reshape(T, B, -1)
                stored, effective = self._fan_out(name, layer, x.shape[2:])
                fired = flat != 0
                valued = fired & (flat.abs() != 1)
                per_place = fired.sum(0).cpu().numpy()
                per_valued = valued.sum(0).cpu().numpy()
            self._fixed[name] = _fixed(layer, x.shape[2:], y.shape[2:], stored, effective)
            self._add(
                "synapses",
                name,
                {
                    "steps": np.full(B, T),
                    "spikes": per_place.sum(1),
                    "spikes_valued": per_valued.sum(1),
                    "synops": per_place @ stored,
                    "synops_effective": per_place @ effective,
                    "synops_mac": per_valued @ stored,
                },
            )

        return hook

    def _neurons(self, name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> None:
            if not self._inside:
                return
            spikes = output[0] if isinstance(output, tuple) else output
            spikes = self._steps_first(spikes)
            T, B = spikes.shape[:2]
            fired = (spikes != 0).reshape(T, B, -1).sum((0, 2)).cpu().numpy()
            states = _states(module, output)
            leakless = type(module).__name__ in LEAKLESS
            self._fixed[name] = {
                "size": math.prod(spikes.shape[2:]),
                "neuron": type(module).__name__,
                "states": states,
                "leak_macs": 0 if leakless else states,
            }
            self._add("neurons", name, {"steps": np.full(B, T), "spikes": fired})

        return hook

    def _fan_out(self, name: str, layer: Any, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Stored and non-zero synapses that leave each place of the layer's input, int ``[N]`` each."""
        key = (name, layer.weight._version, *shape)
        if key not in self._fans:
            self._fans[key] = _fan_out(layer, shape)
        return self._fans[key]

    def _collect(self) -> Counts:
        """Counts of the samples that ran since `_begin`, layers in the order of their first call."""
        first = next((name for kind, name in self._order if kind == "synapses"), None)
        if first is None:
            raise ParameterError("no Linear or Conv layer was called.")
        steps, source = np.asarray(self._sums[first]["steps"], np.int64), "input"
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
                steps=steps,
                spikes=self._sums[first]["spikes"],
            )
        ]
        waiting: list[str] = []  # layers whose neurons have not come yet
        for kind, name in self._order:
            if kind == "synapses":
                waiting.append(name)
                continue
            synapses += [self._synapse_counts(layer, source, name) for layer in waiting]
            neurons.append(self._neuron_counts(name, waiting))
            source, waiting = name, []
        if waiting:
            synapses += [self._synapse_counts(layer, source, waiting[-1]) for layer in waiting]
            neurons.append(self._readout_counts(waiting))
        return Counts(synapses, neurons, steps)

    def _biases(self, layers: list[str]) -> int:
        return sum(self._fixed[layer]["biases"] for layer in layers)

    def _neuron_counts(self, name: str, layers: list[str]) -> NeuronCounts:
        """Counts of a spiking module into which these layers lead."""
        f, s, biases = self._fixed[name], self._sums[name], self._biases(layers)
        return NeuronCounts(
            name=name,
            neuron=f["neuron"],
            size=f["size"],
            states=f["states"],
            leak_macs=f["leak_macs"],
            biased=self._fixed[layers[-1]]["outputs"] if biases else 0,
            biases=biases,
            steps=np.asarray(s["steps"]),
            spikes=s["spikes"],
        )

    def _readout_counts(self, layers: list[str]) -> NeuronCounts:
        """Counts of a read-out without neurons, called as the last of the layers into it."""
        f, s, biases = self._fixed[layers[-1]], self._sums[layers[-1]], self._biases(layers)
        return NeuronCounts(
            name=layers[-1],
            neuron="none",
            size=f["outputs"],
            states=0,
            leak_macs=0,
            biased=f["outputs"] if biases else 0,
            biases=biases,
            steps=s["steps"],
            spikes=np.zeros_like(s["spikes"]),
        )

    def _synapse_counts(self, name: str, source: str, target: str) -> SynapseCounts:
        f, s = self._fixed[name], {k: np.asarray(v, np.int64) for k, v in self._sums[name].items()}
        nothing = np.zeros_like(s["spikes"])
        return SynapseCounts(
            name=name,
            source=source,
            target=target,
            kind=f["kind"],
            inputs=f["inputs"],
            outputs=f["outputs"],
            synapses=f["synapses"],
            effective=f["effective"],
            weights=f["weights"],
            max_delay=0,
            kernel_fan_out=f["kernel_fan_out"],
            address_fan_out=f["address_fan_out"],
            spikes=s["spikes"],
            spikes_valued=s["spikes_valued"],
            synops=s["synops"],
            synops_effective=s["synops_effective"],
            synops_mac=s["synops_mac"],
            synops_dense=s["steps"] * f["synapses"],
            delayed=nothing,
            waiting=nothing,
            peak=nothing,
        )


def _fan_out(layer: Any, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Stored and non-zero synapses that leave each place of an input of this shape, int ``[N]`` each.

    As the gradient of the layer's sum with all weights, or all non-zero weights, set to 1.
    """
    import torch

    weight = layer.weight.detach()
    used = (weight != 0).double()
    if isinstance(layer, torch.nn.Linear):
        positions = math.prod(shape[:-1])
        both = [torch.full((layer.in_features,), layer.out_features), used.sum(0)]
        stored, effective = (f.long().cpu().numpy() for f in both)
        return np.tile(stored, positions), np.tile(effective, positions)
    convolve = {3: torch.nn.functional.conv1d, 4: torch.nn.functional.conv2d, 5: torch.nn.functional.conv3d}
    fans = []
    for taps in (torch.ones_like(used), used):
        with torch.enable_grad():
            x = torch.ones((1, *shape), dtype=torch.float64, device=weight.device, requires_grad=True)
            padding = layer.padding
            y = convolve[weight.dim()](x, taps, None, layer.stride, padding, layer.dilation, layer.groups)
            (fan,) = torch.autograd.grad(y.sum(), x)
        fans.append(fan.round().long().reshape(-1).cpu().numpy())
    return fans[0], fans[1]


def _fixed(
    layer: Any, shape: Sequence[int], out: Sequence[int], stored: np.ndarray, effective: np.ndarray
) -> dict[str, Any]:
    """What does not depend on the spikes; shape, out: of its input and output without T and B."""
    kernel = address = 0
    conv = layer.weight.dim() > 2
    if conv:
        per_group = layer.out_channels // layer.groups
        strides = layer.stride if isinstance(layer.stride, tuple) else (layer.stride,)
        kernel = per_group * math.prod(-(-k // s) for k, s in zip(layer.kernel_size, strides, strict=True))
        address = per_group * math.prod(layer.kernel_size)
    return {
        "kind": "conv" if conv else "dense",
        "inputs": math.prod(shape),
        "outputs": math.prod(out),
        "synapses": int(stored.sum()),
        "effective": int(effective.sum()),
        "weights": layer.weight.numel(),
        "biases": 0 if layer.bias is None else layer.bias.numel(),
        "kernel_fan_out": kernel,
        "address_fan_out": address,
    }


def _is_spiking(module: Any, further: tuple[type, ...]) -> bool:
    if isinstance(module, further):
        return True
    for base in type(module).__mro__:
        home, name = base.__module__, base.__name__
        if home.startswith(NEURON_PACKAGES):
            return True
        if home == "norse.torch.module.snn" and name.startswith("SNN"):
            return True
        if home.startswith("snnkit.neurons") and name in SNNKIT_NEURONS:
            return True
    return False


def _is_multi_step(module: Any, further: tuple[type, ...]) -> bool:
    for part in module.modules():
        if not _is_spiking(part, further):
            continue
        mode = getattr(part, "step_mode", None)
        if mode is not None:
            return bool(mode == "m")
        for base in type(part).__mro__:
            if base.__module__ == "norse.torch.module.snn" and base.__name__ in ("SNN", "SNNRecurrent"):
                return True
            if base.__module__.startswith("snnkit.neurons"):
                return True
    return False


def _states(module: Any, output: Any) -> int:
    """State variables of one neuron: the tensors of a returned state that are no spikes, else 1."""
    state = output[1] if isinstance(output, tuple) and len(output) > 1 else None
    names = getattr(state, "_fields", ())
    return max(sum(name not in ("z", "s") for name in names), 1)
