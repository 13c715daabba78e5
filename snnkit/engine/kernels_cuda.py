"""The same loops on CUDA. Computes what `reference.run` computes.

A thread owns a neuron in the update, and its place in the rings in the delivery; for packed rows it
owns a partition of the targets, whose synapses lie side by side in each source's row. Every thread
goes through the spikes in the order (step, neuron), so sums come out as on the CPU, bit for bit, and
nothing is added atomically. Works under Numba's CUDA simulator as well.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any

import numpy as np

from .. import jit
from ..errors import BackendError
from ..neurons.equations import step_source
from ..neurons.neuron import Neuron
from .core import Core, Running
from .plan import Lane, Plan
from .recording import Recording, Spikes

cuda: Any = importlib.import_module("numba.cuda")

THREADS = 128
"""Threads in a block."""

PARTS = 256
"""Partitions of the targets of packed rows: threads that deliver side by side."""


@cuda.jit
def deliver_rows(times, neurons, values, ptr, offsets, weight, per_source, ring, size):  # type: ignore[no-untyped-def]
    """As `kernels_cpu.deliver_rows`, one thread a partition."""
    q = cuda.grid(1)
    if q < ptr.shape[1] - 1:
        whole = np.int64(ring.shape[0])
        rows = ring.shape[0] // size
        for e in range(times.shape[0]):
            i = neurons[e]
            base = times[e] % rows * size
            for k in range(ptr[i, q], ptr[i, q + 1]):
                to = base + np.int64(offsets[k])
                if to >= whole:
                    to -= whole
                w = weight[i] if per_source else weight[k]
                if values.shape[0]:
                    ring[to] += w * values[e]
                else:
                    ring[to] += w


@cuda.jit
def deliver_dense(times, neurons, values, weight, delay, ring, size):  # type: ignore[no-untyped-def]
    """As `kernels_cpu.deliver_dense`, one thread a target."""
    n = cuda.grid(1)
    if n < size:
        rows = ring.shape[0] // size
        for e in range(times.shape[0]):
            at = (times[e] + delay) % rows * size + n
            if values.shape[0]:
                ring[at] += weight[neurons[e], n] * values[e]
            else:
                ring[at] += weight[neurons[e], n]


@cuda.jit
def deliver_one_to_one(times, neurons, values, weight, delay, ring, size):  # type: ignore[no-untyped-def]
    """As `kernels_cpu.deliver_one_to_one`, one thread a target."""
    n = cuda.grid(1)
    if n < size:
        rows = ring.shape[0] // size
        for e in range(times.shape[0]):
            if neurons[e] == n:
                at = (times[e] + delay[n]) % rows * size + n
                if values.shape[0]:
                    ring[at] += weight[n] * values[e]
                else:
                    ring[at] += weight[n]


@cuda.jit
def deliver_conv(times, neurons, values, weight, delay, shape, ring, size):  # type: ignore[no-untyped-def]
    """As `kernels_cpu.deliver_conv`, one thread a target, which finds the weight that a spike meets."""
    n = cuda.grid(1)
    if n < size:
        rows = ring.shape[0] // size
        h_in, w_in, h_out, w_out, groups = shape[0], shape[1], shape[2], shape[3], shape[4]
        o = n // (h_out * w_out)
        i = n // w_out % h_out * shape[5] - shape[7]
        j = n % w_out * shape[6] - shape[8]
        c_in = weight.shape[1]
        first = o // (weight.shape[0] // groups) * c_in
        for e in range(times.shape[0]):
            source = neurons[e]
            c = source // (h_in * w_in) - first
            a = source // w_in % h_in - i
            b = source % w_in - j
            if c < 0 or c >= c_in or a < 0 or b < 0 or a % shape[9] != 0 or b % shape[10] != 0:
                continue
            a = a // shape[9]
            b = b // shape[10]
            if a < weight.shape[2] and b < weight.shape[3]:
                at = (times[e] + delay[o, c, a, b]) % rows * size + n
                if values.shape[0]:
                    ring[at] += weight[o, c, a, b] * values[e]
                else:
                    ring[at] += weight[o, c, a, b]


@cuda.jit
def shift_into(scratch, first, count, shift, ring, rows, size, start):  # type: ignore[no-untyped-def]
    """As `kernels_cpu.shift_into`, one thread a target."""
    n = cuda.grid(1)
    if n < size:
        for d in range(first, count):
            at = (start + d) % count * size + n
            total = scratch[at]
            if total != 0:
                to = (start + d) % rows * size + n
                if shift >= 0:
                    ring[to] += total >> shift
                else:
                    ring[to] += total << -shift
                scratch[at] = 0


@cuda.jit
def clear(array):  # type: ignore[no-untyped-def]
    """Set a one-dimensional array to 0."""
    n = cuda.grid(1)
    if n < array.shape[0]:
        array[n] = 0


_UPDATE = """
import numpy as np
from numba import cuda
{imports}

