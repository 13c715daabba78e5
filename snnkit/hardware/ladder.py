"""The ladder: a network in every form it takes on the way to the chip, each compared with the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import engine
from ..engine.readout import classify, output_of, recorded, slice_of
from ..errors import ExportError, GraphError, ParameterError
from ..events import EventBatch
from ..graph import INPUT, Graph, Population, Projection
from ..metadata import Timing, Units
from ..neurons.loihi import ONE
from .graded import scaled, sent
from .timing import late, latencies


@dataclass
class Outcome:
    """What one form of a network made of the data.

    scores  float [B, C]
    spikes  population → its spikes, in the float network's time
    """

    scores: np.ndarray
    spikes: dict[str, EventBatch]


@dataclass
class Rung:
    """One form of the network compared with the form before it.

    accuracy  share of samples classified correctly; None without labels
    equal     share of spikes that both have, 2·|A ∩ B| / (|A| + |B|); None for the first
    agree     share of samples classified alike
    first     the earliest difference in words, or None
    """

    name: str
    accuracy: float | None
    equal: float | None
    agree: float | None
    spikes: int
    first: str | None


@dataclass
class Ladder:
    """All rungs from the trained network to the exported one."""

    rungs: list[Rung]
    tolerance: float
    exact: tuple[str, ...]

    @property
    def drop(self) -> float:
        """Accuracy lost from the first rung to the last; without labels, share of samples that changed."""
        first, last = self.rungs[0], self.rungs[-1]
        if first.accuracy is None or last.accuracy is None:
            return sum(1 - rung.agree for rung in self.rungs[1:] if rung.agree is not None)
        return first.accuracy - last.accuracy

    @property
    def status(self) -> int:
        """Exit code: 0 if `drop` is within the tolerance and what must be exact is."""
        broken = any(rung.name in self.exact and rung.equal != 1.0 for rung in self.rungs)
        return int(broken or self.drop > self.tolerance + 1e-12)

    def __str__(self) -> str:
        def share(value: float | None) -> str:
            return "–" if value is None else f"{100 * value:.3f} %"

        lines = [
            f"{'rung':<12} {'accuracy':>10} {'agree':>10} {'equal spikes':>13} {'spikes':>9}  first to differ"
        ]
        lines += [
            f"{r.name:<12} {share(r.accuracy):>10} {share(r.agree):>10} {share(r.equal):>13} {r.spikes:>9}  "
            f"{r.first or '–'}"
            for r in self.rungs
        ]
        verdict = "within" if self.status == 0 else "NOT within"
        return "\n".join([*lines, f"drop {100 * self.drop:.2f} points, {verdict} {100 * self.tolerance:.2f}"])


def ladder(
    graph: Graph,
    exported: Graph,
    events: EventBatch,
    labels: Sequence[int] | np.ndarray | None = None,
    *,
    above: dict[str, Callable[[], Outcome]] | None = None,
    below: dict[str, Callable[[], Outcome]] | None = None,
    tolerance: float = 0.005,
    exact: Sequence[str] = ("lava", "reference"),
) -> Ladder:
    """Compare a network in every form it takes on the way to the chip.

    graph      the lowered float network: batch norm folded, delays rounded
    exported   the same network as it was exported, integers or floats (`snnkit.commands.formats.load`)
    events     the data; labels int [B] if known
    above      forms before `graph`, first to last, e.g. {"float": …, "folded": …}
    below      forms after the integer model, e.g. {"lava": …}
    tolerance  accuracy that may be lost from first to last, 0..1
    exact      rungs that must equal the one before in every spike

    The rungs in between: "rounded" is `graph`; "input" the same given values that are rounded for the chip
    (only where it is, see `snnkit.hardware.graded`); "quantised" the same network with the integers' weights,
    thresholds and decays, in float; "integer" the exported network in the chip's arithmetic.

    Raises `GraphError` for networks that do not belong together, `ParameterError` for data without samples
    or with labels of another length.
    """
    if len(events) == 0:
        raise ParameterError("verify needs at least one sample.")
    if labels is not None and len(labels) != len(events):
        raise ParameterError(f"{len(labels)} labels for {len(events)} samples.")
    if (given := None if labels is None else np.asarray(labels)) is not None and (
        given.ndim != 1 or given.dtype.kind not in "iub"
    ):
        raise ParameterError(
            f"labels of shape {list(given.shape)} and dtype {given.dtype} are not one class a sample, whole "
            "numbers [B]; leave them out: the ladder then says how many samples are classified alike."
        )
    integer = matched(exported, graph)
    forms: dict[str, Callable[[], Outcome]] = dict(above or {})
    forms["rounded"] = lambda: outcome(graph, events, dtype="float64")
    units = Units.of(integer.metadata)
    if units.inputs:
        told = Units(inputs=units.inputs, largest=units.largest).to_metadata()
        shown = replace(scaled(graph, units.inputs), metadata=graph.metadata | told)
        forms["input"] = lambda: outcome(shown, events, dtype="float64")
    is_integer = any(p.neuron == "loihi" for p in integer.populations.values())
    if is_integer:
        try:
            real = as_float(integer)
            forms["quantised"] = lambda: outcome(real, events, dtype="float64")
        except ExportError:
            pass  # a bias on a filtered current has no float twin
    name = "integer" if is_integer else "exported"
    forms[name] = lambda: outcome(integer, events, dtype=None if is_integer else "float64")
    forms |= below or {}
    rungs: list[Rung] = []
    before: Outcome | None = None
    for name, form in forms.items():
        now = form()
        guess = now.scores.argmax(1)
        accuracy = None if labels is None else float((guess == np.asarray(labels)).mean())
        total = sum(len(s.times) for s in now.spikes.values())
        if before is None:
            rungs.append(Rung(name, accuracy, None, None, total, None))
        else:
            equal, first = compare(before.spikes, now.spikes)
            agree = float((guess == before.scores.argmax(1)).mean())
            rungs.append(Rung(name, accuracy, equal, agree, total, first))
        before = now
    return Ladder(rungs, tolerance, tuple(exact))


def outcome(graph: Graph, events: EventBatch, *, batch: int = 64, dtype: str | None = None) -> Outcome:
    """Run a graph, float or integer, `batch` samples at a time; the chip's latency is taken out of the
    spikes' times.

    events  of the float network; where the metadata say how, they are rounded for the chip
    """
    events = sent(graph, events)
    timing = Timing.of(graph.metadata)
    scores, pieces = [], []
    for start in range(0, len(events), batch):
        part = slice_of(events, start, min(start + batch, len(events)))
        result = engine.simulate(graph, part, record=recorded(graph), dtype=dtype)
        scores.append(classify(result, graph, part.lengths))
        pieces.append(result.spikes)
    spikes = {}
    for population in pieces[0]:
        if "~relay" in population:
            continue
        mine = [piece[population] for piece in pieces]
        spikes[population] = _moved(mine, timing.lag(population), timing.latency)
    return Outcome(np.concatenate(scores), spikes)


def _moved(pieces: list[EventBatch], lag: int, late: int) -> EventBatch:
    """Batches joined, `lag` steps earlier; what falls outside the float network's steps is dropped."""
    times = np.concatenate([p.times for p in pieces]) - lag
    neurons = np.concatenate([p.neurons for p in pieces])
    lengths = np.concatenate([p.lengths for p in pieces]) - late
    sample = np.repeat(np.arange(len(lengths)), np.concatenate([np.diff(p.offsets) for p in pieces]))
    inside = (times >= 0) & (times < lengths[sample])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(sample[inside], minlength=len(lengths)))])
    return EventBatch(times[inside], neurons[inside], offsets, lengths, pieces[0].size)


