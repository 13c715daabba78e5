"""A network as plain data: populations, projections, NumPy arrays.

`Graph` is what every stage after training reads: the engine, the exporters, the energy model. It
holds no torch, and one HDF5 file holds all of it (`save`, `load`; docs/graph-format.md).

Time runs in steps of `dt` ms. A spike of step t through a synapse of delay d adds its weight (times
its value, where a spike carries one) to the target's input at step t + d. Within a step, populations
are updated in the order of their delay-0 projections.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from .errors import DataError, GraphError, SnnkitError
from .files import PathLike, atomic_h5, open_h5

FORMAT = "snnkit-graph"
FORMAT_VERSION = 1
KINDS = ("dense", "sparse", "conv", "one_to_one")
INPUT = "input"


@dataclass
class Population:
    """Neurons of one kind.

    name     unique in its graph
    neuron   "input" for a source of spikes, else a name of `snnkit.neurons.NEURONS`
    shape    (N,) or (C, H, W)
    params   per-step parameter → scalar, or array that broadcasts to `shape`
    bias     added to the input of every neuron in every step; broadcasts to `shape`
    options  the neuron's static choices, e.g. {"reset": "soft"}
    initial  state variable → start value, where it is not the neuron's own
    """

    name: str
    neuron: str
    shape: tuple[int, ...]
    params: dict[str, np.ndarray] = field(default_factory=dict)
    bias: np.ndarray = field(default_factory=lambda: np.zeros(()))
    options: dict[str, Any] = field(default_factory=dict)
    initial: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shape = tuple(int(n) for n in np.atleast_1d(self.shape))
        self.params = {k: np.asarray(v) for k, v in self.params.items()}
        self.bias = np.asarray(self.bias)
        self.initial = {k: np.asarray(v) for k, v in self.initial.items()}

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    def param(self, name: str, dtype: Any = np.float64) -> np.ndarray:
        """Parameter `name`, one value a neuron: ``[N]``."""
        return np.broadcast_to(self.params[name], self.shape).reshape(-1).astype(dtype)


@dataclass
class Projection:
    """Synapses from one population to another.

    kind     "dense"       weight [O, I]
             "sparse"      CSR by source: indptr [I+1], indices [S] (targets), weight [S]
             "conv"        weight [C_out, C_in / groups, kH, kW]; options stride, padding, dilation,
                           groups (pairs of ints in (y, x) order; groups an int); cross-correlation
             "one_to_one"  weight [N]
    delay    integer steps ≥ 0, any array that broadcasts to `weight`'s shape
    options  see "conv"; "shift" (integer graphs only): arithmetic right shift of the sum of each
             (presynaptic step, delay) group before it is added, as Loihi's negative weight exponent
    """

    name: str
    source: str
    target: str
    weight: np.ndarray
    delay: np.ndarray = field(default_factory=lambda: np.zeros((), np.int32))
    kind: str = "dense"
    indptr: np.ndarray | None = None
    indices: np.ndarray | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weight = np.asarray(self.weight)
        self.delay = np.asarray(self.delay)

    @property
    def max_delay(self) -> int:
        """The longest delay, steps."""
        return int(self.delay.max(initial=0))

    @property
    def delays(self) -> np.ndarray:
        """One delay (steps) for each entry of `weight`, int32 in its shape."""
        return np.broadcast_to(self.delay, self.weight.shape).astype(np.int32)


@dataclass
class Graph:
    """A spiking network.

    dt        length of a step, ms
    metadata  JSON-able notes: read-out, time and a chip's units (`snnkit.metadata`), the run it came from
    """

    populations: dict[str, Population]
    projections: list[Projection]
    dt: float = 1.0
    outputs: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> list[str]:
        """Names of the populations that are fed from outside."""
        return [p.name for p in self.populations.values() if p.neuron == INPUT]

    def into(self, population: str) -> list[Projection]:
        """Projections whose target is `population`."""
        return [p for p in self.projections if p.target == population]

    def out_of(self, population: str) -> list[Projection]:
        """Projections whose source is `population`."""
        return [p for p in self.projections if p.source == population]

    def order(self) -> list[str]:
        """Population names so that every delay-0 projection goes forward; inputs first of all.

        Raises `GraphError` on a loop without delay.
        """
        waiting = {name: set[str]() for name in self.populations}
        for p in self.projections:
            if p.delay.min(initial=1) < 1 and p.weight.size:
                waiting[p.target].add(p.source)
        order = [name for name in self.inputs if not waiting.pop(name)]
        while waiting:
            ready = [name for name, sources in waiting.items() if not sources - set(order)]
            if not ready:
                raise GraphError(
                    f"populations {sorted(waiting)} form a loop of projections with delay 0; a "
                    "recurrent connection needs a delay of at least 1 step."
                )
            for name in ready:
                order.append(name)
                del waiting[name]
        return order

    def components(self) -> dict[str, int]:
        """Population → number of its strongly connected part: two are in one if each reaches the other."""
        after: dict[str, set[str]] = {name: set() for name in self.populations}
        for p in self.projections:
            after[p.source].add(p.target)
        reach = {name: {name} for name in after}
        for name in after:
            frontier = [name]
            while frontier:
                for other in after[frontier.pop()] - reach[name]:
                    reach[name].add(other)
                    frontier.append(other)
        part: dict[str, int] = {}
        for name in after:
            if name not in part:
                number = len(set(part.values()))
                part |= {other: number for other in reach[name] if name in reach[other]}
        return part

    def validate(self) -> Graph:
        """Return self, or raise `GraphError` naming the first part that is wrong."""
        for key, population in self.populations.items():
            _check_population(key, population)
        seen: set[str] = set()
        for projection in self.projections:
            if projection.name in seen:
                raise GraphError(f"two projections are named {projection.name!r}; names must differ.")
            seen.add(projection.name)
            _check_projection(projection, self.populations)
        for name in self.outputs:
            if name not in self.populations:
                raise GraphError(f"output {name!r} is no population; there are {list(self.populations)}.")
        if not 0 < self.dt < float("inf"):
            raise GraphError(f"dt must be a positive number of ms, got {self.dt}.")
        if not isinstance(self.metadata, dict):
            raise GraphError(f"metadata is a {type(self.metadata).__name__}, it must be a dict.")
        self.order()
        return self

    def save(self, path: PathLike) -> None:
        """Write to one HDF5 file; `path` changes only once all is written (temporary file, rename)."""
        self.validate()
        with atomic_h5(path) as file:
            file.attrs["format"] = FORMAT
            file.attrs["version"] = FORMAT_VERSION
            file.attrs["dt"] = float(self.dt)
            file.attrs["outputs"] = json.dumps(self.outputs)
            file.attrs["metadata"] = json.dumps(self.metadata)
            populations = file.create_group("populations", track_order=True)
            for population in self.populations.values():
                group = populations.create_group(population.name)
                group.attrs["neuron"] = population.neuron
                group.attrs["shape"] = population.shape
                group.attrs["options"] = json.dumps(population.options)
                _write(group, "bias", population.bias)
                for kind in ("params", "initial"):
                    for name, value in getattr(population, kind).items():
                        _write(group, f"{kind}/{name}", value)
            projections = file.create_group("projections", track_order=True)
            for projection in self.projections:
                group = projections.create_group(projection.name)
                for name in ("source", "target", "kind"):
                    group.attrs[name] = getattr(projection, name)
                group.attrs["options"] = json.dumps(projection.options)
                for name in ("weight", "delay", "indptr", "indices"):
                    if getattr(projection, name) is not None:
                        _write(group, name, getattr(projection, name))

    @classmethod
    def load(cls, path: PathLike) -> Graph:
        """Read a file that `save` wrote. Raises `DataError` (file) or `GraphError` (content)."""
        with open_h5(path) as file:
            try:
                return cls._read(file, path).validate()
            except SnnkitError:
                raise
            except (KeyError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
                raise DataError(f"{path} is a damaged snnkit graph: {error}.") from error

    @classmethod
    def _read(cls, file: h5py.File, path: PathLike) -> Graph:
        if file.attrs.get("format") != FORMAT:
            raise DataError(f"{path} is HDF5, but no snnkit graph (attribute 'format' is missing).")
        version = int(file.attrs.get("version", 0))
        if not 1 <= version <= FORMAT_VERSION:
            raise DataError(
                f"{path} has graph format version {version}; this snnkit reads up to {FORMAT_VERSION}."
            )
        populations = {
            name: Population(
                name=name,
                neuron=str(group.attrs["neuron"]),
                shape=tuple(int(n) for n in group.attrs["shape"]),
                params={k: v[()] for k, v in group.get("params", {}).items()},
                bias=group["bias"][()],
                options=json.loads(group.attrs["options"]),
                initial={k: v[()] for k, v in group.get("initial", {}).items()},
            )
            for name, group in file["populations"].items()
        }
        projections = [
            Projection(
                name=name,
                source=str(group.attrs["source"]),
                target=str(group.attrs["target"]),
                weight=group["weight"][()],
                delay=group["delay"][()],
                kind=str(group.attrs["kind"]),
                indptr=group["indptr"][()] if "indptr" in group else None,
                indices=group["indices"][()] if "indices" in group else None,
                options=json.loads(group.attrs["options"]),
            )
            for name, group in file["projections"].items()
        ]
        return cls(
            populations=populations,
            projections=projections,
            dt=float(file.attrs["dt"]),
            outputs=json.loads(file.attrs["outputs"]),
            metadata=json.loads(file.attrs["metadata"]),
        )


def _check_population(key: str, population: Population) -> None:
    where = f"population {population.name!r}"
    if key != population.name:
        raise GraphError(f"{where} is filed under {key!r}; key and name must be equal.")
    if not population.name or "/" in population.name:
        raise GraphError(f"{where}: a name must not be empty nor hold '/'.")
    if not population.shape or min(population.shape) < 1:
        raise GraphError(f"{where} has shape {population.shape}; every axis needs at least one neuron.")
    arrays = {**population.params, **population.initial, "bias": population.bias}
    if not isinstance(population.options, dict):
        raise GraphError(f"{where}: options are a {type(population.options).__name__}, expected a dict.")
    for name, value in arrays.items():
        _check_numbers(where, name, value)
        try:
            np.broadcast_to(value, population.shape)
        except ValueError:
            raise GraphError(
                f"{where}: {name} has shape {value.shape}, which does not broadcast to {population.shape}."
            ) from None
        if not np.isfinite(value).all():
            index = np.argwhere(~np.isfinite(np.atleast_1d(value)))[0].tolist()
            raise GraphError(f"{where}: {name} is {np.atleast_1d(value)[tuple(index)]} at {index}.")


def _check_projection(p: Projection, populations: dict[str, Population]) -> None:
    where = f"projection {p.name!r} ({p.source}→{p.target})"
    if not p.name or "/" in p.name:
        raise GraphError(f"{where}: a name must not be empty nor hold '/'.")
    for end in (p.source, p.target):
        if end not in populations:
            raise GraphError(f"{where}: there is no population {end!r}; there are {list(populations)}.")
    if populations[p.target].neuron == INPUT:
        raise GraphError(f"{where} ends in an input population, which takes no synapses.")
    if p.kind not in KINDS:
        raise GraphError(f"{where}: kind {p.kind!r} is none of {', '.join(KINDS)}.")
    if not isinstance(p.options, dict):
        raise GraphError(f"{where}: options are a {type(p.options).__name__}, expected a dict.")
    _check_numbers(where, "weight", p.weight)
    if not np.isfinite(p.weight).all():
        index = np.argwhere(~np.isfinite(p.weight))[0].tolist()
        raise GraphError(f"{where}: weight is {p.weight[tuple(index)]} at {index}.")
    source, target = populations[p.source], populations[p.target]
    if p.kind == "dense":
        _expect(where, "weight", p.weight.shape, (target.size, source.size))
    elif p.kind == "one_to_one":
        _expect(where, "weight", p.weight.shape, (source.size,))
        _expect(where, "target size", (target.size,), (source.size,))
    elif p.kind == "sparse":
        _check_sparse(where, p, source.size, target.size)
    elif p.kind == "conv":
        _expect(where, "target shape", target.shape, conv_output_shape(where, p, source.shape))
    try:
        np.broadcast_to(p.delay, p.weight.shape)
    except ValueError:
        raise GraphError(
            f"{where}: delay has shape {p.delay.shape}, which does not broadcast to the weights' "
            f"{p.weight.shape}."
        ) from None
    if p.delay.dtype.kind not in "iu":
        raise GraphError(f"{where}: delays are {p.delay.dtype}, they must be integer steps.")
    if p.delay.min(initial=0) < 0:
        index = np.argwhere(np.atleast_1d(p.delay) < 0)[0].tolist()
        raise GraphError(f"{where}: delay {np.atleast_1d(p.delay)[tuple(index)]} at {index} is negative.")


def _check_numbers(where: str, name: str, value: np.ndarray) -> None:
    if value.dtype.kind not in "iufb":
        raise GraphError(f"{where}: {name} has dtype {value.dtype}, expected real numbers.")


def _expect(where: str, what: str, got: tuple[int, ...], want: tuple[int, ...]) -> None:
    if tuple(got) != tuple(want):
        raise GraphError(f"{where}: {what} is {tuple(got)}, expected {tuple(want)}.")


def _check_sparse(where: str, p: Projection, n_in: int, n_out: int) -> None:
    if p.indptr is None or p.indices is None:
        raise GraphError(f"{where} is sparse and needs indptr and indices (CSR by source).")
    _expect(where, "indptr", p.indptr.shape, (n_in + 1,))
    _expect(where, "indices", p.indices.shape, p.weight.shape)
    if p.indptr[0] != 0 or p.indptr[-1] != len(p.indices) or (np.diff(p.indptr) < 0).any():
        raise GraphError(f"{where}: indptr must rise from 0 to the number of synapses, {len(p.indices)}.")
    if len(p.indices) and not 0 <= p.indices.min() <= p.indices.max() < n_out:
        raise GraphError(f"{where}: indices must lie in 0..{n_out - 1}, the target's neurons.")


def conv_output_shape(where: str, p: Projection, source: tuple[int, ...]) -> tuple[int, ...]:
    """(C, H, W) that a "conv" projection makes of a source of shape (C, H, W).

    Raises `GraphError` for shapes, groups and geometry that do not fit; `where` begins its message.
    """
    if len(source) != 3 or p.weight.ndim != 4:
        raise GraphError(
            f"{where}: a convolution goes from a (C, H, W) population through weights [C_out, "
            f"C_in/groups, kH, kW]; got {source} and {p.weight.shape}."
        )
    groups = int(p.options.get("groups", 1))
    if groups < 1:
        raise GraphError(f"{where}: groups must be at least 1, got {groups}.")
    if source[0] != p.weight.shape[1] * groups or p.weight.shape[0] % groups:
        raise GraphError(
            f"{where}: {source[0]} input channels do not fit weights {p.weight.shape} in {groups} groups."
        )
    stride, padding, dilation = conv_geometry(p)
    if min(*stride, *dilation) < 1 or min(padding) < 0:
        raise GraphError(
            f"{where}: stride {stride} and dilation {dilation} must be at least 1, "
            f"padding {padding} at least 0."
        )
    size = [
        (n + 2 * pad - d * (k - 1) - 1) // s + 1
        for n, k, s, pad, d in zip(source[1:], p.weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    return (p.weight.shape[0], *size)


def conv_geometry(p: Projection) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """stride, padding, dilation of a "conv" projection, each (y, x)."""

    def pair(name: str, default: int) -> tuple[int, int]:
        y, x = np.broadcast_to(p.options.get(name, default), 2)
        return int(y), int(x)

    return pair("stride", 1), pair("padding", 0), pair("dilation", 1)


def _write(group: h5py.Group, name: str, value: np.ndarray) -> None:
    large = value.size > 1024
    group.create_dataset(name, data=value, compression="gzip" if large else None, shuffle=large or None)
