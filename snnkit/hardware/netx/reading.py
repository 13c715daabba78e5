"""A NetX file as the integer Graph that lava-dl's reader would build."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...errors import DataError, ExportError, ShapeError
from ...files import PathLike, open_h5
from ...graph import INPUT, Graph, Population, Projection
from .. import loihi
from .packing import MAX_DELAY, packed_in

NEURON_TYPES = ("CUBA", "LOIHI")


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
        if reset_interval is None and "reset_interval" in notes.get("kwargs", {}):
            reset_interval, reset_offset = (notes["kwargs"][k] for k in ("reset_interval", "reset_offset"))
        reader = _Reader(Path(path), graph, clip_delays, reset_interval, reset_offset)
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
        """The numbers of a dataset, whose dtype is of a `kind`; finite."""
        if name not in group or not isinstance(group[name], h5py.Dataset):
            raise DataError(f"{self.path}: {group.name}/{name} is missing.")
        value = group[name][()]
        if np.asarray(value).dtype.kind not in kind:
            raise DataError(f"{self.path}: {group.name}/{name} is {np.asarray(value).dtype}, no number.")
        if np.asarray(value).dtype.kind == "f" and not np.isfinite(value).all():
            raise DataError(f"{self.path}: {group.name}/{name} holds NaN or infinity.")
        return value

    def text(self, group: h5py.Group, name: str) -> str:
        """The first text of a dataset."""
        if name not in group or not isinstance(group[name], h5py.Dataset):
            raise DataError(f"{self.path}: {group.name}/{name} is missing.")
        value = np.asarray(group[name][()]).reshape(-1)[0]
        return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)

    def shape(self, group: h5py.Group) -> tuple[int, ...]:
        """A layer's shape."""
        shape = np.atleast_1d(self.get(group, "shape"))
        if shape.dtype.kind == "f" or shape.min() < 1:
            raise DataError(
                f"{self.path}: {group.name}/shape is {shape.tolist()}, must be positive integers."
            )
        return tuple(int(n) for n in shape)

    def layer(self, group: h5py.Group) -> None:
        """Add what one layer of the file holds."""
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
        """Add the input population."""
        shape = (shape[0],) if len(shape) == 3 and shape[1:] == (1, 1) else shape
        self.graph.populations["input"] = Population("input", INPUT, shape)
        self.last = "input"

    def population(self, group: h5py.Group, shape: tuple[int, ...]) -> str:
        """Add a layer's neurons; the population's name."""
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
        elif self.text(group, "type") == "conv":
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
        """Add a dense layer, with its connections back to itself where it is `recurrent`."""
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
        packed = packed_in(f"{self.path}: {group.name}", matrices)
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
        """Weights int64 [n, I]."""
        weight = np.asarray(self.get(group, name)).astype(np.int64)
        if weight.ndim == 1 and weight.size % n == 0:
            weight = weight.reshape(n, -1)
        if weight.ndim != 2 or weight.shape[0] != n or (name == "weight_rec" and weight.shape[1] != n):
            raise DataError(f"{self.path}: {group.name}/{name} has shape {weight.shape}, expected ({n}, …).")
        return weight

    def delay(self, group: h5py.Group, shape: tuple[int, int]) -> np.ndarray:
        """The chip's delays, int64: a scalar or of the weights' `shape`."""
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
        """Add a convolution."""
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