def compare(a: dict[str, EventBatch], b: dict[str, EventBatch]) -> tuple[float, str | None]:
    """Share of spikes that both have, and the earliest difference: sample, step, population, neuron."""
    common = total = 0
    first: tuple[int, int, str] | None = None
    for depth, name in enumerate(n for n in a if n in b):
        size, longest = max(a[name].size, b[name].size), _longest(a[name], b[name])
        old, new = _keys(a[name], size, longest), _keys(b[name], size, longest)
        common += 2 * len(np.intersect1d(old, new, assume_unique=True))
        total += len(old) + len(new)
        lost, gained = np.setdiff1d(old, new, assume_unique=True), np.setdiff1d(new, old, assume_unique=True)
        for key, words in ((lost, "is missing"), (gained, "is new")):
            if len(key):
                step = key // size % longest
                e = int(np.argmin(step))
                sample, t, n = int(key[e] // size // longest), int(step[e]), int(key[e] % size)
                found = (t, depth, f"{name}, step {t}, neuron {n} (sample {sample}): a spike {words}")
                first = min(first or found, found)
    return (common / total if total else 1.0), (first[2] if first else None)


def _longest(*batches: EventBatch) -> int:
    return max(int(batch.lengths.max(initial=1)) for batch in batches)


def _keys(batch: EventBatch, size: int, longest: int) -> np.ndarray:
    sample = np.repeat(np.arange(len(batch)), np.diff(batch.offsets))
    return np.unique((sample * longest + batch.times) * size + batch.neurons)


def as_float(graph: Graph) -> Graph:
    """The float network with the weights, thresholds, decays and delays of an integer one.

    Potentials are in weight units; the chip's latency is taken out. What is left to the integer model
    is its rounding of u and v. Raises `ExportError` for a bias beside a filtered current.
    """
    timing, units = Timing.of(graph.metadata), Units.of(graph.metadata)
    populations = {}
    for name, p in graph.populations.items():
        if p.neuron == INPUT:
            populations[name] = p
            continue
        keep_u, keep_v = (4095 - p.params["du"]) / 4096, (4096 - p.params["dv"]) / 4096
        v_th, bias = p.params["vth"] + 1 / ONE, p.params["bias"] / ONE
        options: dict[str, Any] = {}
        waits = p.params.get("refractory", np.zeros(1))
        params: dict[str, Any] = {"v_th": v_th, "v_reset": 0.0}
        if np.any(waits):
            options["refractory"], params["refractory"] = True, waits
        if not np.any(keep_u):
            params |= {"decay": keep_v, "gain": 1.0, "v_rest": 0.0}
            populations[name] = Population(name, "lif", p.shape, params, bias, options)
        elif np.any(bias):
            raise ExportError(f"population {name!r}: a bias beside a filtered current has no float twin.")
        else:
            params |= {"decay_syn": keep_u, "decay_mem": keep_v}
            populations[name] = Population(name, "cuba", p.shape, params, options=options)
    projections = []
    for s in graph.projections:
        lag = timing.lag(s.target) - timing.lag(s.source)
        weight = s.weight / 2.0 ** int(s.options.get("shift", 0))
        options = {k: v for k, v in s.options.items() if k not in ("shift", "bits", "exponent")}
        delay = np.where(s.weight != 0, s.delays - lag, np.maximum(s.delays - lag, 0)).astype(np.int32)
        projections.append(replace(s, weight=weight, delay=delay, options=options))
    prompt = replace(timing, steps_tail=timing.steps_tail - timing.latency, latency=0, latencies=None)
    units = replace(units, scale={n: (np.asarray(v) / ONE).tolist() for n, v in units.scale.items()})
    metadata = {k: v for k, v in graph.metadata.items() if k not in timing.to_metadata()}
    metadata |= prompt.to_metadata() | units.to_metadata()
    return Graph(populations, projections, graph.dt, list(graph.outputs), metadata).validate()


def matched(exported: Graph, graph: Graph) -> Graph:
    """The exported network with the names, read-out and latency of the float one where it lacks them.

    Raises `GraphError` naming populations that are missing or of another size.
    """
    if missing := [n for n in graph.populations if n not in exported.populations]:
        if len(exported.populations) != len(graph.populations):
            raise GraphError(
                f"the exported network has populations {list(exported.populations)}, the float one "
                f"{list(graph.populations)}; {missing} are missing."
            )
        new = dict(zip(exported.populations, graph.populations, strict=True))
        exported = Graph(
            {new[n]: replace(p, name=new[n]) for n, p in exported.populations.items()},
            [_renamed(p, new) for p in exported.projections],
            graph.dt,
            [new[n] for n in exported.outputs],
            dict(exported.metadata),
        )
    for name, p in graph.populations.items():
        if p.size != exported.populations[name].size:
            raise GraphError(
                f"population {name!r} has {p.size} neurons, in the exported network "
                f"{exported.populations[name].size}."
            )
    integer = any(p.neuron == "loihi" for p in exported.populations.values())
    metadata = dict(graph.metadata) | exported.metadata
    if integer and Timing.of(metadata).latencies is None:
        output_of(graph)  # one, whose latency is the network's
        metadata |= late(graph, latencies(graph)).to_metadata()
    outputs = exported.outputs or graph.outputs
    return Graph(exported.populations, exported.projections, exported.dt, outputs, metadata)


def _renamed(p: Projection, new: dict[str, str]) -> Projection:
    return replace(p, source=new[p.source], target=new[p.target])
