"""An integer Graph as processes of Lava (lava-nc), which run on its CPU models or on the chip.

lava-nc lives on Python 3.10, snnkit on later ones. So `plan` writes a network and its input down as
plain arrays, `lava_processes` (which needs NumPy and lava-nc only) builds and runs them in whatever
interpreter has Lava, and `run` takes care of the way there and back. Where lava-nc can be imported,
`build` gives the processes themselves.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import synapses
from ..errors import ExportError, MissingExtraError, require
from ..files import PathLike
from ..graph import INPUT, Graph, Population, Projection, conv_geometry
from . import lava_processes, loihi

LONGEST = 63
"""What Lava's DelayDense takes; a NetX file takes 62."""


def build(graph: Graph, x: Any = None, steps: int | None = None) -> lava_processes.Network:
    """The Lava processes of an integer graph: `.populations` and `.synapses` by name, `.run(steps)`.

    x      input of one sample, int [T, N] or {input: [T, N]}, played by ring buffers; None: silence
    steps  what `x` is filled up to with silence

    Raises `MissingExtraError` where lava-nc cannot be imported (it needs Python 3.10; see `run`).
    """
    require("lava.proc.lif.process", "lava")
    return lava_processes.Network(plan(graph, x, steps))


def run(graph: Graph, x: Any, steps: int | None = None, *, python: PathLike) -> loihi.Trace:
    """What real Lava computes of one sample, by an interpreter that has lava-nc; arrays ``[T, 1, N]``.

    Arguments as for `plan`. Raises `MissingExtraError` with Lava's last words where it does not run.
    """
    result = _elsewhere(plan(graph, x, steps) | {"probe": np.array(True)}, python)
    trace = loihi.Trace({}, {}, {})
    for name, p in graph.populations.items():
        if p.neuron != INPUT:
            for part, short in ((trace.u, "u"), (trace.v, "v"), (trace.spikes, "s")):
                part[name] = result[f"{name}/{short}"].astype(np.int64)[:, None]
    return trace


def seconds(graph: Graph, x: Any, steps: int | None = None, *, python: PathLike) -> float:
    """Seconds that real Lava takes for one step on this machine, nothing probed, processes started before."""
    made = plan(graph, x, steps) | {"probe": np.array(False)}
    return float(_elsewhere(made, python)["seconds"]) / max(int(made["steps"]) - 1, 1)


