"""An integer Graph as a NetX file."""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np

from ...engine import synapses
from ...errors import ExportError
from ...files import PathLike, atomic_h5
from ...graph import Graph, Population, Projection, conv_geometry
from ...metadata import Units
from ...neurons.loihi import NEVER, ONE
from .. import loihi
from .fields import LARGEST
from .packing import MAX_BIAS, MAX_DELAY, MAX_VTH, MESSAGE_BITS, NO_NEURONS, packed_in

MAX_INPUT_WEIGHT = (1 << 15) - 1


def write(graph: Graph, path: PathLike, *, unroll: bool = False) -> dict[str, int]:
    """Write an integer `graph` that is a chain of layers; returns what `Network(path, ...)` must be given.

    unroll  write a convolution with delays, which NetX has no place for, as a dense layer

    Raises `ExportError`, naming the layer and the value, for whatever a NetX file cannot hold or
    lava-dl's reader would turn into another network. Branches, delayed recurrence and initial states
    go through `snnkit.hardware.lava` instead.
    """
    loihi.check(graph)
    chain = _chain(graph)
    for name, *_ in chain:
        _check_start(graph.populations[name])
    reset = _reset(graph, [name for name, *_ in chain])
    layers: list[dict[str, Any]] = []
    shape = graph.populations[graph.inputs[0]].shape
    if (weight := _input_weight(graph, *chain[0][1:])) is not None:
        layer = {"type": "input", "shape": _ints(shape), "weight": np.array([weight])}
        neurons = _neuron_layer(graph.populations[chain[0][0]])
        layers.append(neurons | layer | ({"bias": neurons["bias"][:1]} if "bias" in neurons else {}))
    else:
        _check_handed(chain[0][1])
        layers.append({"type": "input", "shape": _ints(shape)})
        if Units.of(graph.metadata).graded:
            reset["input_message_bits"] = MESSAGE_BITS
    for name, forward, recurrent in chain[weight is not None :]:
        population = graph.populations[name]
        unrolled = unroll and (len(shape) != 3 or (forward.delays != 1).any())
        conv = forward.kind == "conv" and not unrolled
        layer = _neuron_layer(population, bare=not conv)
        if conv:
            layers.append(layer | _conv_layer(forward, shape, population))
            shape = population.shape
        else:
            if len(shape) == 3:
                layers.append({"type": "flatten", "shape": _ints((int(np.prod(shape)), 1, 1))})
            layers.append(layer | _dense_layer(graph, forward, recurrent, population))
            shape = (population.size,)
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
    if not chain:
        raise ExportError(f"nothing is fed by {here!r}; a NetX network has at least one layer of neurons.")
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


def _check_start(p: Population) -> None:
    if p.initial:
        raise ExportError(
            f"layer {p.name!r}: starts from {sorted(p.initial)} that are not 0, which NetX has no place for. "
            "A current-based neuron's bias can do without: quantise with settled_bias=True (snnkit export "
            "--settled-bias). Other states go through snnkit.hardware.lava.build."
        )


def _input_weight(graph: Graph, forward: Projection, recurrent: Projection | None) -> int | None:
    """The weight of an input layer with neurons, None where the chain begins with no such layer.

    It is one where each input value goes to a neuron of its own, in whole parts of what it stands for.
    """
    scale = Units.of(graph.metadata).inputs.get(graph.inputs[0], 0.0)
    target = graph.populations[forward.target]
    plain = forward.kind == "one_to_one" and recurrent is None and not forward.options.get("shift")
    if not plain or (forward.delays != 0).any() or target.shape != graph.populations[forward.source].shape:
        return None
    sign, bias = forward.weight, target.param("bias", np.int64)
    if (sign != sign[:1]).any() or abs(int(sign[0])) > 1 or (bias != bias[:1]).any():
        return None
    if scale % 1 or scale > MAX_INPUT_WEIGHT:
        return None
    return int(sign[0]) * int(scale) if (scale > 0) == bool(sign[0]) else None


def _check_handed(p: Projection) -> None:
    if p.delays.min(initial=1) < 1:
        raise ExportError(
            f"projection {p.name!r} hands values to neurons through no synapse; NetX has that for one bias, "
            "weights that are all 1 or all −1, and an input scale that is a whole number."
        )


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


