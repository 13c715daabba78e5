"""A SONATA circuit as a Graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from ...errors import DataError, ExportError, ParameterError, listed
from ...files import PathLike
from ...graph import INPUT, Graph, Population, Projection
from .circuit import Circuit, Pair, circuit, read_types
from .models import MODELS, Made, compact, neurons, whole_steps
from .rows import Rows, integers, opened

POINT = ("point_neuron", "point_process")
"""Values of model_type that name a model of NEST; the older files have the second."""

STATIC = (None, "static_synapse", "nest:static_synapse")
"""Values of an edge's model_template that say no more than weight and delay."""

WEIGHT, DELAY = 1.0, 1.0
"""NEST's static_synapse where nothing is said: weight in the model's unit, ms."""

Way = Literal["multiply", "ignore"]


@dataclass(frozen=True)
class Nodes:
    """Where the nodes of a node population are in the Graph.

    parts  populations of the Graph
    part   which of them a node is in, int64 [N]
    index  and as which neuron, int64 [N]
    """

    parts: list[Made]
    part: np.ndarray
    index: np.ndarray


def read(
    config: PathLike | Mapping[str, Any],
    simulation: PathLike | Mapping[str, Any] | None = None,
    *,
    dt: float | None = None,
    v_init: float | None = None,
    nsyns: Way | None = None,
) -> Graph:
    """The network of a SONATA circuit of NEST's point neurons.

    config      configuration of the circuit, or of a simulation that names one; a dict's paths are
                relative to the working folder
    simulation  configuration of the simulation, which says dt
    dt          step, ms, in place of the simulation's
    v_init      potential (mV) at which neurons without a V_m of their own start, where a simulation says
                conditions.v_init, which NEST's reader passes over (its neurons start at −70)
    nsyns       what an edge of several synapses weighs: "multiply" its weight as BMTK does, or "ignore" them
                as NEST does; to be said where there are such edges

    A node population becomes one population of its name, or, with nodes of several kinds, "NAME.input",
    "NAME.lif", "NAME.cuba"; an edge population becomes a sparse projection for each pair of these.
    ``graph.metadata["sonata"]`` says of each population what "nodes" it holds, their "ids" (None: all, in
    order), and E_L. Weights are in NEST's units times what `MODELS` says. What HDF5 says of a node or edge
    goes over the JSON of ``dynamics_params``, this over the types' table, this over NEST's defaults.

    Raises `DataError` naming file and place for what is missing, damaged or out of range, and for delays
    (the edge population) and t_ref that are no whole number of steps; `ExportError` naming population and
    type for models that have no counterpart here (biophysical ones, plastic synapses, gap junctions);
    `ParameterError` where dt, v_init or nsyns must be said.
    """
    found = circuit(config, simulation)
    step = found.dt if dt is None else dt
    if step is None:
        raise ParameterError(
            f"{found.where} says no time step: hand over the simulation's configuration (run.dt) or dt in ms."
        )
    if not 0 < step < float("inf"):
        raise ParameterError(f"dt must be a positive number of ms, got {step}.")
    if nsyns not in (None, "multiply", "ignore"):
        raise ParameterError(f"nsyns must be 'multiply', 'ignore' or None, got {nsyns!r}.")
    start = _Start(said=v_init, configured=found.v_init)
    nodes: dict[str, Nodes] = {}
    for pair in found.nodes:
        with opened(pair.data) as file:
            for name, group in _populations(file, pair, "nodes"):
                if name in nodes:
                    raise DataError(f"{pair.data}: node population {name!r} is there a second time.")
                rows = _rows(group, pair, "node", name)
                nodes[name] = _nodes(rows, name, found, step, start)
    populations: dict[str, Population] = {}
    origin: dict[str, dict[str, Any]] = {}
    for name, placed in nodes.items():
        for k, made in enumerate(placed.parts):
            ids = None if len(placed.parts) == 1 else np.flatnonzero(placed.part == k).tolist()
            key = made.population.name
            if key in populations:
                raise DataError(f"{found.where}: two populations would be named {key!r}; rename one.")
            populations[key] = made.population
            origin[key] = {"nodes": name, "ids": ids}
            if made.population.neuron != INPUT:
                origin[key]["E_L"] = compact(made.rest).tolist()
    projections: dict[str, Projection] = {}
    for pair in found.edges:
        with opened(pair.data) as file:
            for name, group in _populations(file, pair, "edges"):
                rows = _rows(group, pair, "edge", name)
                for projection in _edges(rows, name, nodes, found, (step, nsyns)):
                    if projection.name in projections:
                        raise DataError(f"{pair.data}: edge population {name!r} is there a second time.")
                    projections[projection.name] = projection
    graph = Graph(populations, list(projections.values()), dt=step, metadata={"sonata": origin})
    return graph.validate()


