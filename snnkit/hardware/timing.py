"""Time on the chip: how far populations lag behind, and delays that the chip can hold.

A spike takes one step through a synapse. Every population gets a latency L, and a synapse of delay d
from A to B gets d + L(B) − L(A) steps, so that all arrives at the moment it should, L later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..chips import Chip
from ..engine import Synapses, synapses
from ..errors import ExportError
from ..graph import INPUT, Graph, Population, Projection
from ..metadata import Timing
from ..neurons.loihi import FULL, NEVER, ONE, WHOLE
from . import loihi
from .report import Report


def latencies(graph: Graph) -> dict[str, int]:
    """Population → steps by which it lags behind the float network.

    A projection between layers adds one step; one that leads back (within a loop) may use up its own
    delay for that. Raises `ExportError` for a loop whose delays are shorter than its synapses.
    """
    loop = graph.components()
    names = list(graph.populations)
    latency = dict.fromkeys(names, 0)
    changed: Projection | None = None
    for _ in range(len(names) + 1):
        changed = None
        for p in graph.projections:
            back = loop[p.source] == loop[p.target]
            need = (
                latency[p.source] + 1 - (int(p.delays.min(initial=1 << 30)) if back and p.weight.size else 0)
            )
            if p.weight.size and need > latency[p.target]:
                latency[p.target], changed = need, p
        if changed is None:
            return latency
    where = changed.name if changed else ""
    raise ExportError(
        f"projection {where!r}: a loop of delays that are too short; on Loihi each synapse of a loop "
        "takes at least 1 step. Train with longer recurrent delays."
    )


def late(graph: Graph, latency: dict[str, int]) -> Timing:
    """The timing of `graph` on the chip, where its populations lag by `latency`."""
    timing, last = Timing.of(graph.metadata), max((latency[name] for name in graph.outputs), default=0)
    return replace(timing, steps_tail=timing.steps_tail + last, latency=last, latencies=latency)


def aligned(p: Population, latency: int) -> Population:
    """The population with its state cleared just before the first input can reach it."""
    params = p.params | {
        "refractory": p.params.get("refractory", np.asarray(0)),
        "reset_interval": np.asarray(NEVER),
        "reset_offset": np.asarray(latency + 1),
    }
    return replace(p, params=params, options={"timed": True})


def started(p: Population, latency: int, report: Report) -> Population:
    """The population in the state from which `latency` steps of its bias alone lead to where it starts now.

    Backwards through u ← trunc(u · keep), v ← trunc(v · keep) + u + bias, exactly. Where that start is beyond
    the registers, or would spike on the way, the population is left as it is, and `report` says so.
    """
    keep_u, keep_v = WHOLE - 1 - p.param("du", np.int64), WHOLE - p.param("dv", np.int64)
    bias, top = p.param("bias", np.int64), p.param("vth", np.int64) * ONE
    starts = (np.broadcast_to(p.initial.get(k, np.int64(0)), p.shape) for k in ("u", "v"))
    u, v = (start.reshape(-1).astype(np.int64) for start in starts)
    fits = True
    for _ in range(latency):
        fits = fits and bool((v <= top).all())
        u, v = _before(u, keep_u), _before(v - u - bias, keep_v)
    if not fits or max(np.abs(u).max(), np.abs(v).max()) >= FULL:
        report.warnings.append(
            f"population {p.name!r}: its bias acts in the {latency} steps before the first input arrives too."
        )
        return p
    return replace(p, initial={k: s.reshape(p.shape) for k, s in (("u", u), ("v", v)) if s.any()})


def _before(value: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """What trunc(· keep / 4096) makes `value` of; 0 where nothing is kept."""
    size = -(-(np.abs(value) * WHOLE) // np.maximum(keep, 1))
    return np.where(keep > 0, np.sign(value) * size, 0)


@dataclass(frozen=True)
class Wiring:
    """What long delays are held against, and what making them fit adds to.

    populations  those of the integer network so far; relays are added
    graded       whether inputs carry values other than 1; None: not known
    """

    graph: Graph
    populations: dict[str, Population]
    chip: Chip
    graded: bool | None
    report: Report

    @property
    def longest(self) -> int:
        """The longest delay in the integer graph, steps: the chip's and the step through a synapse."""
        return self.chip.max_delay + 1


def delayed(
    projections: list[Projection], latency: dict[str, int], long_delays: str, wiring: Wiring
) -> list[Projection]:
    """The projections with delays as on the chip, plus one; `long_delays` is a name of `LONG_DELAYS`.

    Raises `ExportError` naming projection and delay where that cannot be.
    """
    done: list[Projection] = []
    for p in projections:
        delay = p.delays.astype(np.int64) + latency[p.target] - latency[p.source]
        used = p.weight != 0
        long = used & (delay > wiring.longest)
        p = replace(p, delay=np.where(used, delay, delay.clip(1, wiring.longest)))
        if long.any():
            done += LONG_DELAYS[long_delays](p, long, wiring)
        else:
            done.append(replace(p, delay=_plain_delay(p.delay)))
    return done


