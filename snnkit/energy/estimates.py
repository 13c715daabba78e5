"""Run a network on real inputs and price it: `measure`, `estimate`."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import simulate
from ..engine.readout import slice_of
from ..errors import ExportError, ParameterError
from ..events import EventBatch
from ..graph import INPUT, Graph
from ..neurons import resolve
from .baseline import BREAK_EVENS
from .comparisons import compare_delays, compare_dense
from .counts import Counts, concatenate, count
from .library import available, load_profile
from .mapping import Mapping
from .models import MODELS
from .placing import place
from .price import Price, price
from .profile import Profile
from .uncertainty import Range, uncertainty

Events = EventBatch | MappingType[str, EventBatch]
RECORD_BYTES = 1 << 28
"""Potentials of so many bytes are held at once; larger batches are run in pieces."""


def measure(
    graph: Graph,
    events: Events,
    *,
    lengths: np.ndarray | None = None,
    mapping: Mapping | None = None,
    dtype: str | None = None,
) -> Counts:
    """Counts of a network on real inputs, by the engine.

    events   what the input population gets, or {input population: …}
    lengths  steps of each sample that hold input ``[B]``; default: the batch's own. The graph's
             ``metadata["steps_tail"]`` is added, since those steps are run too
    mapping  neurons → cores: from `place`, or a `Mapping` by hand
    """
    return _measure(graph, events, lengths, [mapping], dtype)[0]


def _measure(
    graph: Graph,
    events: Events,
    lengths: np.ndarray | None,
    mappings: Sequence[Mapping | None],
    dtype: str | None,
) -> list[Counts]:
    """Counts under each mapping, from one run."""
    given = _by_input(graph, events, lengths)
    batch = max(len(e) for e in given.values())
    states = [
        (name, variable)
        for name, population in graph.populations.items()
        if population.neuron != INPUT
        for variable in resolve(population.neuron, population.options).state
    ]
    longest = max(int(e.lengths.max(initial=0)) for e in given.values())
    longest += int(graph.metadata.get("steps_tail", 0))
    width = sum(graph.populations[name].size for name, _ in states)
    chunk = max(1, min(batch, RECORD_BYTES // max(8 * longest * width, 1)))
    parts: list[list[Counts]] = [[] for _ in mappings]
    for start in range(0, batch, chunk):
        stop = min(start + chunk, batch)
        piece = {n: e if len(e) < batch else slice_of(e, start, stop) for n, e in given.items()}
        result = simulate(graph, dict(piece), record=states, spikes=list(graph.populations), dtype=dtype)
        for into, mapping in zip(parts, mappings, strict=True):
            into.append(count(graph, result.spikes, result.recorded, lengths=result.steps, mapping=mapping))
    return [concatenate(p) for p in parts]


def _by_input(graph: Graph, events: Events, lengths: np.ndarray | None) -> dict[str, EventBatch]:
    if isinstance(events, EventBatch):
        if len(graph.inputs) != 1:
            raise ParameterError(f"the graph has inputs {graph.inputs}; give events as {{input: events}}.")
        events = {graph.inputs[0]: events}
    given = dict(events)
    if not given or not all(len(e) for e in given.values()):
        raise ParameterError("there are no samples to measure; give at least one.")
    if lengths is not None:
        for name, e in given.items():
            shape = np.shape(lengths)
            if shape != (len(e),):
                raise ParameterError(f"lengths has shape {shape} for {len(e)} samples of input {name!r}.")
            given[name] = _cut(e, np.asarray(lengths, np.int64))
    return given


def _cut(e: EventBatch, lengths: np.ndarray) -> EventBatch:
    """The events that lie before each sample's new length."""
    sample = np.repeat(np.arange(len(e)), np.diff(e.offsets))
    inside = e.times < lengths[sample]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(sample[inside], minlength=len(e)))])
    values = None if e.values is None else e.values[inside]
    return EventBatch(e.times[inside], e.neurons[inside], offsets, lengths, e.size, values)