@dataclass(frozen=True)
class _Start:
    """Potential at which neurons start that have no V_m of their own, mV; None: NEST's default."""

    said: float | None
    configured: float | None

    def fill(self, given: dict[str, np.ndarray], size: int, where: str) -> dict[str, np.ndarray]:
        own = given.get("V_m", np.full(size, np.nan))
        missing = np.isnan(own)
        if not missing.any():
            return given
        if self.said is None:
            if self.configured is not None:
                raise ParameterError(
                    f"{where}: the simulation says conditions.v_init = {self.configured:g} mV, which NEST's "
                    f"reader passes over (neurons start at -70 mV). Say v_init={self.configured:g} or "
                    "v_init=-70."
                )
            return given
        return given | {"V_m": np.where(missing, self.said, own)}


def _populations(file: h5py.File, pair: Pair, kind: str) -> list[tuple[str, h5py.Group]]:
    top = file.get(kind)
    if not isinstance(top, h5py.Group):
        raise DataError(f"{pair.data}: /{kind} is missing; this is no SONATA file of {kind}.")
    found = []
    for name in top:
        if not isinstance(top.get(name), h5py.Group):
            raise DataError(f"{pair.data}: /{kind}/{name} is no group.")
        said = pair.kinds.get(name) or {}
        if kind == "edges" and isinstance(said, Mapping) and said.get("type") == "electrical":
            raise ExportError(
                f"{pair.data}: edge population {name!r} are gap junctions, which have no place here."
            )
        found.append((name, top[name]))
    return found


def _rows(group: h5py.Group, pair: Pair, kind: str, name: str) -> Rows:
    types = None if pair.types is None else read_types(pair.types, f"{kind}_type_id", name)
    return Rows.of(group, pair.data, kind, types)


def _nodes(rows: Rows, name: str, found: Circuit, dt: float, start: _Start) -> Nodes:
    """The populations of a node population."""
    where = rows.where
    if not rows.size:
        raise DataError(f"{where} holds no nodes.")
    if "node_id" in rows.group:
        ids = integers(rows.group, "node_id", where, rows.size)
        if not np.array_equal(ids, np.arange(rows.size)):
            row = int(np.argmax(ids != np.arange(rows.size)))
            raise DataError(
                f"{where}/node_id[{row}] is {ids[row]}; NEST and libsonata take a node's row for its id, so "
                "node_id must be 0, 1, 2, …"
            )
    model = _models(rows, name)
    kinds = [INPUT, *MODELS]
    part, index = np.zeros(rows.size, np.int64), np.zeros(rows.size, np.int64)
    parts: list[Made] = []
    used = [kind for kind in kinds if (model == kind).any()]
    given = rows.parameters(found.components.get("point_neuron_models_dir")) if used != [INPUT] else {}
    for kind in used:
        chosen = np.flatnonzero(model == kind)
        neuron = INPUT if kind == INPUT else MODELS[kind].neuron
        key = name if len(used) == 1 else f"{name}.{neuron}"
        if kind == INPUT:
            made = Made(Population(key, INPUT, (len(chosen),)), np.ones(0), 0, np.zeros(0))
        else:
            own = start.fill({k: v[chosen] for k, v in given.items()}, len(chosen), where)
            made = neurons(kind, key, own, len(chosen), (dt, where))
        part[chosen], index[chosen] = len(parts), np.arange(len(chosen))
        parts.append(made)
    return Nodes(parts, part, index)


def _models(rows: Rows, name: str) -> np.ndarray:
    """ "input" or a name of `MODELS` for each node. Raises `ExportError` naming the first with neither."""
    kinds, templates = rows.texts("model_type"), rows.texts("model_template")
    model = np.array([str(text).removeprefix("nest:") for text in templates], object)
    model[kinds == "virtual"] = INPUT
    point = np.isin(kinds.astype(str), POINT)
    known = np.isin(model.astype(str), list(MODELS))
    prefixed = np.array([str(text).startswith("nest:") for text in templates], bool)
    wrong = (kinds != "virtual") & ~(point & known & prefixed)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ExportError(
            f"{rows.where}: {rows.type_name(row)} has model_type {kinds[row]!r} and model_template "
            f"{templates[row]!r}; what can be read is 'virtual', and {' or '.join(map(repr, POINT))} with "
            f"{' or '.join(repr('nest:' + m) for m in MODELS)}."
        )
    return model