def _neuron_layer(p: Population, *, bare: bool = False) -> dict[str, Any]:
    """Shape, biases and neurons of a layer; `bare`: without neurons where lava-dl puts the same in."""
    where = f"layer {p.name!r}"
    du, dv, vth = (int(_one(p, k)) for k in ("du", "dv", "vth"))
    for name, value, low, high in (("du", du, -1, 4095), ("dv", dv, 0, 4096)):
        if not low <= value <= high:
            raise ExportError(f"{where}: {name} is {value}; a decay must lie in {low}..{high}.")
    bare = bare and {"iDecay": du + 1, "vDecay": dv, "vThMant": vth} == NO_NEURONS
    if not 0 <= vth <= MAX_VTH and vth != loihi.SILENT and not bare:
        raise ExportError(
            f"{where}: vth is {vth}; the chip has 17 bits, 0..{MAX_VTH} (and {loihi.SILENT} for a read-out "
            "that never spikes)."
        )
    bias = p.param("bias", np.int64)
    if (bias % ONE).any():
        raise ExportError(
            f"{where}: bias {bias[bias % ONE != 0][0]} is no multiple of {ONE}, the unit of NetX."
        )
    bias = bias // ONE
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
    neuron: dict[str, Any] = {
        "type": "CUBA",
        "iDecay": du + 1,
        "vDecay": dv,
        "vThMant": vth,
        "refDelay": 1 + _refractory(p),
        "gradedSpike": False,
    }
    layer = {"shape": _ints(p.shape)} | ({} if bare else {"neuron": neuron})
    return layer | ({"bias": bias} if bias.any() else {})


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
    if len(p.shape) == 3 and np.any(p.params["bias"]):
        layer["bias"] = p.param("bias", np.int64) // ONE
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
        matrices, packed_in(where, matrices), ("weight", "weight_rec"), strict=False
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


def _check_delay(where: str, delay: np.ndarray) -> None:
    if delay.max() > MAX_DELAY:
        index = np.unravel_index(delay.argmax(), delay.shape)
        raise ExportError(
            f"{where}: delay {delay.max()} at {[int(i) for i in index]} is beyond the {MAX_DELAY} steps of "
            f"NetX ({int((delay > MAX_DELAY).sum())} of {delay.size} are). Quantise with --clip-delays "
            "(long_delays='clip'), --relay-delays (long_delays='relay') or a coarser dt."
        )


def _matrix(graph: Graph, p: Projection) -> tuple[np.ndarray, np.ndarray]:
    """A projection as dense matrices: integer weight, and delay on the chip, ``[O, I]``."""
    _check_shift(p)
    size = graph.populations[p.target].size, graph.populations[p.source].size
    if p.kind == "dense":
        delay = np.where(p.weight != 0, p.delays - 1, (p.delays - 1).clip(0, MAX_DELAY))
        return p.weight.astype(np.int64), delay.astype(np.int64)
    if size[0] * size[1] > LARGEST:
        raise ExportError(
            f"projection {p.name!r} is {p.kind}; as the dense matrix that NetX holds it would have "
            f"{size[0]} · {size[1]} entries, more than {LARGEST}."
        )
    weight, delay = np.zeros(size, np.int64), np.zeros(size, np.int64)
    s = synapses(graph, p)
    used = s.weight != 0
    s = s._replace(**{k: v[used] for k, v in s._asdict().items()})
    if len(np.unique(s.target * size[1] + s.source)) < len(s.source):
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


def _conv_layer(p: Projection, shape: tuple[int, ...], target: Population) -> dict[str, Any]:
    """A convolution behind a layer that NetX holds in `shape`."""
    where = f"layer {target.name!r}"
    _check_shift(p)
    if len(shape) != 3:
        raise ExportError(
            f"{where}: a convolution behind a dense layer, which NetX holds as {shape}, no image. Pass "
            "unroll=True (--unroll) to write it as a dense layer."
        )
    if (p.delays != 1).any():
        raise ExportError(
            f"{where}: a convolution with delays (up to {p.max_delay - 1}); lava-dl's reader drops them. "
            "Pass --unroll (unroll=True) to write it as a dense layer."
        )
    if p.weight.min() < -256 or p.weight.max() > 255:
        worst = p.weight.flat[np.abs(p.weight).argmax()]
        raise ExportError(f"{where}: weight {worst} is outside the chip's −256..255.")

    stride, padding, dilation = conv_geometry(p)
    return {
        "type": "conv",
        "inChannels": p.weight.shape[1] * int(p.options.get("groups", 1)),
        "outChannels": p.weight.shape[0],
        "kernelSize": _ints(p.weight.shape[2:]),
        "stride": _ints(stride),
        "padding": _ints(padding),
        "dilation": _ints(dilation),
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