def _elsewhere(made: dict[str, np.ndarray], python: PathLike) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "plan.npz", Path(folder) / "result.npz"
        np.savez(given, **made)  # type: ignore[arg-type]
        command = [str(python), str(Path(lava_processes.__file__)), str(given), str(found)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not found.exists():
            raise MissingExtraError(
                f"{python} could not run Lava (exit code {done.returncode}); it needs Python 3.10 with "
                f"lava-nc. Its last words: {done.stderr.strip()[-500:]}"
            )
        with np.load(found, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def plan(graph: Graph, x: Any = None, steps: int | None = None) -> dict[str, np.ndarray]:
    """The processes and their input as arrays, and "spec", a JSON text that says what they are.

    x      input of one sample, int [T, N] or {input: [T, N]}; None: silence
    steps  how many to run; the length of the input where it is not given

    Raises `ExportError` for what lava-nc has no fixed-point model of: a refractory period, delays in
    convolutions, weights beyond 8 bits and an exponent, delays above 63.
    """
    loihi.check(graph)
    inputs = x if isinstance(x, dict) else {graph.inputs[0]: x} if x is not None else {}
    longest = max((len(a) for a in inputs.values()), default=0)
    steps = longest if steps is None else steps
    arrays: dict[str, np.ndarray] = {"steps": np.array(steps)}
    spec: dict[str, Any] = {"populations": [], "synapses": []}
    counts: dict[str, bool] = {}
    played: dict[str, np.ndarray] = {}
    for i, (name, p) in enumerate(graph.populations.items()):
        if p.neuron == INPUT:
            values = np.zeros((max(steps, 1), p.size), np.int64)
            given = np.asarray(inputs.get(name, np.zeros((0, p.size))), np.int64)[:steps]
            values[: len(given)] = given.reshape(-1, p.size)
            counts[name] = bool((values * (values - 1)).any())
            played[name] = values
            arrays[f"p{i}_x"] = _to_lava(values.T, p.shape)
            spec["populations"].append({"name": name, "kind": "input", "shape": p.shape[::-1]})
        else:
            spec["populations"].append(_neurons(i, p, arrays))
    for i, s in enumerate(graph.projections):
        if (s.delays < 1).any():  # values for the neurons themselves, through no synapse
            shape = graph.populations[s.target].shape
            arrays[f"s{i}_x"] = _to_lava((played[s.source] * s.weight).T, shape)
            spec["synapses"].append({"name": s.name, "kind": "handed", "target": s.target})
        else:
            spec["synapses"].append(_synapses(i, graph, s, arrays, counts.get(s.source, False)))
    arrays["spec"] = np.array(json.dumps(spec))
    return arrays


def _to_lava(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values ``[N, …]`` of neurons in (C, H, W) order → in Lava's (W, H, C) order."""
    return values[_order(shape)]


def _order(shape: tuple[int, ...]) -> np.ndarray:
    """For each neuron in Lava's order its index in C order of (C, H, W)."""
    return np.arange(int(np.prod(shape))).reshape(shape).transpose().reshape(-1)


def _neurons(i: int, p: Population, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    where = f"population {p.name!r}"
    if "refractory" in p.params and p.params["refractory"].any():
        raise ExportError(f"{where}: refractory period; lava-nc has no fixed-point model of it.")
    mantissa, exponent = _bias(where, p.param("bias", np.int64))
    start = {k: np.broadcast_to(p.initial.get(k, np.int64(0)), p.shape).reshape(-1) for k in ("u", "v")}
    for k, value in {"bias_mant": mantissa, "bias_exp": exponent, **start}.items():
        arrays[f"p{i}_{k}"] = _to_lava(value.astype(np.int64), p.shape)
    for k in ("du", "dv", "vth"):
        value = p.param(k, np.int64)
        arrays[f"p{i}_{k}"] = value[0] if (value == value[0]).all() else _to_lava(value, p.shape)
        arrays[f"p{i}_{k}"] = np.asarray(arrays[f"p{i}_{k}"])
    clock = {k: int(p.params[k]) if k in p.params else 0 for k in ("reset_interval", "reset_offset")}
    shape = p.shape[::-1]
    return {"name": p.name, "kind": "lif", "shape": shape, **clock}


def _bias(where: str, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mantissa within 13 bits and exponent 0..7 of each bias."""
    exponent = np.full(len(bias), -1)
    for e in range(8):
        fits = (exponent < 0) & (bias % (1 << e) == 0) & (np.abs(bias >> e) <= 4095)
        exponent[fits] = e
    if (exponent < 0).any():
        wrong = int(np.argmax(exponent < 0))
        raise ExportError(f"{where}, neuron {wrong}: bias {bias[wrong]} is no 13-bit number times 2^0..2^7.")
    return bias >> exponent, exponent


def weight_arguments(weight: np.ndarray, shift: int, where: str) -> tuple[np.ndarray, int, int, str]:
    """weights, weight_exp, num_weight_bits, sign_mode with which Lava's synapse acts as `weight` >> shift.

    weight  int, any shape; the weights returned are int64 of the same

    Raises `ExportError` for weights that are no 8-bit numbers times a power of two.
    """
    weight = weight.astype(np.int64)
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    for e in range(24):
        if (weight % (1 << e)).any():
            break
        a, b, w = low >> e, high >> e, weight >> e
        if a >= 0 and b <= 255:
            return w, e - shift, 8, "EXCITATORY"
        if a >= -255 and b <= 0:
            return w, e - shift, 8, "INHIBITORY"
        if a >= -128 and b <= 127:
            return w * 2, e - shift - 1, 8, "MIXED"
        if a >= -256 and b <= 254 and not (w % 2).any():
            return w, e - shift, 8, "MIXED"
    raise ExportError(
        f"{where}: weights {low}..{high} are no 8-bit numbers times a power of two "
        "(−128..127, even −256..254, 0..255 or −255..0)."
    )


def _synapses(
    i: int, graph: Graph, p: Projection, arrays: dict[str, np.ndarray], counted: bool
) -> dict[str, Any]:
    where = f"projection {p.name!r}"
    source, target = graph.populations[p.source], graph.populations[p.target]
    shift = int(p.options.get("shift", 0))
    entry: dict[str, Any] = {"name": p.name, "source": p.source, "target": p.target}
    entry["num_message_bits"] = 24 if counted else 0
    if p.kind == "conv":
        if (p.delays != 1).any():
            raise ExportError(f"{where}: a convolution with delays; Lava's Conv has none.")
        if shift and (p.weight % (1 << shift)).any():
            raise ExportError(f"{where}: a negative weight exponent, which Lava's Conv ignores.")
        stride, padding, dilation = conv_geometry(p)
        # Lava convolves (kernel flipped) in (W, H, C) order; ours is a cross-correlation in (C, H, W)
        kernel = (p.weight >> shift)[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
        arrays[f"s{i}_weight"] = np.ascontiguousarray(kernel)
        return entry | {
            "kind": "conv",
            "input_shape": source.shape[::-1],
            "stride": stride[::-1],
            "padding": padding[::-1],
            "dilation": dilation[::-1],
            "groups": int(p.options.get("groups", 1)),
        }
    weight = np.zeros((target.size, source.size), np.int64)
    delay = np.zeros_like(weight)
    s = synapses(graph, p)
    used = s.weight != 0
    o, n = s.target[used], s.source[used]
    if len(np.unique(o * source.size + n)) < len(o):
        raise ExportError(f"{where} joins a pair of neurons twice; Lava's synapses hold one a pair.")
    weight[o, n], delay[o, n] = s.weight[used], s.delay[used] - 1
    if delay.max(initial=0) > LONGEST:
        raise ExportError(f"{where}: delay {delay.max()} is beyond Lava's {LONGEST} steps.")
    rows, columns = _order(target.shape), _order(source.shape)
    weight, delay = weight[rows][:, columns], delay[rows][:, columns]
    acting, exponent, bits, mode = weight_arguments(weight, shift, where)
    arrays[f"s{i}_weight"] = acting
    if delay.any():
        arrays[f"s{i}_delay"] = delay
    kind = "dense" if p.kind == "dense" else "sparse"
    return entry | {"kind": kind, "weight_exp": exponent, "num_weight_bits": bits, "sign_mode": mode}