def _edges(
    rows: Rows, name: str, nodes: dict[str, Nodes], found: Circuit, settings: tuple[float, Way | None]
) -> list[Projection]:
    """The projections of an edge population."""
    dt, nsyns = settings
    source, target = (_ends(rows, end, nodes) for end in ("source", "target"))
    _refuse_models(rows)
    weight, delay = _weights(rows, found.components.get("synaptic_models_dir"), nsyns)
    steps = whole_steps(delay, dt, rows.where, "the delay of edge")
    if (steps < 1).any():
        row = int(np.argmax(steps < 1))
        raise DataError(
            f"{rows.where}: the delay of edge {row} is {delay[row]} ms; NEST's are at least a step."
        )
    (into, of), made = target, []
    for t, ending in enumerate(into.parts):
        for s, beginning in enumerate(source[0].parts):
            chosen = np.flatnonzero((into.part[of] == t) & (source[0].part[source[1]] == s))
            if not len(chosen):
                continue
            if ending.population.neuron == INPUT:
                raise DataError(
                    f"{rows.where}: edge {chosen[0]} ends in node {of[chosen[0]]}, which is virtual; such "
                    "nodes have no inputs."
                )
            i, o = source[0].index[source[1][chosen]], into.index[of[chosen]]
            order = np.lexsort((o, i))
            ends = f"{beginning.population.name}→{ending.population.name}"
            single = len(into.parts) == len(source[0].parts) == 1
            counts = np.bincount(i, minlength=beginning.population.size)
            made.append(
                Projection(
                    name=name if single else f"{name} {ends}",
                    source=beginning.population.name,
                    target=ending.population.name,
                    weight=(weight[chosen] * ending.scale[o])[order],
                    delay=(steps[chosen] + ending.lag)[order].astype(np.int32),
                    kind="sparse",
                    indptr=np.concatenate([[0], np.cumsum(counts)]),
                    indices=o[order].astype(np.int32),
                )
            )
    return made


def _ends(rows: Rows, end: str, nodes: dict[str, Nodes]) -> tuple[Nodes, np.ndarray]:
    """The node population at an end of the edges, and the node of each, int64 [N]."""
    key = f"{end}_node_id"
    ids = integers(rows.group, key, rows.where, rows.size)
    name = rows.group[key].attrs.get("node_population")
    name = name.decode() if isinstance(name, bytes) else name
    if name not in nodes:
        raise DataError(
            f"{rows.where}/{key}: its attribute node_population is {name!r}, which is none of the node "
            f"populations {listed(map(repr, nodes)) if nodes else '(there are none)'}."
        )
    size = len(nodes[name].part)
    if ids.max(initial=-1) >= size:
        row = int(np.argmax(ids >= size))
        raise DataError(
            f"{rows.where}/{key}[{row}] is {ids[row]}; node population {name!r} has {size} nodes."
        )
    return nodes[name], ids


def _refuse_models(rows: Rows) -> None:
    """Raises `ExportError` naming the first edge that is more than a weight and a delay."""
    checks = {
        "model_template": (STATIC, "a static_synapse"),
        "weight_function": ((None,), "a weight of its own"),
    }
    for key, (known, wanted) in checks.items():
        wrong = rows.without(key, known)
        if len(wrong):
            row = int(wrong[0])
            raise ExportError(
                f"{rows.where}: {rows.type_name(row)} has {key} {rows.texts(key)[row]!r}; it must have "
                f"{wanted}."
            )


def _weights(rows: Rows, folder: Path | None, nsyns: Way | None) -> tuple[np.ndarray, np.ndarray]:
    """NEST's weights, and delays in ms, of the edges; float64 [N] both."""
    for number in rows.members:
        own = rows.group[str(number)].get("dynamics_params")
        if own is not None and len(own):
            raise ExportError(
                f"{rows.where}/{number}/dynamics_params: only syn_weight and delay can be an edge's own."
            )
    params = rows.parameters(folder)
    for key in params.keys() - {"weight", "delay"}:
        raise ExportError(f"{rows.where}: a static_synapse has no parameter {key!r} beside weight and delay.")
    found = []
    for key, name, usual in (("syn_weight", "weight", WEIGHT), ("delay", "delay", DELAY)):
        own, of_type = rows.numbers_of_rows(key), rows.numbers_of_types(key)
        of_file = params.get(name, np.full(rows.size, np.nan))
        value = np.full(rows.size, usual)
        for over in (of_type, of_file, own):
            value = np.where(np.isnan(over), value, over)
        found.append(value)
    weight, delay = found
    several = rows.numbers("nsyns")
    several = np.where(np.isnan(several), 1, several)
    if (several != 1).any() and nsyns is None:
        row = int(np.argmax(several != 1))
        raise ParameterError(
            f"{rows.where}: edge {row} stands for nsyns = {several[row]:g} synapses, by which BMTK "
            "multiplies its weight and NEST's reader does not; say nsyns='multiply' or nsyns='ignore'."
        )
    return weight * several if nsyns == "multiply" else weight, delay
