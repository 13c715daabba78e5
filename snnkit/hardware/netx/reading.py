"""A NetX file as the integer Graph that lava-dl's reader would build."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from ...errors import DataError, ExportError, ShapeError
from ...files import PathLike, open_h5
from ...graph import INPUT, Graph, Population, Projection
from ...metadata import Units
from .. import loihi
from .fields import cut, damaged, flag, has, integers, member, numbers, shape_of, text, where
from .packing import MAX_DELAY, NO_NEURONS, packed_in

NEURON_TYPES = ("CUBA", "LOIHI")
OTHER_NEURONS = {
    "SDNN": "this is a sigma-delta network (SDNN), whose layers send changes of graded values and no spikes",
    "ALIF": "adaptive thresholds, which lava-dl's own reader has no model of",
    "ADRF": "adaptive resonate-and-fire neurons",
    "RF": "resonate-and-fire neurons",
}
"""Beginning of a type's name → what such neurons are, for the refusal."""

INPUT_WEIGHT = 64
"""The factor 1 of an input layer that has no weight, in the file's unit."""


def read(
    path: PathLike,
    *,
    num_layers: int | None = None,
    reset_interval: int | None = None,
    reset_offset: int = 0,
    clip_delays: bool = False,
    as_lava: bool = False,
) -> Graph:
    """The integer Graph that ``lava.lib.dl.netx.hdf5.Network(path, ...)`` builds.

    num_layers, reset_interval, reset_offset  as that class takes them
    clip_delays                               hold delays above 62 at 62, as lava-dl does with a warning
    as_lava                                   leave out, as lava-dl does without one, what a file says of
                                              delays in convolutions, batch norm's weight exponents, graded
                                              spikes and refractory periods

    Populations are named "input" and "layer0", "layer1", … unless `write` kept their names.

    An input layer with neurons becomes the population "input", whose values are handed to the neurons
    "layer0" within the step, each its own. lava-dl trains them on w · x + b; here b is their bias, and |w|
    stands in ``metadata["input_scale"]``: the values are round(|w| · x), which `snnkit.hardware.graded.sent`
    makes of x.

    Raises `DataError` naming the path that is missing or damaged, `ExportError` for what lava-dl has no
    model for, or reads past.
    """
    with open_h5(path) as file:
        if not isinstance(file.get("layer"), h5py.Group):
            raise DataError(f"{path} is HDF5, but no NetX network: /layer is missing.")
        count = len(file["layer"])
        notes = _notes(path, file)
        if reset_interval is None and "reset_interval" in notes.get("kwargs", {}):
            reset_interval, reset_offset = (notes["kwargs"][k] for k in ("reset_interval", "reset_offset"))
        how = _How(
            clip_delays=clip_delays,
            as_lava=as_lava,
            ours=bool(notes),
            interval=reset_interval or 0,
            offset=reset_offset,
        )
        reader = _Reader(Graph({}, []), how)
        for i in range(count if num_layers is None else min(count, num_layers)):
            if not has(file, f"layer/{i}"):
                raise DataError(
                    f"{path}: /layer/{i} is missing; layers must be numbered 0..{count - 1} without gaps."
                )
            reader.layer(member(file, f"layer/{i}"))
    graph = reader.graph
    if reader.last is None or reader.neurons == 0:
        raise DataError(f"{path}: /layer holds no layer with neurons.")
    graph.outputs = [reader.last]
    if notes and num_layers is None:
        try:
            graph = _renamed(graph, notes)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: /snnkit is damaged ({error}).") from error
    return graph.validate()


def _notes(path: PathLike, file: h5py.File) -> dict[str, Any]:
    """What `write` noted for `read`; empty in a file of lava-dl."""
    if "snnkit" not in file:
        return {}
    try:
        notes = json.loads(file["snnkit"][()])
        reset = notes.get("kwargs", {})
        if "reset_interval" in reset:
            reset |= {k: int(reset[k]) for k in ("reset_interval", "reset_offset")}
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise DataError(f"{path}: /snnkit is damaged ({error}).") from error
    return dict(notes)


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


@dataclass(frozen=True)
class _How:
    """How a file is read.

    ours              whether `write` made it
    interval, offset  of the clocked reset; 0: none
    """

    clip_delays: bool
    as_lava: bool
    ours: bool
    interval: int
    offset: int