real = np.{real}
{step}

@cuda.jit
def update(rings, starts, rows, start, steps, each, {states}{params}bias, fires, x_out, h_out, state_out):
    n = cuda.grid(1)
    size = fires.shape[1]
    if n < size:
        own = n if each else 0
{loads}
        for k in range(steps):
            x = real(0)
            for j in range(starts.shape[0]):
                at = starts[j] + (start + k) % rows[j] * size + n
                x = rings[at] if j == 0 else x + rings[at]
                rings[at] = 0
            x = x + bias[own]
            s, h, {news} = _step({olds}, x, {own})
            fires[k, n] = {fires}
{stores}
            if x_out.shape[0]:
                x_out[k, n] = x
            if h_out.shape[0]:
                h_out[k, n] = h
            if state_out.shape[1]:
{record}
{saves}
"""


def update_source(neuron: Neuron, real: str) -> str:
    """Source of a module whose `update` takes each neuron through the steps of a chunk."""
    imports, step = step_source("@cuda.jit(device=True)", step=neuron.step)
    states, params = neuron.state, neuron.params
    kept = "np.int64(np.int32({}))" if neuron.integer else "real({})"

    def lines(indent: int, text: list[str]) -> str:
        return "\n".join(" " * indent + line for line in text or ["pass"])

    def each(pattern: str, names: tuple[str, ...]) -> str:
        return "".join(pattern.format(n) + ", " for n in names)

    return _UPDATE.format(
        imports=imports,
        real=real,
        step=step,
        states=each("state_{}", states),
        params=each("p_{}", params),
        news=each("r_{}", states),
        olds=", ".join(f"v_{v}" for v in states),
        loads=lines(8, [f"v_{v} = real(state_{v}[n])" for v in states]),
        stores=lines(12, [f"v_{v} = {kept.format(f'r_{v}')}" for v in states]),
        record=lines(16, [f"state_out[{j}, k, n] = v_{v}" for j, v in enumerate(states)]),
        saves=lines(8, [f"state_{v}[n] = v_{v}" for v in states]),
        own=each("p_{}[own]", params),
        fires="s" if neuron.counts else "np.uint8(s != 0)",
    )


@functools.lru_cache(maxsize=256)
def update_kernel(neuron: Neuron, real: str) -> Any:
    """The CUDA `update` of this neuron."""
    name = re.sub(r"\W", "_", neuron.name)
    return jit.build(f"update_cuda_{name}", update_source(neuron, real)).update


def check_device() -> None:
    """Raise `BackendError` unless there is a CUDA device, or its simulator."""
    if not cuda.is_available():
        raise BackendError(
            "simulate: backend 'cuda' cannot run: no CUDA device was found; NUMBA_ENABLE_CUDASIM=1 "
            "simulates one."
        )


def _blocks(count: int) -> tuple[int, int]:
    threads = min(THREADS, count)
    return -(-count // threads), threads


class CudaCore(Core):
    """A `Core` whose states, rings and synapses lie on the device; spikes come back after each chunk."""

    def __init__(self, plan: Plan, recording: Recording) -> None:
        super().__init__(plan, recording)
        check_device()
        self.counted = {}
        self.dense_spikes = {}
        self.device: dict[str, Any] = {}
        for name, run in self.running.items():
            unit, size = run.unit, run.unit.population.size
            self.device[name] = {
                "kernel": update_kernel(unit.neuron, plan.types.wide.name),
                "rings": cuda.to_device(self.inputs[name].array),
                "starts": cuda.to_device(self.inputs[name].starts),
                "rows": cuda.to_device(self.inputs[name].rows),
                "state": [cuda.to_device(v) for v in run.state],
                "params": [cuda.to_device(p) for p in unit.params],
                "bias": cuda.to_device(unit.bias),
                "fires": cuda.to_device(
                    np.zeros((plan.span, size), plan.types.wide if unit.neuron.counts else np.uint8)
                ),
                "out": [cuda.to_device(a) for a in (run.x, run.h, run.states)],
            }
        self.synapses = [
            [cuda.to_device(a) if isinstance(a, np.ndarray) else a for a in lane.arrays]
            for lane in plan.lanes
        ]
        self.device_scratch = {k: cuda.to_device(a) for k, a in self.scratch.items()}

    def reset(self) -> None:
        super().reset()
        for name, run in self.running.items():
            on = self.device[name]
            for state, start in zip(on["state"], run.unit.initial, strict=True):
                state.copy_to_device(start)
            if on["rings"].size:
                clear[_blocks(on["rings"].size)](on["rings"])
        for scratch in self.device_scratch.values():
            clear[_blocks(scratch.size)](scratch)

    def _update(self, run: Running, start: int, stop: int) -> Spikes:
        name, steps = run.unit.population.name, stop - start
        self.done[name] += steps
        on = self.device[name]
        on["kernel"][_blocks(run.unit.population.size)](
            on["rings"], on["starts"], on["rows"], start, steps, run.unit.stride, *on["state"], *on["params"],
            on["bias"], on["fires"], *on["out"],
        )  # fmt: skip
        for host, device in zip((run.x, run.h, run.states), on["out"], strict=True):
            if host.size:
                device.copy_to_host(host)
        if not run.unit.neuron.spiking:
            return self.none
        fires = on["fires"].copy_to_host()[:steps]
        times, neurons = np.nonzero(fires)
        np.add.at(self.counts[name], neurons, 1)
        values = fires[times, neurons] if run.unit.neuron.counts else self.empty
        spikes = Spikes(times + start, neurons.astype(np.int32), values)
        self.sums[name] += spikes.total()
        return spikes

    def _deliver(self, lane: Lane, spikes: Spikes) -> None:
        target = lane.projection.target
        lanes = self.lanes_into[target]
        at = int(self.inputs[target].starts[lanes.index(lane)])
        ring = self.device[target]["rings"][at : at + lane.rows * lane.size]
        times, neurons, values = (np.ascontiguousarray(a) for a in spikes)
        if lane.shift is None:
            self._launch(lane, Spikes(times, neurons, values), ring)
            return
        scratch, rows = self.device_scratch[lane.index], lane.longest + 1
        first = int(lane.projection.delay.min(initial=lane.longest))
        for t in np.unique(times):
            a, b = np.searchsorted(times, (t, t + 1))
            self._launch(lane, Spikes(times[a:b], neurons[a:b], values[a:b]), scratch)
            shift_into[_blocks(lane.size)](
                scratch, first, rows, lane.shift, ring, lane.rows, lane.size, int(t)
            )

    def _launch(self, lane: Lane, spikes: Spikes, ring: Any) -> None:
        on_device = [cuda.to_device(np.array(a)) for a in spikes]
        if lane.layout == "rows":
            grid = _blocks(self.plan.parts)
            deliver_rows[grid](*on_device, *self.synapses[lane.index], lane.per_source, ring, lane.size)
            return
        kernel = {"dense": deliver_dense, "one_to_one": deliver_one_to_one, "conv": deliver_conv}[lane.layout]
        kernel[_blocks(lane.size)](*on_device, *self.synapses[lane.index], ring, lane.size)
