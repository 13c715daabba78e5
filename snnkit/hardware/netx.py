"""NetX files: the HDF5 network description that lava-dl's ``netx.hdf5.Network`` reads.

`write` puts an integer Graph (`snnkit.hardware.loihi`) into such a file and refuses what the reader
would compute differently; `read` gives the Graph that lava-dl's reader would build, with its bit
packing. One weight unit is 64 units of u; bias and threshold are in the same unit.

Layout and traps: docs/loihi.md. Source: lava-dl 0.6.0.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..engine import synapses
from ..errors import DataError, ExportError, ShapeError
from ..files import atomic_h5, open_h5
from ..graph import INPUT, Graph, Population, Projection
from ..metadata import Units
from ..neurons.loihi import NEVER
from . import loihi

PathLike = str | os.PathLike[str]
MAX_DELAY = 62
MAX_BIAS = 4095
MESSAGE_BITS = 16
MAX_VTH = (1 << 17) - 1
NEURON_TYPES = ("CUBA", "LOIHI")


def packed_weights(weight: np.ndarray, *parts: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """What lava-dl's bit packing makes of integer matrices that share it: ``[(acting, shift), …]``.

    The reader shifts the weights left by q so that they fill 8 bits, tells the synapse that it uses
    b bits, and undoes the shift with a weight exponent −q. The effect is the weights themselves for
    mixed signs within −128..127 and for 0..255; outside, some come out wrong, and this says how.
    """
    matrices = [np.asarray(m).astype(np.int64) for m in (weight, *parts)]
    both = np.concatenate([m.reshape(-1) for m in matrices])
    low, high = int(both.min(initial=0)), int(both.max(initial=0))
    if low == high == 0:
        raise ExportError("all weights are 0, which lava-dl's reader cannot pack; leave the layer out.")
    if both.size and both.max() < 0:
        high, mixed = int(both.max()), False
        scale = -256 / low
    elif both.min() >= 0:
        mixed, scale = False, 255 / high
    else:
        mixed = True
        if high > 254 or low < -256:
            matrices = [m.clip(-256, 254) for m in matrices]
            both = both.clip(-256, 254)
            low, high = int(both.min()), int(both.max())
        scale = min(127 / high if high else np.inf, -128 / low)
    q = int(np.floor(np.log2(scale))) + mixed
    zeros = max(n for n in range(9) if (both % (1 << n) == 0).all())
    bits = 8 - q - (zeros - mixed)
    if q < 0:
        raise ExportError(f"weights reach {low}..{high}; a NetX layer takes −128..127, or 0..255.")
    result = []
    for m in matrices:
        if bits > 8 + (loihi.sign_mode(m << q) == "mixed"):
            acting = np.zeros_like(m)  # a shift by −1, which gives 0
        else:
            acting = loihi.effective_weights(m << q, bits)
        if (acting % (1 << q) == 0).all():
            result.append((acting >> q, 0))
        else:
            result.append((acting, q))
    return result


def write(graph: Graph, path: PathLike, *, unroll: bool = False) -> dict[str, int]:
    """Write an integer `graph` that is a chain of layers; returns what `Network(path, ...)` must be given.

    unroll  write a convolution with delays, which NetX has no place for, as a dense layer

    Raises `ExportError`, naming the layer and the value, for whatever a NetX file cannot hold or
    lava-dl's reader would turn into another network. Branches, delayed recurrence and initial states
    go through `snnkit.hardware.lava` instead.
    """
    loihi.check(graph)
    chain = _chain(graph)
    reset = _reset(graph, [name for name, *_ in chain])
    if Units.of(graph.metadata).graded:
        reset["input_message_bits"] = MESSAGE_BITS
    layers: list[dict[str, Any]] = []
    source = graph.populations[graph.inputs[0]]
    layers.append({"type": "input", "shape": _ints(source.shape)})
    shape = source.shape
    for name, forward, recurrent in chain:
        population = graph.populations[name]
        layer = _neuron_layer(population)
        if forward.kind == "conv" and not (unroll and (forward.delays != 1).any()):
            layer |= _conv_layer(forward, population)
        else:
            if len(shape) == 3:
                layers.append({"type": "flatten", "shape": _ints((int(np.prod(shape)), 1, 1))})
            layer |= _dense_layer(graph, forward, recurrent, population)
        shape = population.shape
        layers.append(layer)
    unverified = [name for name, *_ in chain if _refractory(graph.populations[name])]
    notes = {
        "metadata": graph.metadata,
        "dt": graph.dt,
        "outputs": graph.outputs,
        "populations": [graph.inputs[0], *(name for name, *_ in chain)],
        "projections": [[f.name, r.name if r else None] for _, f, r in chain],
        "kwargs": reset,
        "unverified": [f"{n}: refractory period (no fixed-point model in lava-nc)" for n in unverified],
    }
    with atomic_h5(path) as file:
        for i, layer in enumerate(layers):
            _put(file.create_group(f"layer/{i}"), layer)
        file["simulation/Ts"] = 1
        file["snnkit"] = json.dumps(notes)
    return reset


def _chain(graph: Graph) -> list[tuple[str, Projection, Projection | None]]:
    """(population, projection into it, its recurrent projection) from the input to the end."""
    if len(graph.inputs) != 1:
        raise ExportError(f"a NetX file has one input; this network has {graph.inputs}.")
    here, chain, seen = graph.inputs[0], [], set(graph.inputs)
    hint = "NetX holds a plain chain of layers; use snnkit.hardware.lava.build for this network."
    while True:
        onward = [p for p in graph.out_of(here) if p.target != here]
        if not onward:
            break
        if len(onward) > 1:
            raise ExportError(f"population {here!r} feeds {[p.target for p in onward]}; {hint}")
        forward = onward[0]
        others = [p for p in graph.into(forward.target) if p is not forward]
        recurrent = [p for p in others if p.source == forward.target]
        if len(recurrent) > 1 or len(recurrent) != len(others):
            raise ExportError(
                f"population {forward.target!r} is fed by {[p.name for p in others]} too; {hint}"
            )
        if forward.target in seen:
            raise ExportError(f"projection {forward.name!r} closes a loop; {hint}")
        here = forward.target
        seen.add(here)
        chain.append((here, forward, recurrent[0] if recurrent else None))
    if left := set(graph.populations) - seen:
        raise ExportError(f"populations {sorted(left)} are not on the chain from the input; {hint}")
    if graph.outputs not in ([], [here]):
        raise ExportError(
            f"outputs are {graph.outputs}; a NetX network's output is its last layer, {here!r}."
        )
    return chain


def _reset(graph: Graph, names: list[str]) -> dict[str, int]:
    """The `Network` arguments that give each layer its clocked reset."""
    found = []
    for i, name in enumerate(names):
        p = graph.populations[name]
        interval = int(_one(p, "reset_interval")) if "reset_interval" in p.params else NEVER
        offset = int(_one(p, "reset_offset")) if "reset_offset" in p.params else 0
        found.append((interval, offset - 1 - i) if (interval, offset) != (NEVER, 0) else None)
    if not any(found):
        return {}
    if len(set(found)) > 1 or found[0] is None or found[0][1] < 0:
        raise ExportError(
            f"layers {names} have resets (interval, offset − 1 − layer) {found}; lava-dl gives layer i "
            "the offset reset_offset + 1 + i, with one interval for all."
        )
    return {"reset_interval": found[0][0], "reset_offset": found[0][1]}


def _one(p: Population, name: str) -> Any:
    """Parameter `name`, which must be the same for all neurons."""
    values = np.unique(p.param(name, np.int64))
    if len(values) > 1:
        raise ExportError(
            f"layer {p.name!r}: {name} differs between neurons ({values[0]}..{values[-1]}); NetX has one "
            "value a layer. Quantise with decays='shared'."
        )
    return values[0]


def _refractory(p: Population) -> int:
    return int(_one(p, "refractory")) if "refractory" in p.params else 0


def _neuron_layer(p: Population) -> dict[str, Any]:
    where = f"layer {p.name!r}"
    du, dv, vth = (int(_one(p, k)) for k in ("du", "dv", "vth"))
    for name, value, low, high in (("du", du, -1, 4095), ("dv", dv, 0, 4096)):
        if not low <= value <= high:
            raise ExportError(f"{where}: {name} is {value}; a decay must lie in {low}..{high}.")
    if not 0 <= vth <= MAX_VTH and vth != loihi.SILENT:
        raise ExportError(
            f"{where}: vth is {vth}; the chip has 17 bits, 0..{MAX_VTH} (and {loihi.SILENT} for a read-out "
            "that never spikes)."
        )
    if p.initial:
        raise ExportError(
            f"{where}: starts from {sorted(p.initial)} that are not 0, which NetX has no place for; use "
            "snnkit.hardware.lava.build, or quantise with settled_bias=True."
        )
    bias = p.param("bias", np.int64)
    if (bias % 64).any():
        raise ExportError(f"{where}: bias {bias[bias % 64 != 0][0]} is no multiple of 64, the unit of NetX.")
    bias = bias // 64
    if np.abs(bias).max() > MAX_BIAS:
        raise ExportError(
            f"{where}: bias {bias[np.abs(bias).argmax()]} is beyond the chip's 13 bits, ±{MAX_BIAS}."
        )
    if len(p.shape) == 3:
        channels = bias.reshape(p.shape[0], -1)
        if (channels != channels[:, :1]).any():
            raise ExportError(
                f"{where}: bias differs within a channel; a NetX convolution has one a channel."
            )
        bias = channels[:, 0]
    neuron = {
        "type": "CUBA",
        "iDecay": du + 1,
        "vDecay": dv,
        "vThMant": vth,
        "refDelay": 1 + _refractory(p),
        "gradedSpike": False,
    }
    return {"neuron": neuron, "shape": _ints(p.shape)} | ({"bias": bias} if bias.any() else {})


def _dense_layer(
    graph: Graph, forward: Projection, recurrent: Projection | None, p: Population
) -> dict[str, Any]:
    where = f"layer {p.name!r}"
    weight, delay = _matrix(graph, forward)
    layer: dict[str, Any] = {
        "type": "dense",
        "shape": _ints((p.size,)),
        "inFeatures": weight.shape[1],
        "outFeatures": weight.shape[0],
        "weight": weight,
    }
    if "bias" not in layer and len(p.shape) == 3 and np.any(p.params["bias"]):
        layer["bias"] = p.param("bias", np.int64) // 64
    matrices = [weight]
    if recurrent is not None:
        again, wait = _matrix(graph, recurrent)
        if delay.any() or wait.any():
            raise ExportError(
                f"{where}: recurrence with delays (up to {max(delay.max(), wait.max())}); lava-dl uses one "
                "delay array for both matrices and drops their exponent. Use snnkit.hardware.lava.build."
            )
        layer |= {"type": "dense_rec", "weight_rec": again}
        matrices.append(again)
    for matrix, (acting, shift), name in zip(
        matrices, _packed(where, matrices), ("weight", "weight_rec"), strict=False
    ):
        if shift or (acting != matrix).any():
            o, i = np.argwhere(acting != matrix << shift)[0]
            raise ExportError(
                f"{where}: {name} [{o}, {i}] is {matrix[o, i]}, which lava-dl's reader would turn into "
                f"{acting[o, i] / (1 << shift):g}. Safe are weights of both signs within −128..127, or all "
                f"within 0..255; here they reach {matrix.min()}..{matrix.max()}."
            )
    if delay.any():
        _check_delay(where, delay)
        layer["delay"] = delay
    return layer


def _packed(where: str, matrices: list[np.ndarray]) -> list[tuple[np.ndarray, int]]:
    try:
        return packed_weights(*matrices)
    except ExportError as error:
        raise ExportError(f"{where}: {error}") from error


def _check_delay(where: str, delay: np.ndarray) -> None:
    if delay.max() > MAX_DELAY:
        index = np.unravel_index(delay.argmax(), delay.shape)
        raise ExportError(
            f"{where}: delay {delay.max()} at {[int(i) for i in index]} is beyond the {MAX_DELAY} steps of "
            f"NetX ({int((delay > MAX_DELAY).sum())} of {delay.size} are). Quantise with long_delays='clip', "
            "long_delays='relay' or a coarser dt."
        )


def _matrix(graph: Graph, p: Projection) -> tuple[np.ndarray, np.ndarray]:
    """A projection as dense matrices: integer weight, and delay on the chip, ``[O, I]``."""
    _check_shift(p)
    size = graph.populations[p.target].size, graph.populations[p.source].size
    if p.kind == "dense":
        delay = np.where(p.weight != 0, p.delays - 1, (p.delays - 1).clip(0, MAX_DELAY))
        return p.weight.astype(np.int64), delay.astype(np.int64)
    weight, delay = np.zeros(size, np.int64), np.zeros(size, np.int64)
    s = synapses(graph, p)
    used = s.weight != 0
    s = s._replace(**{k: v[used] for k, v in s._asdict().items()})
    if len(np.unique(s.target * size[1] + s.source)) < len(s):
        raise ExportError(
            f"projection {p.name!r} joins a pair of neurons twice; NetX holds one synapse a pair."
        )
    weight[s.target, s.source], delay[s.target, s.source] = s.weight, s.delay - 1
    return weight, delay


def _check_shift(p: Projection) -> None:
    shift = int(p.options.get("shift", 0))
    if shift and (p.weight % (1 << shift)).any():
        raise ExportError(
            f"projection {p.name!r} has a weight exponent of −{shift} on weights that are no multiples of "
            f"{1 << shift}; NetX holds no exponent."
        )
    if shift:
        raise ExportError(
            f"projection {p.name!r} has option shift = {shift}; divide its weights by {1 << shift}."
        )


def _conv_layer(p: Projection, target: Population) -> dict[str, Any]:
    where = f"layer {target.name!r}"
    _check_shift(p)
    if (p.delays != 1).any():
        raise ExportError(
            f"{where}: a convolution with delays (up to {p.max_delay - 1}); lava-dl's reader drops them. "
            "Pass unroll=True to write it as a dense layer."
        )
    if p.weight.min() < -256 or p.weight.max() > 255:
        worst = p.weight.flat[np.abs(p.weight).argmax()]
        raise ExportError(f"{where}: weight {worst} is outside the chip's −256..255.")

    def pair(name: str, default: int) -> np.ndarray:
        return np.broadcast_to(p.options.get(name, default), 2).astype(np.int64)

    return {
        "type": "conv",
        "inChannels": p.weight.shape[1] * int(p.options.get("groups", 1)),
        "outChannels": p.weight.shape[0],
        "kernelSize": _ints(p.weight.shape[2:]),
        "stride": pair("stride", 1),
        "padding": pair("padding", 0),
        "dilation": pair("dilation", 1),
        "groups": int(p.options.get("groups", 1)),
        "weight": p.weight,
    }


def _ints(shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(shape, np.int64)


def _put(group: h5py.Group, layer: dict[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, dict):
            _put(group.create_group(key), value)
        elif key == "type" and group.name.endswith("neuron"):
            group.create_dataset(key, data=value, dtype=h5py.string_dtype("ascii"))
        elif key == "type":
            group.create_dataset(key, data=np.array([value], "S10"))
        elif key in ("weight", "weight_rec", "bias", "delay"):
            array = np.asarray(value)
            large = array.size > 1024
            small = array.astype(np.int16 if key != "delay" else np.uint8)
            group.create_dataset(key, data=small, compression="gzip" if large else None)
        else:
            group.create_dataset(key, data=value)


def read(
    path: PathLike,
    *,
    num_layers: int | None = None,
    reset_interval: int | None = None,
    reset_offset: int = 0,
    clip_delays: bool = False,
) -> Graph:
    """The integer Graph that ``lava.lib.dl.netx.hdf5.Network(path, ...)`` builds.

    num_layers, reset_interval, reset_offset  as that class takes them
    clip_delays                               hold delays above 62 at 62, as lava-dl does with a warning

    Populations are named "input" and "layer0", "layer1", … unless `write` kept their names.
    Raises `DataError` naming the missing path, `ExportError` for layers that lava-dl has no model for.
    """
    with open_h5(path) as file:
        if not isinstance(file.get("layer"), h5py.Group):
            raise DataError(f"{path} is HDF5, but no NetX network: /layer is missing.")
        count = len(file["layer"])
        graph = Graph({}, [])
        notes = _notes(path, file)
        reader = _Reader(Path(path), graph, clip_delays, reset_interval, reset_offset)
        if reset_interval is None and "reset_interval" in notes.get("kwargs", {}):
            reader.interval, reader.offset = (notes["kwargs"][k] for k in ("reset_interval", "reset_offset"))
        for i in range(count if num_layers is None else min(count, num_layers)):
            if f"layer/{i}" not in file:
                raise DataError(
                    f"{path}: /layer/{i} is missing; layers must be numbered 0..{count - 1} without gaps."
                )
            reader.layer(file[f"layer/{i}"])
    if reader.last is None or reader.neurons == 0:
        raise DataError(f"{path}: /layer holds no layer with neurons.")
    graph.outputs = [reader.last]
    if notes and num_layers is None:
        graph = _renamed(graph, notes)
    return graph.validate()


def _notes(path: PathLike, file: h5py.File) -> dict[str, Any]:
    if "snnkit" not in file:
        return {}
    try:
        notes: dict[str, Any] = json.loads(file["snnkit"][()])
        return notes
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: /snnkit is damaged ({error}).") from error


def _renamed(graph: Graph, notes: dict[str, Any]) -> Graph:
    """The names, dt and metadata that `write` kept."""
    old = list(graph.populations)
    if len(old) != len(notes["populations"]):
        return graph
    new = dict(zip(old, notes["populations"], strict=True))
    names = [n for pair in notes["projections"] for n in pair if n]
    for population in graph.populations.values():
        population.name = new[population.name]
    for p, name in zip(graph.projections, names, strict=True):
        p.name, p.source, p.target = name, new[p.source], new[p.target]
    populations = {p.name: p for p in graph.populations.values()}
    return Graph(populations, graph.projections, notes["dt"], notes["outputs"], notes["metadata"])


class _Reader:
    """Builds the graph layer by layer, as lava-dl's reader does."""

    def __init__(
        self, path: Path, graph: Graph, clip_delays: bool, interval: int | None, offset: int
    ) -> None:
        self.path, self.graph, self.clip_delays = path, graph, clip_delays
        self.interval, self.offset = interval, offset
        self.last: str | None = None
        self.neurons = 0

    def get(self, group: h5py.Group, name: str, kind: str = "iuf") -> Any:
        if name not in group or not isinstance(group[name], h5py.Dataset):
            raise DataError(f"{self.path}: {group.name}/{name} is missing.")
        value = group[name][()]
        if np.asarray(value).dtype.kind not in kind:
            raise DataError(f"{self.path}: {group.name}/{name} is {np.asarray(value).dtype}, no number.")
        if np.asarray(value).dtype.kind == "f" and not np.isfinite(value).all():
            raise DataError(f"{self.path}: {group.name}/{name} holds NaN or infinity.")
        return value

    def text(self, group: h5py.Group, name: str) -> str:
        if name not in group or not isinstance(group[name], h5py.Dataset):
            raise DataError(f"{self.path}: {group.name}/{name} is missing.")
        value = np.asarray(group[name][()]).reshape(-1)[0]
        return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)

    def shape(self, group: h5py.Group) -> tuple[int, ...]:
        shape = np.atleast_1d(self.get(group, "shape"))
        if shape.dtype.kind == "f" or shape.min() < 1:
            raise DataError(
                f"{self.path}: {group.name}/shape is {shape.tolist()}, must be positive integers."
            )
        return tuple(int(n) for n in shape)

    def layer(self, group: h5py.Group) -> None:
        kind = self.text(group, "type")
        if kind == "input":
            if "neuron" in group:
                raise ExportError(
                    f"{self.path}: {group.name} is an input layer with neurons, which lava-dl feeds "
                    "through their bias; an input layer without 'neuron' takes spikes."
                )
            if "shape" in group:
                self.input(self.shape(group))
        elif kind in ("dense", "dense_rec"):
            self.dense(group, kind == "dense_rec")
        elif kind == "conv":
            self.conv(group)
        elif kind != "flatten":
            raise ExportError(
                f"{self.path}: {group.name}/type is {kind!r}; lava-dl runs input, dense, dense_rec, conv "
                "and flatten."
            )

    def input(self, shape: tuple[int, ...]) -> None:
        shape = (shape[0],) if len(shape) == 3 and shape[1:] == (1, 1) else shape
        self.graph.populations["input"] = Population("input", INPUT, shape)
        self.last = "input"

    def population(self, group: h5py.Group, shape: tuple[int, ...]) -> str:
        if "neuron" in group:
            neuron = group["neuron"]
            kind = self.text(neuron, "type")
            if kind not in NEURON_TYPES:
                raise ExportError(
                    f"{self.path}: {neuron.name}/type is {kind!r}; read are {' and '.join(NEURON_TYPES)}."
                )
            if "messageBits" in neuron:
                raise ExportError(
                    f"{self.path}: {neuron.name}/messageBits stops lava-dl's reader; remove it."
                )
            numbers = {}
            for key in ("iDecay", "vDecay", "vThMant"):
                value = np.asarray(self.get(neuron, key))
                if value.size != 1 or value.dtype.kind == "f":
                    raise DataError(
                        f"{self.path}: {neuron.name}/{key} is {value.tolist()} ({value.dtype}); lava-dl "
                        "needs one integer."
                    )
                numbers[key] = int(value.reshape(-1)[0])
        elif group["type"] is not None and self.text(group, "type") == "conv":
            raise DataError(f"{self.path}: {group.name}/neuron is missing.")
        else:
            numbers = {"iDecay": 0, "vDecay": 4096, "vThMant": 131072}
        bias: np.ndarray = np.zeros((), np.int64)
        if "bias" in group:
            mantissa = np.asarray(self.get(group, "bias")).astype(np.int64)
            if mantissa.shape not in (shape, (shape[0],)):
                raise DataError(
                    f"{self.path}: {group.name}/bias has shape {mantissa.shape}, expected {shape} or "
                    f"({shape[0]},)."
                )
            bias = loihi.effective_bias(mantissa, 6).reshape(shape[0], *[1] * (len(shape) - 1))
        name = f"layer{self.neurons}"
        self.graph.populations[name] = loihi.population(
            name,
            shape,
            du=numbers["iDecay"] - 1,
            dv=numbers["vDecay"],
            vth=numbers["vThMant"],
            bias=bias,
            reset_interval=self.interval or 0,
            reset_offset=self.offset + 1 + self.neurons if self.interval else 0,
        )
        self.neurons += 1
        return name

    def dense(self, group: h5py.Group, recurrent: bool) -> None:
        if isinstance(group.get("weight"), h5py.Group):
            raise ExportError(f"{self.path}: {group.name}/weight is complex; resonate-and-fire is not read.")
        n = int(np.prod(self.shape(group)))
        weight = self.matrix(group, "weight", n)
        matrices = [weight, self.matrix(group, "weight_rec", n)] if recurrent else [weight]
        if self.last is None:
            self.input((weight.shape[1],))
        assert self.last is not None
        source = self.graph.populations[self.last]
        if source.size != weight.shape[1]:
            raise ShapeError(
                f"{self.path}: {group.name}/weight is {weight.shape}, but the layer before has {source.size} "
                "neurons."
            )
        delay = self.delay(group, weight.shape)
        if recurrent and "delay" in group:
            raise ExportError(
                f"{self.path}: {group.name} is dense_rec with delay, which lava-dl's reader scales wrongly."
            )
        packed = _packed(f"{self.path}: {group.name}", matrices)
        name = self.population(group, (n,))
        for (acting, shift), origin, label, d in zip(
            packed,
            (self.last, name),
            (f"{self.last}→{name}", f"{name}→{name}"),
            (delay, np.zeros(())),
            strict=False,
        ):
            options = {"shift": shift} if shift else {}
            lag = (d + 1).astype(np.int32)
            self.graph.projections.append(Projection(label, origin, name, acting, lag, options=options))
        self.last = name

    def matrix(self, group: h5py.Group, name: str, n: int) -> np.ndarray:
        weight = np.asarray(self.get(group, name)).astype(np.int64)
        if weight.ndim == 1 and weight.size % n == 0:
            weight = weight.reshape(n, -1)
        if weight.ndim != 2 or weight.shape[0] != n or (name == "weight_rec" and weight.shape[1] != n):
            raise DataError(f"{self.path}: {group.name}/{name} has shape {weight.shape}, expected ({n}, …).")
        return weight

    def delay(self, group: h5py.Group, shape: tuple[int, int]) -> np.ndarray:
        if "delay" not in group:
            return np.zeros((), np.int64)
        delay = np.asarray(self.get(group, "delay"))
        if delay.min() < 0:
            raise DataError(f"{self.path}: {group.name}/delay holds {delay.min()}, below 0.")
        if delay.max() > MAX_DELAY and not self.clip_delays:
            raise ExportError(
                f"{self.path}: {group.name}/delay reaches {delay.max()}; lava-dl holds it at {MAX_DELAY}. "
                "Pass clip_delays=True to read it so."
            )
        delay = delay.clip(0, MAX_DELAY).astype(np.int64)
        if delay.ndim == 1 and delay.size == shape[0]:
            return np.repeat(delay[:, None], shape[1], 1)
        if delay.ndim == 1 and delay.size == shape[1]:
            return np.repeat(delay[None], shape[0], 0)
        if delay.ndim and delay.shape != shape:
            raise DataError(f"{self.path}: {group.name}/delay has shape {delay.shape}, expected {shape}.")
        return delay

    def conv(self, group: h5py.Group) -> None:
        shape = self.shape(group)
        if self.last is None:
            raise DataError(f"{self.path}: {group.name} is a convolution without an input layer before it.")
        weight = np.asarray(self.get(group, "weight")).astype(np.int64)
        weight = weight.reshape(weight.shape[:4])
        options: dict[str, Any] = {}
        for key in ("stride", "padding", "dilation"):
            options[key] = [int(n) for n in np.broadcast_to(self.get(group, key), 2)]
        groups = np.asarray(self.get(group, "groups"))
        if groups.ndim:
            raise DataError(
                f"{self.path}: {group.name}/groups must be a scalar, it has shape {groups.shape}."
            )
        options["groups"] = int(groups)
        name = self.population(group, shape)
        self.graph.projections.append(
            Projection(
                f"{self.last}→{name}", self.last, name, weight, np.array(1, np.int32), "conv", options=options
            )
        )
        self.last = name