class _Reader:
    """Builds the graph layer by layer, as lava-dl's reader does.

    last     the population that the next layer is fed by
    flat     whether a flatten layer stands before the next dense one
    neurons  layers with neurons so far
    """

    def __init__(self, graph: Graph, how: _How) -> None:
        self.graph, self.how = graph, how
        self.last: str | None = None
        self.flat = False
        self.neurons = 0

    def layer(self, group: h5py.Group) -> None:
        """Add what one layer of the file holds."""
        kind = text(group, "type")
        if kind == "input":
            self.input_layer(group)
        elif kind in ("dense", "dense_rec"):
            self.dense(group, kind == "dense_rec")
        elif kind == "conv":
            self.conv(group)
        elif kind == "flatten":
            self.flat = True
        else:
            number = group.name.rsplit("/", 1)[-1]
            raise ExportError(
                f"{where(group, 'type')} is {kind!r}; lava-dl's reader runs input, dense, dense_rec, conv "
                f"and flatten. Pass num_layers={number} to read the layers before it."
            )

    def input_layer(self, group: h5py.Group) -> None:
        """Add the input population, and the neurons of an input layer that has some."""
        if self.last is not None:
            raise ExportError(f"{where(group)} is an input layer behind others; lava-dl's come first.")
        if not has(group, "neuron"):
            if has(group, "shape"):
                self.input(shape_of(group))
            return
        shape = shape_of(group)
        if len(shape) == 2:
            damaged(group, "shape", f"is {list(shape)}; neurons stand in (N,) or (channels, height, width)")
        weight = _one(group, "weight", INPUT_WEIGHT)
        self.graph.populations["input"] = Population("input", INPUT, shape)
        name = self.population(group, shape, np.asarray(_one(group, "bias", 0)))
        signs = np.full(math.prod(shape), np.sign(weight), np.int64)
        self.graph.projections.append(
            Projection(f"input→{name}", "input", name, signs, np.array(0, np.int32), "one_to_one")
        )
        scale = {"input": float(abs(weight))} if weight else {}
        self.graph.metadata = Units(graded=True, inputs=scale, largest=None).to_metadata()
        self.last = name

    def input(self, shape: tuple[int, ...]) -> None:
        """Add the input population: an image, or a vector for any other shape."""
        if len(shape) != 3 or shape[1:] == (1, 1):
            shape = (math.prod(shape),)
        self.graph.populations["input"] = Population("input", INPUT, shape)
        self.last = "input"

    def population(self, group: h5py.Group, shape: tuple[int, ...], mantissa: np.ndarray) -> str:
        """Add a layer's neurons with biases of `mantissa`, int, that broadcasts to `shape`; their name."""
        params, how = self.neuron(group, shape), self.how
        name = f"layer{self.neurons}"
        self.graph.populations[name] = loihi.population(
            name,
            shape,
            du=params["iDecay"] - 1,
            dv=params["vDecay"],
            vth=params["vThMant"],
            bias=loihi.effective_bias(mantissa, 6),
            refractory=params.get("refractory", 0),
            reset_interval=how.interval,
            reset_offset=how.offset + 1 + self.neurons if how.interval else 0,
        )
        self.neurons += 1
        return name

    def neuron(self, group: h5py.Group, shape: tuple[int, ...]) -> dict[str, Any]:
        """A layer's decays and threshold, integers or arrays of one a neuron or channel; refractory steps."""
        if not has(group, "neuron"):
            if not text(group, "type").startswith("dense"):
                damaged(group, "neuron", "is missing")
            return dict(NO_NEURONS)
        neuron = member(group, "neuron")
        kind = text(neuron, "type")
        if kind not in NEURON_TYPES:
            other = next((words for start, words in OTHER_NEURONS.items() if kind.startswith(start)), None)
            reason = f": {other}" if other else ""
            raise ExportError(
                f"{where(neuron, 'type')} is {kind!r}{reason}; read are {' and '.join(NEURON_TYPES)}."
            )
        if has(neuron, "messageBits"):
            raise ExportError(f"{where(neuron, 'messageBits')} stops lava-dl's reader; remove it.")
        found: dict[str, Any] = {}
        for key, top in (("iDecay", 4096), ("vDecay", 4096), ("vThMant", (1 << 24) - 1)):
            value = integers(neuron, key)
            if value.min() < 0 or value.max() > top:
                wrong = value.min() if value.min() < 0 else value.max()
                damaged(neuron, key, f"holds {wrong}, must lie in 0..{top}")
            found[key] = _per_neuron(neuron, key, value, shape)
        found["refractory"] = self.passed_over(neuron)
        return found

    def passed_over(self, neuron: h5py.Group) -> int:
        """Refuse what lava-dl's reader takes no notice of; the refractory period of a file of ours."""
        for key, words in (
            ("gradedSpike", "graded spikes"),
            ("weight_exp", "a weight exponent of batch norm"),
            ("wgtExp", "a weight exponent"),
        ):
            if flag(neuron, key) and not self.how.as_lava:
                self.refuse(neuron, key, words)
        wait = int(_one(neuron, "refDelay", 1)) - 1
        if wait and not self.how.ours and not self.how.as_lava:
            self.refuse(neuron, "refDelay", f"a refractory period of {wait} steps")
        return max(wait, 0) if self.how.ours and not self.how.as_lava else 0

    def refuse(self, group: h5py.Group, key: str, words: str) -> None:
        """Raise `ExportError` for something that lava-dl's reader takes no notice of."""
        raise ExportError(
            f"{where(group, key)} says {words}, which lava-dl's reader leaves out, so that Lava computes "
            "another network than was trained. Pass as_lava=True to read that one."
        )

    def dense(self, group: h5py.Group, recurrent: bool) -> None:
        """Add a dense layer, with its connections back to itself where it is `recurrent`."""
        _no_complex(group)
        n = math.prod(shape_of(group))
        weight = _matrix(group, "weight", n)
        matrices = [weight, _matrix(group, "weight_rec", n)] if recurrent else [weight]
        if self.last is None:
            self.input((weight.shape[1],))
        assert self.last is not None
        source = self.graph.populations[self.last]
        self.check_flat(group, source)
        if source.size != weight.shape[1]:
            raise ShapeError(
                f"{where(group, 'weight')} is {weight.shape}, but the layer before has {source.size} neurons."
            )
        delay = self.delay(group, (weight.shape[0], weight.shape[1]))
        if recurrent and has(group, "delay"):
            raise ExportError(
                f"{where(group)} is dense_rec with delay, which lava-dl's reader scales wrongly."
            )
        packed = packed_in(where(group), matrices)
        mantissa = cut(group, "bias") if has(group, "bias") else np.zeros((), np.int64)
        if mantissa.shape not in ((), (1,), (n,)):
            damaged(group, "bias", f"has shape {mantissa.shape}, expected ({n},)")
        name = self.population(group, (n,), mantissa)
        for (acting, shift), origin, d in zip(
            packed, (self.last, name), (delay, np.zeros((), np.int64)), strict=False
        ):
            options = {"shift": shift} if shift else {}
            lag = (d + 1).astype(np.int32)
            self.graph.projections.append(
                Projection(f"{origin}→{name}", origin, name, acting, lag, options=options)
            )
        self.last = name

    def check_flat(self, group: h5py.Group, source: Population) -> None:
        """Refuse a dense layer behind an image without flatten between, or behind one where there is none."""
        image = len(source.shape) == 3
        if source.neuron != INPUT and image != self.flat:
            what = "an image without a flatten layer between" if image else "a flatten layer but no image"
            raise ExportError(
                f"{where(group)} is a dense layer behind {what}; lava-dl's reader can't connect it."
            )
        self.flat = False

    def delay(self, group: h5py.Group, shape: tuple[int, int]) -> np.ndarray:
        """The chip's delays, int64: a scalar or of the weights' `shape`."""
        if not has(group, "delay"):
            return np.zeros((), np.int64)
        delay = numbers(group, "delay")
        if delay.min() < 0:
            damaged(group, "delay", f"holds {delay.min()}, below 0")
        if delay.max() > MAX_DELAY and not self.how.clip_delays:
            raise ExportError(
                f"{where(group, 'delay')} reaches {delay.max()}; lava-dl holds it at {MAX_DELAY}. "
                "Pass clip_delays=True to read it so."
            )
        delay = delay.clip(0, MAX_DELAY).astype(np.int64)
        if delay.ndim == 1 and delay.size == shape[0]:
            return np.repeat(delay[:, None], shape[1], 1)
        if delay.ndim == 1 and delay.size == shape[1]:
            return np.repeat(delay[None], shape[0], 0)
        if delay.ndim and delay.shape != shape:
            damaged(group, "delay", f"has shape {delay.shape}, expected {shape}")
        return delay

    def conv(self, group: h5py.Group) -> None:
        """Add a convolution."""
        _no_complex(group)
        shape = shape_of(group)
        if self.last is None:
            raise DataError(f"{where(group)} is a convolution without an input layer before it.")
        source = self.graph.populations[self.last]
        if len(shape) != 3 or len(source.shape) != 3:
            raise ShapeError(
                f"{where(group)} is a convolution from {source.shape} to {shape}; both must be (channels, "
                "height, width)."
            )
        if has(group, "delay") and numbers(group, "delay").any() and not self.how.as_lava:
            self.refuse(group, "delay", "delays of a convolution")
        weight = cut(group, "weight")
        if weight.shape[4:] == (1,):
            weight = weight[..., 0]
        groups = integers(group, "groups")
        if groups.ndim:
            damaged(group, "groups", f"must be a scalar, it has shape {groups.shape}")
        if weight.ndim != 4 or weight.shape[0] != shape[0] or groups < 1:
            damaged(group, "weight", f"has shape {weight.shape}, expected ({shape[0]}, in/groups, y, x)")
        if weight.shape[1] * int(groups) != source.shape[0] or shape[0] % int(groups):
            raise ShapeError(
                f"{where(group, 'weight')} is {weight.shape} with groups = {groups}, but the layer before "
                f"has {source.shape[0]} channels."
            )
        options: dict[str, Any] = {key: _pair(group, key) for key in ("stride", "padding", "dilation")}
        self.check_size(group, weight, options)
        name = self.population(group, shape, _channels(group, shape))
        given = options | {"groups": int(groups)}
        self.graph.projections.append(
            Projection(
                f"{self.last}→{name}", self.last, name, weight, np.array(1, np.int32), "conv", options=given
            )
        )
        self.last = name

    def check_size(self, group: h5py.Group, weight: np.ndarray, options: dict[str, list[int]]) -> None:
        """Refuse a shape that the convolution does not give."""
        assert self.last is not None
        given, shape = self.graph.populations[self.last].shape[1:], shape_of(group)
        sizes = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                given, weight.shape[2:], options["stride"], options["padding"], options["dilation"],
                strict=True,
            )
        )  # fmt: skip
        if sizes != shape[1:]:
            raise ShapeError(
                f"{where(group, 'shape')} is {list(shape)}, but its convolution of {list(given)} gives "
                f"{list(sizes)}."
            )


