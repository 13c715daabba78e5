"""What a projection's synapses are, one by one, whatever its kind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..graph import Graph, Projection, conv_geometry


class Synapses(NamedTuple):
    """A projection written out: synapse k goes from `source[k]` to `target[k]`.

    source, target  int64 [S], flat neuron indices
    weight          [S], in the projection's own dtype; zeros are listed too
    delay           int64 [S], steps
    """

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    delay: np.ndarray


def synapses(graph: Graph, projection: Projection) -> Synapses:
    """Every synapse of `projection`, sorted by source neuron.

    A convolution is written out too, so a large one takes much memory; `fan_out` counts without.
    """
    source, target = graph.populations[projection.source], graph.populations[projection.target]
    p = projection
    if p.kind == "dense":
        i, o = np.divmod(np.arange(source.size * target.size), target.size)
        listed = Synapses(i, o, p.weight[o, i], p.delays[o, i].astype(np.int64))
    elif p.kind == "one_to_one":
        n = np.arange(source.size)
        listed = Synapses(n, n, p.weight, p.delays.astype(np.int64))
    elif p.kind == "sparse":
        assert p.indptr is not None
        assert p.indices is not None
        i = np.repeat(np.arange(source.size), np.diff(p.indptr))
        listed = Synapses(i, p.indices.astype(np.int64), p.weight, p.delays.astype(np.int64))
    else:
        listed = _convolution(p, source.shape, target.shape)
    return listed


def _convolution(p: Projection, source: tuple[int, ...], target: tuple[int, ...]) -> Synapses:
    """y[o, i, j] = Σ w[o, c, a, b] · x[c, i·stride − padding + a·dilation, …] (cross-correlation)."""
    (sy, sx), (py, px), (dy, dx) = conv_geometry(p)
    groups = int(p.options.get("groups", 1))
    c_out, c_in, k_y, k_x = p.weight.shape
    taps, pre, post = [], [], []
    i, j = np.meshgrid(np.arange(target[1]), np.arange(target[2]), indexing="ij")
    for a in range(k_y):
        for b in range(k_x):
            y, x = i * sy - py + a * dy, j * sx - px + b * dx
            inside = (y >= 0) & (y < source[1]) & (x >= 0) & (x < source[2])
            pre.append(y[inside] * source[2] + x[inside])
            post.append(i[inside] * target[2] + j[inside])
            taps.append(np.full(len(pre[-1]), a * k_x + b))
    tap = np.concatenate(taps)
    # the same pixels for every pair of channels [C_out, C_in]
    out, into = np.arange(c_out)[:, None], np.arange(c_in)
    channel = out // (c_out // groups) * c_in + into
    pixels = source[1] * source[2], target[1] * target[2]
    columns = [
        channel[..., None] * pixels[0] + np.concatenate(pre),
        np.broadcast_to((out * pixels[1])[..., None] + np.concatenate(post), (c_out, c_in, len(tap))),
        p.weight.reshape(c_out, c_in, -1)[..., tap],
        p.delays.reshape(c_out, c_in, -1)[..., tap].astype(np.int64),
    ]
    columns = [column.reshape(-1) for column in columns]
    order = np.argsort(columns[0], kind="stable")
    return Synapses(*(column[order] for column in columns))


def fan_out(graph: Graph, projection: Projection) -> tuple[np.ndarray, np.ndarray]:
    """(stored, effective): synapses that leave each source neuron, and those of weight ≠ 0; int64 [I]."""
    p = projection
    size = graph.populations[p.source].size
    if p.kind == "dense":
        stored = np.full(size, p.weight.shape[0], np.int64)
        return stored, np.count_nonzero(p.weight, axis=0).astype(np.int64)
    if p.kind == "one_to_one":
        return np.ones(size, np.int64), (p.weight != 0).astype(np.int64)
    if p.kind == "sparse":
        assert p.indptr is not None
        indptr = p.indptr.astype(np.int64)
        stored = np.diff(indptr)
        effective, some = np.zeros(size, np.int64), stored > 0
        if some.any():  # reduceat adds up to the next start, so sources without synapses are left out
            effective[some] = np.add.reduceat(p.weight != 0, indptr[:-1][some], dtype=np.int64)
        return stored, effective
    source, target = graph.populations[p.source].shape, graph.populations[p.target].shape
    (sy, sx), (py, px), (dy, dx) = conv_geometry(p)
    c_out, c_in, k_y, k_x = p.weight.shape
    groups = int(p.options.get("groups", 1))

    def reach(n_in: int, n_out: int, k: int, stride: int, pad: int, dilation: int) -> np.ndarray:
        """[n_in, k]: does tap a of position n lead to an output?"""
        start = np.arange(n_in)[:, None] + pad - np.arange(k) * dilation
        return (start % stride == 0) & (start // stride >= 0) & (start // stride < n_out)

    y = reach(source[1], target[1], k_y, sy, py, dy).astype(np.int64)
    x = reach(source[2], target[2], k_x, sx, px, dx).astype(np.int64)
    counts = []
    for taps in (np.ones(p.weight.shape, bool), p.weight != 0):
        # [groups, C_out/groups, c_in, k_y, k_x] → per input channel
        leaving = taps.reshape(groups, c_out // groups, c_in, k_y, k_x).sum(1).reshape(-1, k_y, k_x)
        counts.append(np.einsum("ckl,hk,wl->chw", leaving.astype(np.int64), y, x).reshape(-1))
    return counts[0], counts[1]
