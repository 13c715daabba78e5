"""The loops of the engine on the CPU.

A ring holds the input that is still to come through one projection: row ``t % rows`` is the input of
step t, and a spike of step t adds to the rows of its synapses' delays. Every projection has a ring of
its own, and each slot receives its terms in the order (step, neuron): so sums do not depend on where
a run is cut or how many threads share it. Threads own columns of the ring, never the same one.

Delivery is Numba over plain arrays; the neurons' update is written out from their own `step`
(`update_source`) and compiled once per neuron, kept on disk by `jit.build`.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import numba
import numpy as np

from .. import jit
from ..neurons import kernels_cpu as _neuron_kernels  # sets how far LLVM checks arrays for overlap
from ..neurons.equations import step_source
from ..neurons.neuron import Neuron

assert _neuron_kernels

_njit: Any = functools.partial(numba.njit, nogil=True, cache=True, error_model="numpy")


# Layout: synapses of a projection in rows by source, each row cut into partitions of the targets.


def _pack_rows(synapses, one_delay, size, bounds, packing, keep_zeros):  # type: ignore[no-untyped-def]
    """Order each source's synapses by (partition, delay), stably; a synapse becomes ring offset and weight.

    synapses = (indptr [I + 1], indices [S], weight [S], delay [S] or, with `one_delay`, [1]) are read and
    packing = (ptr [I, P + 1], offsets [S], weight [S] or [0]) is written: offsets[k] = delay · size + target;
    ptr[i, q]:ptr[i, q + 1] are the synapses of source i onto the targets bounds[q]:bounds[q + 1]. Synapses of
    weight 0 are left out unless `keep_zeros`.
    """
    indptr, indices, weight, delay = synapses
    ptr, offsets, packed = packing
    parts = len(bounds) - 1
    longest = np.int64(0)
    for k in range(len(delay)):
        longest = max(longest, np.int64(delay[k]))
    owner = np.empty(size, np.int32)
    for q in range(parts):
        owner[bounds[q] : bounds[q + 1]] = q
    bins = np.zeros(parts * (longest + 1) + 1, np.int64)
    filled = np.int64(0)
    for i in range(len(indptr) - 1):
        bins[:] = 0
        for k in range(indptr[i], indptr[i + 1]):
            if keep_zeros or weight[k] != 0:
                d = np.int64(delay[0] if one_delay else delay[k])
                bins[owner[indices[k]] * (longest + 1) + d + 1] += 1
        for q in range(parts * (longest + 1)):
            bins[q + 1] += bins[q]
        for q in range(parts + 1):
            ptr[i, q] = filled + bins[q * (longest + 1)]
        filled = ptr[i, parts]
        start = ptr[i, 0]
        for k in range(indptr[i], indptr[i + 1]):
            if keep_zeros or weight[k] != 0:
                d = np.int64(delay[0] if one_delay else delay[k])
                q = owner[indices[k]] * (longest + 1) + d
                at = start + bins[q]
                bins[q] += 1
                offsets[at] = d * size + indices[k]
                if len(packed):
                    packed[at] = weight[k]
    return filled


pack_rows = _njit(_pack_rows)


# Delivery. times, neurons [E]: the spikes, sorted by time; values [E], or [0] where each is 1;
# ring [rows · size]: what is still to come for `size` targets.


def _deliver_rows(times, neurons, values, ptr, offsets, weight, per_source, ring, size, q0, q1):  # type: ignore[no-untyped-def]
    """Rows of packed synapses, partitions q0:q1. `per_source`: one weight for all of a source's synapses.

    ptr int64 [I, P + 1], offsets uint32 [S], weight [S], or [I] with `per_source`: see `pack_rows`
    """
    rows = len(ring) // size
    whole = np.uint64(rows * size)
    for e in range(len(times)):
        i = neurons[e]
        base = np.uint64((times[e] % rows) * size)
        k = np.uint64(ptr[i, q0])
        end = np.uint64(ptr[i, q1])
        to_end = whole - base
        back = base - whole  # wraps around, as does the sum below
        if per_source:
            w = weight[i]
            if len(values):
                w = w * values[e]
            while k < end and np.uint64(offsets[k]) < to_end:
                ring[base + np.uint64(offsets[k])] += w
                k += np.uint64(1)
            # with several partitions the delays start anew in each
            while k < end:
                to = np.uint64(offsets[k])
                ring[base + to if to < to_end else back + to] += w
                k += np.uint64(1)
        elif len(values):
            w = values[e]
            while k < end:
                to = np.uint64(offsets[k])
                ring[base + to if to < to_end else back + to] += weight[k] * w
                k += np.uint64(1)
        else:
            while k < end and np.uint64(offsets[k]) < to_end:
                ring[base + np.uint64(offsets[k])] += weight[k]
                k += np.uint64(1)
            while k < end:
                to = np.uint64(offsets[k])
                ring[base + to if to < to_end else back + to] += weight[k]
                k += np.uint64(1)


deliver_rows = _njit(_deliver_rows)


def _deliver_dense(times, neurons, values, weight, delay, ring, size, n0, n1):  # type: ignore[no-untyped-def]
    """weight [I, O], all of one delay: a row of weights is added to a row of the ring."""
    rows = len(ring) // size
    for e in range(len(times)):
        base = (times[e] + delay) % rows * size
        row = weight[neurons[e]]
        target = ring[base : base + size]
        if len(values):
            w = values[e]
            for n in range(n0, n1):
                target[n] += row[n] * w
        else:
            for n in range(n0, n1):
                target[n] += row[n]


deliver_dense = _njit(_deliver_dense)


def _deliver_one_to_one(times, neurons, values, weight, delay, ring, size, n0, n1):  # type: ignore[no-untyped-def]
    """weight, delay [N]: neuron n to neuron n."""
    rows = len(ring) // size
    for e in range(len(times)):
        n = neurons[e]
        if n0 <= n < n1:
            w = weight[n]
            if len(values):
                w = w * values[e]
            ring[(times[e] + delay[n]) % rows * size + n] += w


deliver_one_to_one = _njit(_deliver_one_to_one)


def _deliver_conv(times, neurons, values, weight, delay, shape, ring, size, n0, n1):  # type: ignore[no-untyped-def]
    """weight, delay [C_out, C_in/groups, kH, kW]; shape: see `conv_shape`."""
    rows = len(ring) // size
    h_in, w_in, h_out, w_out, groups, sy, sx, py, px, dy, dx = shape
    c_out, c_in, k_y, k_x = weight.shape
    per_group = c_out // groups
    plane = h_out * w_out
    for e in range(len(times)):
        n = neurons[e]
        channel = n // (h_in * w_in)
        y = n // w_in % h_in
        x = n % w_in
        first = channel // c_in * per_group
        c = channel % c_in
        for a in range(k_y):
            i = y + py - a * dy
            if i < 0 or i % sy != 0 or i // sy >= h_out:
                continue
            for b in range(k_x):
                j = x + px - b * dx
                if j < 0 or j % sx != 0 or j // sx >= w_out:
                    continue
                place = i // sy * w_out + j // sx
                for o in range(first, first + per_group):
                    to = o * plane + place
                    if n0 <= to < n1:
                        w = weight[o, c, a, b]
                        if len(values):
                            w = w * values[e]
                        ring[(times[e] + delay[o, c, a, b]) % rows * size + to] += w


deliver_conv = _njit(_deliver_conv)


def _shift_into(scratch, first, count, shift, ring, rows, size, start):  # type: ignore[no-untyped-def]
    """Add the sums of one step, in `scratch` [count, N], shifted right by `shift`, to the ring.

    Its rows are delays, those below `first` empty. Each (step, delay) group is shifted on its own, rounding
    down; `scratch` is empty afterwards.
    """
    for d in range(first, count):
        to = (start + d) % rows * size
        at = (start + d) % count * size
        for n in range(size):
            total = scratch[at + n]
            if total != 0:
                ring[to + n] += total >> shift if shift >= 0 else total << -shift
                scratch[at + n] = 0


shift_into = _njit(_shift_into)


def _tally(neurons, counts):  # type: ignore[no-untyped-def]
    """Spikes of each neuron, neurons [E], added to `counts` [N]."""
    for e in range(len(neurons)):
        counts[neurons[e]] += 1


tally = _njit(_tally)


# The same by several threads, each on its own columns bounds[q]:bounds[q + 1].

_parallel: Any = functools.partial(numba.njit, nogil=True, cache=True, error_model="numpy", parallel=True)


def _deliver_rows_parts(times, neurons, values, ptr, offsets, weight, per_source, ring, size, bounds):  # type: ignore[no-untyped-def]
    """As `deliver_rows`, a thread for each partition; bounds int64 [P + 1]."""
    for q in numba.prange(len(bounds) - 1):
        deliver_rows(times, neurons, values, ptr, offsets, weight, per_source, ring, size, q, q + 1)


def _deliver_dense_parts(times, neurons, values, weight, delay, ring, size, bounds):  # type: ignore[no-untyped-def]
    """As `deliver_dense`, a thread for each partition; bounds int64 [P + 1]."""
    for q in numba.prange(len(bounds) - 1):
        deliver_dense(times, neurons, values, weight, delay, ring, size, bounds[q], bounds[q + 1])


def _deliver_one_to_one_parts(times, neurons, values, weight, delay, ring, size, bounds):  # type: ignore[no-untyped-def]
    """As `deliver_one_to_one`, a thread for each partition; bounds int64 [P + 1]."""
    for q in numba.prange(len(bounds) - 1):
        deliver_one_to_one(times, neurons, values, weight, delay, ring, size, bounds[q], bounds[q + 1])


def _deliver_conv_parts(times, neurons, values, weight, delay, shape, ring, size, bounds):  # type: ignore[no-untyped-def]
    """As `deliver_conv`, a thread for each partition; bounds int64 [P + 1]."""
    for q in numba.prange(len(bounds) - 1):
        deliver_conv(times, neurons, values, weight, delay, shape, ring, size, bounds[q], bounds[q + 1])


DELIVER = {
    "rows": (deliver_rows, _parallel(_deliver_rows_parts)),
    "dense": (deliver_dense, _parallel(_deliver_dense_parts)),
    "one_to_one": (deliver_one_to_one, _parallel(_deliver_one_to_one_parts)),
    "conv": (deliver_conv, _parallel(_deliver_conv_parts)),
}
"""Layout of a lane → what delivers spikes through it: by one thread, and by one a partition."""


def _merge(found, steps, count, merged):  # type: ignore[no-untyped-def]
    """The partitions' spikes in the order (step, neuron); returns how many.

    found = (times, neurons, values), each [parts, …], is copied to merged = (times, neurons, values), each
    [E]; values are [parts, 0] and [0] where each is 1
    """
    times, neurons, values = found
    out_times, out_neurons, out_values = merged
    filled = 0
    for k in range(count):
        for q in range(len(steps)):
            for e in range(steps[q, k], steps[q, k + 1]):
                out_times[filled] = times[q, e]
                out_neurons[filled] = neurons[q, e]
                if len(out_values):
                    out_values[filled] = values[q, e]
                filled += 1
    return filled


merge = _njit(_merge)


# The neurons' update, written out from their step.

WIDTH = 1024
"""Neurons that go through all steps of a chunk together: their states stay in the first-level cache."""

_UPDATE = """
import numba
import numpy as np
{imports}