def _one(group: h5py.Group, name: str, default: int) -> int:
    """The one number of an array, cut to an integer; `default` where there is none."""
    if not has(group, name):
        return default
    value = cut(group, name)
    if value.size != 1:
        damaged(group, name, f"has shape {value.shape}, must be one number")
    return int(value.reshape(-1)[0])


def _per_neuron(neuron: h5py.Group, key: str, value: np.ndarray, shape: tuple[int, ...]) -> Any:
    """One value, or an array that broadcasts to `shape`: a value a neuron, of an image one a channel."""
    if value.size == 1:
        return int(value.reshape(-1)[0])
    if value.shape != shape[:1]:
        damaged(neuron, key, f"has shape {value.shape}, must be one integer or ({shape[0]},)")
    return value.reshape(-1, *[1] * (len(shape) - 1))


def _matrix(group: h5py.Group, name: str, n: int) -> np.ndarray:
    """Weights int64 [n, I]."""
    weight = cut(group, name)
    if weight.ndim == 1 and weight.size % n == 0:
        weight = weight.reshape(n, -1)
    if weight.ndim != 2 or weight.shape[0] != n or (name == "weight_rec" and weight.shape[1] != n):
        damaged(group, name, f"has shape {weight.shape}, expected ({n}, …)")
    return weight


def _channels(group: h5py.Group, shape: tuple[int, ...]) -> np.ndarray:
    """Biases of an image, int64: one a channel, or one a neuron, which lava-dl takes in (x, y, channel)."""
    if not has(group, "bias"):
        return np.zeros((), np.int64)
    bias = cut(group, "bias")
    if bias.shape == shape[::-1]:
        return bias.transpose()
    if bias.shape != shape[:1]:
        damaged(group, "bias", f"has shape {bias.shape}, expected {shape[:1]} or {shape[::-1]}")
    return bias.reshape(-1, 1, 1)


def _pair(group: h5py.Group, key: str) -> list[int]:
    """A convolution's stride, padding or dilation in (y, x)."""
    value = integers(group, key)
    if value.shape not in ((), (2,)) or value.min() < (key != "padding"):
        damaged(group, key, f"is {value.tolist()}; it must be one or two whole numbers")
    return [int(n) for n in np.broadcast_to(value, 2)]


def _no_complex(group: h5py.Group) -> None:
    """Refuse complex weights."""
    if isinstance(group.get("weight"), h5py.Group):
        raise ExportError(f"{where(group, 'weight')} is complex: {OTHER_NEURONS['RF']} are not read.")