@dataclass(frozen=True)
class Estimate:
    """What a network costs on real inputs, under one profile or many.

    prices   profile name → `Price`
    counts   profile name → the `Counts` it was priced from (they differ in the mapping only)
    skipped  profile name → why it could not be priced (only with ``profile="all"``)
    notes    assumptions that were made
    """

    prices: dict[str, Price]
    counts: dict[str, Counts]
    skipped: dict[str, str]
    notes: list[str]

    @property
    def table(self) -> dict[str, np.ndarray]:
        """The tables of all profiles under each other, with a column profile: a dict of arrays."""
        tables = [p.table for p in self.prices.values()]
        names = [np.repeat(name, len(p.table["layer"])) for name, p in self.prices.items()]
        return {
            "profile": np.concatenate(names),
            **{column: np.concatenate([t[column] for t in tables]) for column in tables[0]},
        }

    @property
    def total_pj(self) -> dict[str, float]:
        """Profile → mean energy of an inference, pJ."""
        return {name: p.total_pj for name, p in self.prices.items()}

    @property
    def range_pj(self) -> dict[str, tuple[float, float]]:
        """Profile → (low, high) of the mean energy of an inference, pJ."""
        return {name: (p.low_pj, p.high_pj) for name, p in self.prices.items()}

    @property
    def per_inference(self) -> dict[str, np.ndarray]:
        """Profile → energy of each sample ``[B]``, pJ."""
        return {name: p.per_inference for name, p in self.prices.items()}

    @property
    def latency_us(self) -> dict[str, float | None]:
        """Profile → mean time of an inference, µs, or None where the profile can't tell."""
        return {
            name: None if p.latency_us is None else float(p.latency_us.mean())
            for name, p in self.prices.items()
        }

    def uncertainty(self, level: float = 0.95) -> dict[str, Range]:
        """Profile → range from constants and samples together."""
        return {name: uncertainty(p, level) for name, p in self.prices.items()}

    def _comparisons(self) -> dict[str, Any]:
        """Dense rivals and implementations of the delays, where lemaire45 was priced."""
        if "lemaire45" not in self.prices:
            return {}
        counts, profile = self.counts["lemaire45"], self.prices["lemaire45"].profile
        tables = {"dense": compare_dense(counts, profile), "delays": compare_delays(counts, profile)}
        dense = tables["dense"]["crossover_rate"]
        tables["dense"]["crossover_rate"] = np.array([None if np.isnan(r) else r for r in dense], object)
        return {name: {c: v.tolist() for c, v in table.items()} for name, table in tables.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists, ready for `json.dumps`: no NaN, so that any reader takes it."""
        counts = next(iter(self.counts.values()))
        return {
            "samples": len(counts),
            "steps_per_inference": float(counts.steps.mean()),
            "spikes_per_inference": float(counts.spikes.mean()),
            "synops_per_inference": float(counts.synops.mean()),
            "synops_effective_per_inference": float(counts.synops_effective.mean()),
            "spikes_per_synapse_per_inference": float(counts.spikes_per_synapse.mean()),
            "rate": counts.rate,
            "energy_pj": self.total_pj,
            "range_pj": {name: list(r) for name, r in self.range_pj.items()},
            "interval_pj": {name: [r.low, r.high] for name, r in self.uncertainty().items()},
            "latency_us": self.latency_us,
            "break_even": [[b.name, b.low, b.high] for b in BREAK_EVENS],
            **self._comparisons(),
            "profiles": {name: p.to_json() for name, p in self.prices.items()},
            "skipped": self.skipped,
            "notes": self.notes,
        }


def estimate(
    graph: Graph,
    events: Events,
    profile: str | Profile | Sequence[str | Profile] = "cmos45",
    mapping: Mapping | None = None,
    lengths: np.ndarray | None = None,
    *,
    dtype: str | None = None,
    **settings: Any,
) -> Estimate:
    """Energy and time of a network on real inputs.

    profile   name, TOML path or `Profile`; a list of them; or "all" that come with snnkit
    mapping   neurons → cores for profiles of chips; None: the network is placed on the profile's chip,
              one population after another ("neurons_only"), and a note says so
    lengths   see `measure`
    settings  in place of each profile's own; a profile whose model has no such setting keeps its own
    """
    everything = isinstance(profile, str) and profile == "all"
    wanted: Sequence[str | Profile]
    if everything:
        wanted = available()
    else:
        wanted = [profile] if isinstance(profile, str | Profile) else list(profile)
    if not wanted:
        raise ParameterError("estimate needs at least one profile.")
    profiles = [_with(load_profile(p), settings, alone=len(wanted) == 1) for p in wanted]
    mappings: dict[Any, Mapping | None] = {}
    skipped: dict[str, str] = {}
    notes: list[str] = []
    keys: dict[str, Any] = {}
    for p in profiles:
        key: Any = None
        if mapping is not None:
            key = "given"
            mappings[key] = mapping
        elif MODELS[p.model].on_chip:
            chip = p.chip
            assert chip is not None
            key = (chip.neurons, chip.cores)
            try:
                mappings[key] = place(graph, chip, "neurons_only")
            except ExportError as error:
                if not everything:
                    raise
                skipped[p.name] = str(error)
                continue
            notes.append(f"{p.name}: placed one population after another, {chip.neurons} neurons a core.")
        keys[p.name] = key
    fallback = next(iter(mappings), None)
    keys = {name: fallback if key is None else key for name, key in keys.items()}
    if not mappings:
        mappings[None] = None
    measured = dict(
        zip(mappings, _measure(graph, events, lengths, list(mappings.values()), dtype), strict=True)
    )
    for s in next(iter(measured.values())).synapses:
        if s.spikes_valued.any():
            notes.append(
                f"{100 * s.spikes_valued.sum() / s.spikes.sum():.0f} % of the spikes into {s.name!r} carry a "
                "value other than ±1: multiplications in arithmetic models, one graded spike each on chips. "
                "Loihi 1 has no graded spikes; bin the data with binary=True for it."
            )
    kept = [p for p in profiles if p.name in keys]
    if not kept:
        raise ParameterError("no profile could be priced: " + "; ".join(skipped.values()))
    return Estimate(
        {p.name: price(measured[keys[p.name]], p) for p in kept},
        {p.name: measured[keys[p.name]] for p in kept},
        skipped,
        notes,
    )


def _with(profile: Profile, settings: dict[str, Any], alone: bool) -> Profile:
    known = MODELS[profile.model].settings
    fitting = settings if alone else {k: v for k, v in settings.items() if k in known}
    return load_profile(profile.with_settings(**fitting)) if fitting else profile