real = np.{real}
{step}

@numba.njit(error_model="numpy")
def row_uniform(x, fires, h, bias, {states}{params}):
    for n in range(x.shape[0]):
        x_n = x[n] + bias
        s, h_n, {news} = _step({olds}, x_n, {params})
        x[n] = x_n
        fires[n] = s
        h[n] = h_n
{stores}


@numba.njit(error_model="numpy")
def row_each(x, fires, h, bias, {states}{params}):
    for n in range(x.shape[0]):
        x_n = x[n] + bias[n]
        s, h_n, {news} = _step({olds}, x_n, {param_n})
        x[n] = x_n
        fires[n] = s
        h[n] = h_n
{stores}


@numba.njit(error_model="numpy")
def arrive(x, ring, first):
    for n in range(x.shape[0]):
        x[n] = ring[n] if first else x[n] + ring[n]
        ring[n] = 0


@numba.njit(error_model="numpy")
def drive(x, weight, counts, first):
    for n in range(x.shape[0]):
        x[n] = weight[n] * counts[n] if first else x[n] + weight[n] * counts[n]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def update(rings, starts, rows, driven, weight, drives, start, steps, n0, n1, each, {states}{params}bias,
           counts, raw_times, raw_neurons, raw_values, out_times, out_neurons, out_values, out_steps, x_out,
           h_out, state_out, check_quiet, quiet):
    population = len(counts)
    width = min(n1 - n0, {width})
    x = np.zeros(width, bias.dtype)
    fires = np.zeros(width, bias.dtype)
    h = np.zeros(width, bias.dtype)
    found = 0
    moved = np.int32(0)
    for lo in range(n0, n1, {width}):
        hi = min(lo + {width}, n1)
        size = hi - lo
        for k in range(steps):
            if len(starts) == 0:
                x[:] = 0
            for j in range(len(starts)):
                if j == driven:
                    drive(x[:size], weight[lo:hi], drives[k, lo:hi], j == 0)
                else:
                    at = starts[j] + (start + k) % rows[j] * population
                    arrive(x[:size], rings[at + lo : at + hi], j == 0)
            checks = check_quiet and k == steps - 1
            if checks:
{copies}
            if each:
                row_each(x[:size], fires[:size], h[:size], bias[lo:hi], {state_cuts}{param_cuts})
            else:
                row_uniform(x[:size], fires[:size], h[:size], bias[0], {state_cuts}{param_firsts})
            if x_out.shape[0]:
                x_out[k, lo:hi] = x[:size]
            if h_out.shape[0]:
                h_out[k, lo:hi] = h[:size]
            if state_out.shape[1]:
{record}
            if {spiking}:
                for block in range(0, size, 64):
                    end = min(block + 64, size)
                    some = np.int32(0)
                    for n in range(block, end):
                        some |= np.int32(fires[n] != 0)
                    if some:
                        for n in range(block, end):
                            if fires[n] != 0:
                                raw_times[found] = start + k
                                raw_neurons[found] = lo + n
                                if {counting}:
                                    raw_values[found] = fires[n]
                                counts[lo + n] += 1
                                moved = np.int32(1)
                                found += 1
            if checks:
                for n in range(size):
{compares}
    quiet[0] = check_quiet and moved == 0
    # from (block, step) to (step, neuron)
    out_steps[: steps + 1] = 0
    for e in range(found):
        out_steps[raw_times[e] - start + 1] += 1
    for k in range(steps):
        out_steps[k + 1] += out_steps[k]
    for e in range(found):
        k = raw_times[e] - start
        out_times[out_steps[k]] = raw_times[e]
        out_neurons[out_steps[k]] = raw_neurons[e]
        if {counting}:
            out_values[out_steps[k]] = raw_values[e]
        out_steps[k] += 1
    for k in range(steps, 0, -1):
        out_steps[k] = out_steps[k - 1]
    out_steps[0] = 0
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy", parallel=True)
def update_parts(rings, starts, rows, driven, weight, drives, start, steps, bounds, each, {states}{params}
                 bias, counts, raw_times, raw_neurons, raw_values, out_times, out_neurons, out_values,
                 out_steps, x_out, h_out, state_out, check_quiet, quiet):
    for q in numba.prange(len(bounds) - 1):
        update(rings, starts, rows, driven, weight, drives, start, steps, bounds[q], bounds[q + 1], each,
               {states}{params}bias, counts, raw_times[q], raw_neurons[q], raw_values[q], out_times[q],
               out_neurons[q], out_values[q], out_steps[q], x_out, h_out, state_out, check_quiet, quiet[q])
