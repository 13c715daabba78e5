"""Run a network on real inputs and price it under one profile or many."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ExportError, ParameterError
from ..graph import Graph
from .baseline import BREAK_EVENS
from .comparisons import compare_delays, compare_dense
from .counts import Counts
from .library import available, load_profile
from .mapping import Mapping
from .measuring import Events, measure_mappings
from .models import MODELS
from .placing import place
from .price import Price, price
from .profile import Profile
from .uncertainty import Range, uncertainty


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

    Raises `ConfigError` for a wrong profile or setting, `ExportError` where the network does not fit the
    chip (with "all" the profile is skipped), `ParameterError` where no profile is left, and what `measure`
    raises.
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
    mapped = _mapped(graph, profiles, mapping, skip=everything)
    kept = [p for p in profiles if p.name not in mapped.skipped]
    if not kept:
        raise ParameterError("no profile could be priced: " + "; ".join(mapped.skipped.values()))
    # a profile that needs no mapping is priced from the counts under the first one there is
    mappings = mapped.mappings or {None: None}
    first = next(iter(mappings))
    counts = measure_mappings(graph, events, list(mappings.values()), lengths=lengths, dtype=dtype)
    measured = dict(zip(mappings, counts, strict=True))
    own = {p.name: measured[mapped.key.get(p.name, first)] for p in kept}
    return Estimate(
        prices={p.name: price(own[p.name], p) for p in kept},
        counts=own,
        skipped=mapped.skipped,
        notes=[*mapped.notes, *_valued_notes(measured[first])],
    )


@dataclass
class _Mapped:
    """Which mapping each profile is priced under.

    mappings        key → mapping, each different one once
    key             profile → key of its mapping, for those that need one of their own
    skipped, notes  as in `Estimate`
    """

    mappings: dict[Hashable, Mapping | None] = field(default_factory=dict)
    key: dict[str, Hashable] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _mapped(graph: Graph, profiles: Sequence[Profile], given: Mapping | None, *, skip: bool) -> _Mapped:
    """Mappings that the profiles need; `given` serves all. With `skip` one that does not fit is left out."""
    if given is not None:
        return _Mapped(mappings={"given": given})
    found = _Mapped()
    for profile in profiles:
        chip = profile.chip
        if chip is None or not MODELS[profile.model].on_chip:
            continue
        key = (chip.neurons, chip.cores)
        try:
            found.mappings[key] = place(graph, chip, "neurons_only")
        except ExportError as error:
            if not skip:
                raise
            found.skipped[profile.name] = str(error)
            continue
        found.key[profile.name] = key
        found.notes.append(
            f"{profile.name}: placed one population after another, {chip.neurons} neurons a core."
        )
    return found


def _valued_notes(counts: Counts) -> list[str]:
    """That spikes carry values, for each projection into which they do."""
    return [
        f"{100 * s.spikes_valued.sum() / s.spikes.sum():.0f} % of the spikes into {s.name!r} carry a "
        "value other than ±1: multiplications in arithmetic models, one graded spike each on chips. "
        "Loihi 1 has no graded spikes; bin the data with data.binary = true (binary=True) for it."
        for s in counts.synapses
        if s.spikes_valued.any()
    ]


def _with(profile: Profile, settings: dict[str, Any], alone: bool) -> Profile:
    known = MODELS[profile.model].settings
    fitting = settings if alone else {k: v for k, v in settings.items() if k in known}
    return load_profile(profile.with_settings(**fitting)) if fitting else profile