def _refuse(p: Projection, long: np.ndarray, wiring: Wiring) -> list[Projection]:
    chip, used = wiring.chip, int((p.weight != 0).sum())
    index = np.unravel_index(int((p.delay * long).argmax()), p.delay.shape)
    raise ExportError(
        f"projection {p.name!r}: delay {p.delay[index] - 1} at {[int(i) for i in index]} is beyond "
        f"{chip.name}'s {chip.max_delay} steps ({int(long.sum())} of {used} are). Train with max_delay = "
        f"{chip.max_delay}, or pass --clip-delays (long_delays='clip'), --relay-delays (long_delays='relay') "
        "or, from Python, long_delays='rescale'."
    )


def _clip(p: Projection, long: np.ndarray, wiring: Wiring) -> list[Projection]:
    wiring.report.delays_clipped += int(long.sum())
    return [replace(p, delay=_plain_delay(p.delay.clip(1, wiring.longest)))]


def _relay(p: Projection, long: np.ndarray, wiring: Wiring) -> list[Projection]:
    """A projection with long delays as a chain: relay neurons hold each spike back and send it on.

    A relay takes the chip's longest delay and one step; a synapse hangs on the last relay before it.
    """
    source = wiring.graph.populations[p.source]
    if source.neuron == INPUT and wiring.graded:
        raise ExportError(
            f"projection {p.name!r}: its spikes carry counts, which a relay neuron cannot pass on. "
            "Train on data with data.binary = true (binary=True), or pass --clip-delays (long_delays='clip') "
            "or, from Python, long_delays='rescale'."
        )
    listed = synapses(wiring.graph, p)
    s = _chosen(listed, listed.weight != 0)
    hop = wiring.longest
    relays = (s.delay - 1) // hop
    made, before, size = [], p.source, source.size
    index = np.arange(size)  # a neuron of the source → its place in `before`
    for stage in range(int(relays.max()) + 1):
        if stage:
            senders = np.unique(s.source[relays >= stage])
            name = f"{p.name}~relay{stage}"
            wiring.populations[name] = loihi.population(name, len(senders), du=4095, dv=4096, vth=1)
            onward = Synapses(
                source=index[senders],
                target=np.arange(len(senders)),
                weight=np.full(len(senders), 2),
                delay=np.full(len(senders), hop),
            )
            made.append(_sparse(name, (before, name), onward, size, {"bits": 8, "exponent": 0}))
            wiring.report.relays += len(senders)
            before, size, index = name, len(senders), np.zeros(source.size, np.int64)
            index[senders] = np.arange(len(senders))
        here = relays == stage
        if here.any():
            hangs = _chosen(s, here)
            hangs = hangs._replace(source=index[hangs.source], delay=hangs.delay - stage * hop)
            options = {k: v for k, v in p.options.items() if k in ("bits", "exponent")}
            name = p.name if not stage else f"{p.name}~{stage}"
            made.append(_sparse(name, (before, p.target), hangs, size, options))
    return made


LONG_DELAYS: dict[str, Callable[[Projection, np.ndarray, Wiring], list[Projection]]] = {
    "refuse": _refuse,
    "clip": _clip,
    "relay": _relay,
    "rescale": _refuse,  # the step was made longer before: what is too long now stays so
}
"""What becomes of a projection (delays as in the integer graph) whose synapses `long` are too long."""


def _chosen(s: Synapses, chosen: np.ndarray) -> Synapses:
    return Synapses(*(values[chosen] for values in s))


def _sparse(name: str, ends: tuple[str, str], s: Synapses, size: int, options: dict[str, int]) -> Projection:
    """Synapses in any order as a projection from ends[0], which has `size` neurons, to ends[1]."""
    order = np.argsort(s.source, kind="stable")
    return Projection(
        name=name,
        source=ends[0],
        target=ends[1],
        weight=s.weight[order].astype(np.int64),
        delay=s.delay[order].astype(np.int32),
        kind="sparse",
        indptr=np.searchsorted(s.source[order], np.arange(size + 1)),
        indices=s.target[order],
        options=options,
    )


def _plain_delay(delay: np.ndarray) -> np.ndarray:
    if delay.size and (delay == delay.flat[0]).all():
        return np.asarray(delay.flat[0], np.int32)
    return delay.astype(np.int32)


def coarsening(graph: Graph, chip: Chip) -> int:
    """The least whole number of steps that, made one, bring all delays within the chip's.

    Raises `ExportError` if 1024 are not enough.
    """
    latency = latencies(graph)
    for factor in range(1, 1025):
        longest = max(
            (
                round(p.max_delay / factor) + latency[p.target] - latency[p.source] - 1
                for p in graph.projections
            ),
            default=0,
        )
        if longest <= chip.max_delay:
            return factor
    raise ExportError(
        f"delays of {max(p.max_delay for p in graph.projections)} steps fit with no coarser step."
    )