"""


def update_source(neuron: Neuron, real: str) -> str:
    """Source of a module whose `update` advances a population of these neurons.

    rings, starts, rows  the rings of all projections into the population, one after the other: lane j
                         begins at starts[j] and has rows[j] rows; what is read is emptied
    driven, weight, drives  lane `driven` (−1: none) has no ring but dense counts, drives [steps, N]
    """
    imports, step = step_source(step=neuron.step)
    states, params = neuron.state, neuron.params
    old = "np.int64(v_{}[n])" if neuron.integer else "v_{}[n]"

    def lines(indent: int, text: list[str]) -> str:
        return "\n".join(" " * indent + line for line in text or ["pass"])

    def each(pattern: str, names: tuple[str, ...]) -> str:
        return "".join(pattern.format(n) + ", " for n in names)

    return _UPDATE.format(
        imports=imports,
        real=real,
        step=step,
        states=each("v_{}", states),
        params=each("p_{}", params),
        news=each("r_{}", states),
        olds=", ".join(old.format(v) for v in states),
        param_n=each("p_{}[n]", params),
        stores=lines(8, [f"v_{v}[n] = r_{v}" for v in states]),
        copies=lines(16, [f"before_{v} = v_{v}[lo:hi].copy()" for v in states]),
        compares=lines(20, [f"moved |= np.int32(before_{v}[n] != v_{v}[lo + n])" for v in states]),
        state_cuts=each("v_{}[lo:hi]", states),
        param_cuts=each("p_{}[lo:hi]", params),
        param_firsts=each("p_{}[0]", params),
        record=lines(16, [f"state_out[{j}, k, lo:hi] = v_{v}[lo:hi]" for j, v in enumerate(states)]),
        spiking=neuron.spiking,
        counting=neuron.counts,
        width=WIDTH,
    )


@functools.lru_cache(maxsize=256)
def update_kernel(neuron: Neuron, real: str) -> Any:
    """The module with `update` and `update_parts` of this neuron; compiled once, then loaded from disk."""
    name = re.sub(r"\W", "_", neuron.name)
    return jit.build(f"update_{name}", update_source(neuron, real))
