"""The integer model against golden vectors: runs that Lava itself made and recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, SnnkitError
from ..files import PathLike
from ..graph import INPUT, Graph, Population, Projection
from . import loihi, netx

Run = Callable[[Graph, Any, int], loihi.Trace]


def read_vector(path: PathLike) -> tuple[Graph, np.ndarray, list[dict[str, np.ndarray]]]:
    """A file of recorded Lava runs: the network, its input ``[T, 1, N]``, and per layer u, v, s ``[T, N]``.

    Two forms, told apart by what lies beside it: with a ``.net`` file of the same name the network is
    that NetX file; without, the network's arrays are in the ``.npz`` itself. Raises `DataError` naming
    what is damaged, missing or not supported.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays["meta"])) if "meta" in arrays else {}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path} is no readable vector file ({error}).") from error
    net = path.with_suffix(".net")
    try:
        return _netx_vector(net, arrays, meta) if net.exists() else _lava_vector(arrays)
    except KeyError as error:
        raise DataError(f"{path}: array {error} is missing.") from error


def _binary(x: np.ndarray, message_bits: int) -> np.ndarray:
    """A synapse without message bits takes any value other than 0 as one spike."""
    x = x.reshape(len(x), 1, -1).astype(np.int64)
    return x if message_bits > 0 else (x != 0).astype(np.int64)


def _lava_vector(arrays: dict[str, np.ndarray]) -> tuple[Graph, np.ndarray, list[dict[str, np.ndarray]]]:
    x = arrays["x"]
    graph = Graph({"input": Population("input", INPUT, (x.shape[1],))}, [])
    layers = [key[:-2] for key in arrays if key.endswith("_w") and not key.endswith("_rec_w")]
    expected, last = [], "input"
    for i in range(len(layers)):
        layer = f"L{i}_"
        get: dict[str, np.ndarray] = {
            key[len(layer) :]: value for key, value in arrays.items() if key.startswith(layer)
        }
        name = f"layer{i}"
        graph.populations[name] = loihi.population(
            name,
            get["w"].shape[0],
            du=_int(get["du"]),
            dv=_int(get["dv"]),
            vth=_int(get["vth"]),
            bias=loihi.effective_bias(
                get.get("bias_mant", np.zeros(1)), get.get("bias_exp", np.zeros(1, int))
            ),
            u=get.get("u0", np.zeros(1, int)),
            v=get.get("v0", np.zeros(1, int)),
            reset_interval=int(get.get("reset_interval", 0)),
            reset_offset=int(get.get("reset_offset", 0)),
        )
        graph.projections.append(_lava_synapse(f"{last}→{name}", last, name, get, ""))
        if "rec_w" in get:
            graph.projections.append(_lava_synapse(f"{name}→{name}", name, name, get, "rec_"))
        expected.append({key: get[key] for key in ("u", "v", "s")})
        last = name
    if not layers:
        raise KeyError("L0_w")
    graph.outputs = [last]
    return graph, _binary(x, int(arrays.get("L0_num_message_bits", 0))), expected


def _int(value: np.ndarray) -> np.ndarray:
    return value.reshape(-1) if value.ndim else value


def _lava_synapse(name: str, source: str, target: str, get: dict[str, np.ndarray], part: str) -> Projection:
    return loihi.projection(
        name,
        source,
        target,
        get[f"{part}w"],
        get.get(f"{part}delays", 0),
        weight_exp=int(get.get(f"{part}weight_exp", 0)),
        num_weight_bits=int(get.get(f"{part}num_weight_bits", 8)),
        mode=str(get.get(f"{part}sign_mode", "auto")).lower().rsplit(".", 1)[-1],
        max_delay=int(get.get(f"{part}max_delay", 0)) if f"{part}delays" in get else 0,
    )


NETWORK_OPTIONS = ("num_layers", "reset_interval", "reset_offset", "input_message_bits", "sparse_fc_layer")


def _netx_vector(
    net: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]
) -> tuple[Graph, np.ndarray, list[dict[str, np.ndarray]]]:
    options = dict(meta.get("network_kwargs", {}))
    if unknown := set(options) - set(NETWORK_OPTIONS):
        raise DataError(f"{net}: Network options {sorted(unknown)} are not supported; {NETWORK_OPTIONS} are.")
    bits = int(options.pop("input_message_bits", 0) or 0)
    options.pop("sparse_fc_layer", None)
    graph = netx.read(net, **options)
    count = sum(p.neuron != INPUT for p in graph.populations.values())
    expected = [
        {key: arrays[f"N{i}_{key}"].reshape(len(arrays["x"]), -1) for key in ("u", "v", "s")}
        for i in range(count)
    ]
    return graph, _binary(arrays["x"], bits), expected


def check_vector(path: PathLike, run: Run | None = None) -> str | None:
    """None if the integer model equals the recorded run in u, v and spikes of every step, else where not."""
    graph, x, expected = read_vector(path)
    trace = (run or loihi.simulate)(graph, x, len(x))
    layers = [name for name, p in graph.populations.items() if p.neuron != INPUT]
    first: tuple[int, str] | None = None
    for name, want in zip(layers, expected, strict=True):
        for what, got in (("u", trace.u[name]), ("v", trace.v[name]), ("s", trace.spikes[name])):
            differs = got[:, 0] != want[what]
            if differs.any():
                t, n = (int(i) for i in np.argwhere(differs)[0])
                message = (
                    f"{name}, step {t}, neuron {n}: {what} is {got[t, 0, n]}, Lava has {want[what][t, n]}"
                )
                first = min(first or (t, message), (t, message))
    return first[1] if first else None


def vectors(folder: PathLike, write: Callable[[str], None] = print, run: Run | None = None) -> int:
    """Run the integer model on every vector file of `folder`; returns the exit status, 0 if all are equal.

    Writes one line a file and, at the end, "N of M equal".
    """
    folder = Path(folder)
    files = sorted(folder.rglob("*.npz")) if folder.is_dir() else []
    equal = 0
    for path in files:
        try:
            difference = check_vector(path, run)
        except SnnkitError as error:
            difference = str(error)
        equal += difference is None
        write(f"{path.relative_to(folder)}: {'equal' if difference is None else difference}")
    write(f"{equal} of {len(files)} equal")
    return 0 if files and equal == len(files) else 1
