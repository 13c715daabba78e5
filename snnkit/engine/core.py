"""One sample in motion: states, rings and the loop over chunks of steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..graph import INPUT
from . import kernels_cpu
from .plan import Lane, Plan, Unit
from .recording import Recording, Spikes, Thinner, Watch


class Source(Protocol):
    """What feeds an input population."""

    def events(self, start: int, stop: int) -> Spikes:
        """Spikes of steps start:stop, sorted by time and neuron."""
        ...


class Running:
    """A population's state and working memory; P partitions, chunks of at most K steps.

    state                    each variable of the neuron, [N]
    raw_times, raw_neurons, raw_values   spikes as a partition finds them, [P, K·N/P]; values [P, 0] where
                                         the neuron gives one spike a step
    times, neurons, values   the same in the order (step, neuron)
    steps                    where in them each step begins, [P, K + 1]
    quiet                    1 where nothing in the partition moved, [P, 1]
    x, h, states             summed input [K, N], potential before the reset [K, N] and states [S, K, N]
                             of a chunk, empty unless recorded
    pending                  last step that input is still to come for
    asleep                   at rest: without input there is nothing to compute
    """

    def __init__(self, unit: Unit, span: int, parts: int, plan: Plan) -> None:
        types = plan.types
        self.unit = unit
        self.kernel = unit.kernel
        self.state = [v.copy() for v in unit.initial]
        self.x = np.zeros((0, 0), types.wide)
        self.bounds = plan.bounds[unit.population.name]
        most = span * int(np.diff(self.bounds).max())
        self.raw_times, self.times = (np.zeros((parts, most), np.int64) for _ in range(2))
        self.raw_neurons, self.neurons = (np.zeros((parts, most), np.int32) for _ in range(2))
        several = most if unit.neuron.counts else 0
        self.raw_values, self.values = (np.zeros((parts, several), types.wide) for _ in range(2))
        self.steps = np.zeros((parts, span + 1), np.int64)
        self.quiet = np.zeros((parts, 1), np.uint8)
        self.h = np.zeros((0, 0), types.wide)
        self.states = np.zeros((len(self.state), 0, 0), types.state)
        self.reset()

    def reset(self) -> None:
        """Back to the initial states."""
        for state, start in zip(self.state, self.unit.initial, strict=True):
            state[:] = start
        self.pending = -1
        self.asleep = False


class Inputs:
    """The rings into one population, in one array, and the dense counts that take a ring's place.

    array            the rings one after the other, each [rows · N]
    starts, rows     int64 [lanes], where each begins and how many rows it has
    driven           the lane that has dense counts instead, −1 for none
    weight, drives   its weights [N] and counts [K, N], of the steps from `first` on
    """

    def __init__(self, lanes: list[Lane], plan: Plan) -> None:
        lengths = [lane.rows * lane.size for lane in lanes]
        self.array = np.zeros(sum(lengths), plan.types.wide)
        self.starts = np.concatenate([[0], np.cumsum(lengths)])[:-1].astype(np.int64)
        self.rows = np.array([lane.rows for lane in lanes], np.int64)
        self.driven, self.first = -1, 0
        self.weight, self.drives = np.zeros(0, plan.types.weight), np.zeros((0, 0), plan.types.wide)

    def ring(self, lane: Lane, lanes: list[Lane]) -> np.ndarray:
        """The ring of one of `lanes`, [rows · N], as a view."""
        start = self.starts[[other.index for other in lanes].index(lane.index)]
        return self.array[start : start + lane.rows * lane.size]


class Core:
    """Runs one sample on the CPU; `plan` may be shared by threads, a Core may not."""

    def __init__(self, plan: Plan, recording: Recording) -> None:
        self.plan = plan
        self.kept = recording.spikes
        self.empty = np.zeros(0, plan.types.wide)
        self.none = Spikes(np.zeros(0, np.int64), np.zeros(0, np.int32), self.empty)
        self.lanes_into: dict[str, list[Lane]] = {n: [] for n in plan.graph.populations}
        self.lanes_out: dict[str, list[Lane]] = {n: [] for n in plan.graph.populations}
        for lane in plan.lanes:
            self.lanes_into[lane.projection.target].append(lane)
            self.lanes_out[lane.projection.source].append(lane)
        self.inputs = {n: Inputs(self.lanes_into[n], plan) for n in plan.units}
        self.rings = [
            self.inputs[lane.projection.target].ring(lane, self.lanes_into[lane.projection.target])
            for lane in plan.lanes
        ]
        self.scratch = {
            lane.index: np.zeros((lane.longest + 1) * lane.size, plan.types.wide)
            for lane in plan.lanes
            if lane.shift is not None
        }
        self.running = {n: Running(u, plan.span, plan.parts, plan) for n, u in plan.units.items()}
        self.thinners = {w.key: Thinner(w) for w in recording.watches}
        self.watches: dict[str, list[Watch]] = {n: [] for n in plan.graph.populations}
        for watch in recording.watches:
            self._watch(watch)
        self.counted = {
            name: self.lanes_out[name][0]
            for name in plan.graph.inputs
            if name not in self.kept and not self.watches[name] and self._is_drive(self.lanes_out[name])
        }
        self.dense_spikes = dict.fromkeys(self.counted, 0)
        self.counts = {n: np.zeros(p.size, np.int64) for n, p in plan.graph.populations.items()}
        self.sums = dict.fromkeys(plan.graph.populations, 0.0)
        self.done = dict.fromkeys(plan.units, 0)
        self.t = 0

    def _is_drive(self, lanes: list[Lane]) -> bool:
        """Can dense counts of the input be added to the target's without a ring? One lane at most each."""
        if len(lanes) != 1 or lanes[0].layout != "one_to_one" or lanes[0].shift is not None:
            return False
        lane = lanes[0]
        others = [a for a in self.lanes_into[lane.projection.target] if a.index < lane.index]
        weight, delay = lane.arrays
        return bool(
            (delay == 0).all()
            and (weight != 0).all()
            and not any(self.plan.graph.populations[a.projection.source].neuron == INPUT for a in others)
        )

    def _watch(self, watch: Watch) -> None:
        self.watches[watch.population].append(watch)
        if watch.population not in self.running:
            return
        run, size = self.running[watch.population], self.plan.graph.populations[watch.population].size
        if watch.variable == "x":
            run.x = np.zeros((self.plan.span, size), self.plan.types.wide)
        elif watch.variable == "h":
            run.h = np.zeros((self.plan.span, size), self.plan.types.wide)
        elif watch.variable in run.unit.neuron.state:
            run.states = np.zeros((len(run.state), self.plan.span, size), self.plan.types.state)

    def reset(self) -> None:
        """Back to step 0: initial states, empty rings, counts of 0."""
        for run in self.running.values():
            run.reset()
        for ring in (*(i.array for i in self.inputs.values()), *self.scratch.values()):
            ring[:] = 0
        for thinner in self.thinners.values():
            thinner.reset()
        for counts in self.counts.values():
            counts[:] = 0
        self.sums = dict.fromkeys(self.sums, 0.0)
        self.dense_spikes = dict.fromkeys(self.dense_spikes, 0)
        self.done = dict.fromkeys(self.done, 0)
        self.t = 0

    def run(
        self,
        until: int,
        sources: dict[str, Source],
        spiked: Callable[[str, Spikes], None],
        watched: Callable[[Watch, np.ndarray], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Advance to step `until`, chunk by chunk; ends early, between chunks, once `stopped()`.

        spiked, watched  get the spikes and the rows [T, n] of variables, in the order of time
        """
        plan = self.plan
        while self.t < until and not stopped():
            stop = min(until, self.t + plan.span)
            for group in plan.groups:
                chunk = group.chunk or stop - self.t
                for start in range(self.t, stop, chunk):
                    end = min(start + chunk, stop)
                    for name in group.members:
                        spikes = self._advance(name, start, end, sources, watched)
                        if len(spikes.times):
                            for lane in self.lanes_out[name]:
                                self._deliver(lane, spikes)
                            if name in self.kept:
                                spiked(name, spikes)
            self.t = stop

    def finish(self, watched: Callable[[Watch, np.ndarray], None]) -> None:
        """Hand out the last, shorter window of averaged rates, [1, n]."""
        for watches in self.watches.values():
            for watch in watches:
                rest = self.thinners[watch.key].rest()
                if rest is not None:
                    watched(watch, rest)

    def _advance(
        self, name: str, start: int, stop: int, sources: dict[str, Source], watched: Callable[..., None]
    ) -> Spikes:
        if self.plan.graph.populations[name].neuron == INPUT:
            if name not in sources:
                return self.none
            dense = getattr(sources[name], "dense", None)
            if name in self.counted and dense is not None:
                return self._drive(name, stop, *dense(start, stop, self.plan.parts))
            spikes = Spikes(*sources[name].events(start, stop))
            kernels_cpu.tally(spikes.neurons, self.counts[name])
            self.sums[name] += spikes.total()
        else:
            spikes = self._update(self.running[name], start, stop)
        for watch in self.watches[name]:
            rows = self.thinners[watch.key].feed(start, self._rows(name, watch, start, stop, spikes))
            if len(rows):
                watched(watch, rows)
        return spikes

    def _drive(self, name: str, stop: int, counts: np.ndarray, spikes: int, total: int) -> Spikes:
        """A dense input [K, N], neuron to neuron: neither a list of spikes nor a ring is needed."""
        self.sums[name] += total
        self.dense_spikes[name] += spikes
        lane = self.counted[name]
        target = lane.projection.target
        inputs = self.inputs[target]
        inputs.driven = self.lanes_into[target].index(lane)
        inputs.weight, inputs.drives = lane.arrays[0], counts
        inputs.first = stop - len(counts)
        self.running[target].pending = max(self.running[target].pending, stop - 1)
        return self.none

    def _update(self, run: Running, start: int, stop: int) -> Spikes:
        name, steps = run.unit.population.name, stop - start
        silent = run.pending < start
        if run.asleep and silent and not self.watches[name]:
            return self.none
        self.done[name] += steps
        size, parts, unit, inputs = run.unit.population.size, self.plan.parts, run.unit, self.inputs[name]
        drives = inputs.drives[start - inputs.first :] if inputs.driven >= 0 else inputs.drives
        given = (inputs.array, inputs.starts, inputs.rows, inputs.driven, inputs.weight, drives, start, steps)
        common = (unit.stride, *run.state, *unit.params, unit.bias, self.counts[name])
        found = run.times, run.neurons, run.values
        written = (run.raw_times, run.raw_neurons, run.raw_values, *found, run.steps)
        wanted = (run.x, run.h, run.states, silent)
        if parts == 1:
            first = (a[0] for a in written)
            count = unit.kernel.update(*given, 0, size, *common, *first, *wanted, run.quiet[0])
            spikes = Spikes(*(a[0][:count].copy() for a in found))
        else:
            unit.kernel.update_parts(*given, run.bounds, *common, *written, *wanted, run.quiet)
            count = int(run.steps[:, steps].sum())
            values = np.empty(count if unit.neuron.counts else 0, self.empty.dtype)
            spikes = Spikes(np.empty(count, np.int64), np.empty(count, np.int32), values)
            kernels_cpu.merge(found, run.steps, steps, tuple(spikes))
        run.asleep = bool(silent and run.quiet.all())
        self.sums[name] += spikes.total()
        return spikes

    def _deliver(self, lane: Lane, spikes: Spikes) -> None:
        times, neurons, values = spikes
        target = self.running[lane.projection.target]
        target.pending = max(target.pending, int(times[-1]) + lane.longest)
        ring = self.rings[lane.index]
        if lane.shift is None:
            self._scatter(lane, spikes, ring)
            return
        scratch, rows = self.scratch[lane.index], lane.longest + 1
        cuts = [0, *(np.flatnonzero(np.diff(times)) + 1).tolist(), len(times)]
        first = int(lane.projection.delay.min(initial=lane.longest))
        for a, b in itertools.pairwise(cuts):
            self._scatter(lane, Spikes(times[a:b], neurons[a:b], values[a:b]), scratch)
            kernels_cpu.shift_into(
                scratch, first, rows, lane.shift, ring, lane.rows, lane.size, int(times[a])
            )

    def _scatter(self, lane: Lane, spikes: Spikes, ring: np.ndarray) -> None:
        """Add the lane's synapses of `spikes` to a ring [rows · N]."""
        synapses = (*spikes, *lane.arrays)
        place: tuple[Any, ...] = (ring, lane.size)
        if lane.layout == "rows":
            place = (lane.per_source, *place)
        alone, by_parts = kernels_cpu.DELIVER[lane.layout]
        if self.plan.parts == 1:
            alone(*synapses, *place, 0, 1 if lane.layout == "rows" else lane.size)
        else:
            by_parts(*synapses, *place, self.plan.bounds[lane.projection.target])

    def _rows(self, name: str, watch: Watch, start: int, stop: int, spikes: Spikes) -> Any:
        """The watched variable in steps start:stop, [stop − start, n]."""
        steps = stop - start
        if watch.variable == "rate":
            rows = np.zeros((steps, self.plan.graph.populations[name].size))
            times, neurons, values = spikes
            np.add.at(rows, (times - start, neurons), values if len(values) else 1)
        else:
            run = self.running[name]
            if watch.variable == "x":
                rows = run.x[:steps]
            elif watch.variable == "h":
                rows = run.h[:steps]
            else:
                rows = run.states[run.unit.neuron.state.index(watch.variable), :steps]
        return rows.copy() if watch.neurons is None else rows[:, watch.neurons]

    def tallies(self) -> dict[str, dict[str, Any]]:
        """What was counted since the last reset; the keys are those of `Result.counts`."""
        graph = self.plan.graph
        counts: dict[str, dict[str, Any]] = {
            "spikes": {n: int(c.sum()) for n, c in self.counts.items()},
            "spike_sum": dict(self.sums),
            "updates": {n: self.t * graph.populations[n].size for n in self.running},
            "updates_done": {n: steps * graph.populations[n].size for n, steps in self.done.items()},
            "synops": {},
            "synops_effective": {},
            "ring_writes": {},
            "ring_reads": {},
        }
        for name, more in self.dense_spikes.items():
            counts["spikes"][name] += more
        for lane in self.plan.lanes:
            p, spikes = lane.projection, self.counts[lane.projection.source]
            dense = self.dense_spikes.get(p.source, 0)
            counts["synops"][p.name] = int(spikes @ lane.stored) + dense
            counts["synops_effective"][p.name] = int(spikes @ lane.effective) + dense
            sparse = lane.layout == "rows"
            counts["ring_writes"][p.name] = int(spikes @ (lane.effective if sparse else lane.stored))
            counts["ring_reads"][p.name] = 0 if dense else self.done[p.target] * lane.size
        return counts
