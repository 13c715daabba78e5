"""What reaches a neuron, as a sum of linear maps of other neurons' spikes and a bias.

    u[t] = Σ_branches after · synapses(before · s_source[t]) + bias

A `Branch` is one summand: spikes of a population, moved, dropped and scaled (`before`), sent through at
most one layer of synapses, moved and scaled again (`after`). `Value.projections` folds it into the
projections of a Graph. All numbers are float64, neurons are numbered along their flattened shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch.nn import functional as F

from ..engine.synapses import synapses as listed
from ..errors import GraphError
from ..graph import Graph, Population, Projection, conv_geometry

Shape = tuple[int, ...]
LARGEST = 1 << 28
"""Synapses that a convolution may be written out to."""


@dataclass(frozen=True)
class Branch:
    """Spikes of one population on their way through linear maps.

    source, start  the population and its shape
    read           shape of what the synapses read
    row, gain      int64, float64 [start]: neuron i of the source is added, times gain, to place row[i] of
                   `read`; −1: nowhere. None: every neuron in its own place, as it is
    tiles          (height, width) where row and gain are nothing but a sum over whole tiles, times one factor
    axons          int64 [start] or None: steps that each spike is held back before the synapses
    synapses       projections, one a tap, of which only weight, delay, kind and options count; empty: none
    made           shape of what the synapses give
    put            int64 [shape] or None: place j holds what the synapses give in place put[j]; −1: nothing
    scale          float64 [shape] or None: factors behind the synapses
    dendrites      int64 [shape] or None: steps that are added behind the synapses
    shape          shape of the whole
    """

    source: str
    start: Shape
    read: Shape
    shape: Shape
    row: np.ndarray | None = None
    gain: np.ndarray | None = None
    tiles: tuple[int, int] | None = None
    axons: np.ndarray | None = None
    synapses: tuple[Projection, ...] = ()
    made: Shape = ()
    put: np.ndarray | None = None
    scale: np.ndarray | None = None
    dendrites: np.ndarray | None = None

    def reshaped(self, shape: Shape) -> Branch:
        """The same numbers in the same order under another shape."""
        return replace(self, shape=shape) if self.synapses else replace(self, read=shape, shape=shape)

    def spread(
        self, where: object, row: np.ndarray, gain: np.ndarray | None, shape: Shape, tiles: Any = None
    ) -> Branch:
        """Place j moved to row[j] (−1: dropped), times gain[j]; before synapses several may meet."""
        if not self.synapses:
            old = np.arange(math.prod(self.start)) if self.row is None else self.row
            there = old >= 0
            new = np.where(there, row[old], -1)
            factor = None
            if gain is not None or self.gain is not None:
                factor = np.ones(len(old)) if self.gain is None else self.gain.copy()
                if gain is not None:
                    factor[there] *= gain[old[there]]
            axons = self.axons
            return replace(
                self, row=new, gain=factor, read=shape, shape=shape, axons=axons,
                tiles=tiles if self.row is None and self.gain is None else None,
            )  # fmt: skip
        taken = np.full(math.prod(shape), -1)
        kept = np.flatnonzero(row >= 0)
        taken[row[kept]] = kept
        if len(kept) != int((taken >= 0).sum()):
            if tiles is None:
                raise GraphError(f"{where} adds up what synapses give; put a neuron between.")
            return self._pooled(where, tiles, shape)

        def moved(values: np.ndarray | None, absent: float) -> np.ndarray | None:
            return None if values is None else np.where(taken >= 0, values[taken], absent)

        put = taken if self.put is None else np.where(taken >= 0, self.put[taken], -1)
        scale = self.scale
        if gain is not None:
            scale = gain if scale is None else scale * gain
        dendrites = moved(self.dendrites, 0)
        return replace(
            self, shape=shape, put=put, scale=moved(scale, 1.0),
            dendrites=None if dendrites is None else dendrites.astype(np.int64),
        )  # fmt: skip

    def scaled(self, factor: np.ndarray) -> Branch:
        """Times factor [shape]."""
        if self.synapses:
            return replace(self, scale=factor if self.scale is None else self.scale * factor)
        row = np.arange(math.prod(self.start)) if self.row is None else self.row
        mine = np.where(row >= 0, factor[row], 0.0)
        gain = mine if self.gain is None else self.gain * mine
        return replace(self, row=row, gain=gain, tiles=self.tiles if (gain == gain[0]).all() else None)

    def late(self, where: object, delays: np.ndarray, behind: bool) -> Branch:
        """Held back by `delays` [shape] steps, before the synapses or `behind` them."""
        if behind:
            if not self.synapses:
                raise GraphError(f"{where} follows no synapses; it delays what they give.")
            old = 0 if self.dendrites is None else self.dendrites
            return replace(self, dendrites=old + delays)
        if self.synapses:
            raise GraphError(f"{where} delays what synapses read: put it right before them.")
        row = np.arange(math.prod(self.start)) if self.row is None else self.row
        mine = np.where(row >= 0, delays[row], 0)
        return replace(self, axons=mine if self.axons is None else self.axons + mine)

    def through(
        self, where: object, made: Sequence[Projection], shape: Shape, compose: bool = False
    ) -> Branch:
        """Sent through synapses that give `shape`; with `compose` also behind others, as one of both."""
        if not self.synapses:
            return replace(self, synapses=tuple(made), made=shape, shape=shape)
        if not compose:
            raise GraphError(f"{where} follows other synapses with no neuron between; add a neuron.")
        if math.prod(shape) * math.prod(self.start) > LARGEST:
            raise GraphError(
                f"{where}: {math.prod(shape)} × {math.prod(self.start)} weights of a chain of linear layers "
                "are too many; put a neuron between, or pool before the convolution by whole tiles."
            )
        (first,), (second,) = self.projections(str(where), ""), made
        if first.delays.any() or second.delays.any():
            raise GraphError(f"{where} follows other synapses, and one of both has delays; add a neuron.")
        product = _matrix(second, self.shape, shape) @ _matrix(first, self.start, self.shape)
        both = (
            Projection("", "", "", product.toarray())
            if second.kind == "dense"
            else _sparse(product.shape[1], *_entries(product), np.zeros(product.nnz, np.int64))
        )
        return Branch(self.source, self.start, self.start, shape, synapses=(both,), made=shape)

    def _pooled(self, where: object, tiles: tuple[int, int], shape: Shape) -> Branch:
        """Average pooling behind a convolution: a convolution with a larger kernel and stride."""
        plain = [
            p for p in self.synapses
            if p.kind == "conv" and conv_geometry(p)[2] == (1, 1) and not p.delays.any()
        ]  # fmt: skip
        if len(plain) != 1 or len(self.synapses) != 1 or self.put is not None or self.dendrites is not None:
            raise GraphError(f"{where} pools what synapses give; put a neuron between.")
        p = plain[0]
        stride, padding, _ = conv_geometry(p)
        weight = p.weight
        if self.scale is not None:
            channel = self.scale.reshape(self.made)[:, :1, :1]
            if (self.scale.reshape(self.made) != channel).any():
                raise GraphError(f"{where} pools what synapses give; put a neuron between.")
            weight = weight * channel[..., None]
        height, width = weight.shape[2:]
        wide = np.zeros(
            (*weight.shape[:2], height + (tiles[0] - 1) * stride[0], width + (tiles[1] - 1) * stride[1])
        )
        for y in range(tiles[0]):
            for x in range(tiles[1]):
                at = y * stride[0], x * stride[1]
                wide[:, :, at[0] : at[0] + height, at[1] : at[1] + width] += weight / math.prod(tiles)
        options = {
            **p.options,
            "stride": [s * t for s, t in zip(stride, tiles, strict=True)],
            "padding": list(padding),
        }
        pooled = replace(p, weight=wide, delay=np.zeros((), np.int32), options=options)
        return replace(self, synapses=(pooled,), made=shape, shape=shape, scale=None)

    def projections(self, name: str, target: str, shape: Shape | None = None) -> list[Projection]:
        """This branch as projections into `target`, called `name` (.0, .1, … behind it for several taps).

        shape  the target's, None: any. Where a convolution gives another, every synapse is written out
        """
        elsewhere = shape is not None and self.places not in (None, shape)
        if not self.synapses:
            made = [self._every_neuron() if elsewhere else self._direct()]
        elif self.synapses[0].kind == "sparse":
            made = [self._every_synapse(name, p) for p in self.synapses]
        elif all(p.kind == "dense" for p in self.synapses):
            made = [self._dense(p) for p in self.synapses]
        else:
            write = self._every_synapse if elsewhere else self._convolution
            made = [write(name, p) for p in self.synapses]
        return [
            replace(p, name=name if len(made) == 1 else f"{name}.{k}", source=self.source, target=target)
            for k, p in enumerate(made)
        ]

    @property
    def _share(self) -> float:
        """The one factor of a sum over tiles; 1 over their size where it is an average."""
        return 1.0 if self.gain is None else float(self.gain[0])

    def _delayed(self, delay: np.ndarray, pre: np.ndarray, post: np.ndarray) -> np.ndarray:
        """Delays of synapses from source neurons `pre` to target neurons `post`, int32."""
        if self.axons is not None:
            delay = delay + self.axons[pre]
        if self.dendrites is not None:
            delay = delay + self.dendrites[post]
        return np.asarray(delay, np.int32)

    def _direct(self) -> Projection:
        size = math.prod(self.start)
        if self.row is None or (size == math.prod(self.read) and (self.row == np.arange(size)).all()):
            weight = np.ones(size) if self.gain is None else self.gain
            delay = np.zeros((), np.int32) if self.axons is None else self.axons.astype(np.int32)
            return Projection("", "", "", weight, delay, "one_to_one")
        if self.tiles is not None and self.axons is None:
            weight = np.full((self.start[0], 1, *self.tiles), self._share)
            options = {
                "stride": list(self.tiles), "padding": [0, 0], "dilation": [1, 1], "groups": self.start[0]
            }  # fmt: skip
            return Projection("", "", "", weight, kind="conv", options=options)
        return self._every_neuron()

    def _every_neuron(self) -> Projection:
        """Without synapses: one for each neuron that goes somewhere."""
        assert self.row is not None
        size = math.prod(self.start)
        pre = np.flatnonzero(self.row >= 0)
        gain = np.ones(size) if self.gain is None else self.gain
        axons = np.zeros(size, np.int64) if self.axons is None else self.axons
        return _sparse(size, pre, self.row[pre], gain[pre], axons[pre])

    def _dense(self, p: Projection) -> Projection:
        weight, delay = p.weight.astype(np.float64), p.delays.astype(np.int64)
        n_in = math.prod(self.start)
        if self.row is not None:
            there = self.row >= 0
            weight = np.where(there, weight[:, self.row], 0.0)
            delay = np.where(there, delay[:, self.row], 0)
        if self.gain is not None:
            weight = weight * self.gain
        if self.put is not None:
            there = (self.put >= 0)[:, None]
            weight, delay = np.where(there, weight[self.put], 0.0), np.where(there, delay[self.put], 0)
        if self.scale is not None:
            weight = weight * self.scale[:, None]
        delay = self._delayed(delay, np.arange(n_in)[None, :], np.arange(len(weight))[:, None])
        return Projection("", "", "", weight, delay if delay.any() else np.zeros((), np.int32))

    def _convolution(self, name: str, p: Projection) -> Projection:
        """A convolution where what is before and behind it goes into its weights, else every synapse."""
        folded = None if self.axons is not None or self.dendrites is not None else self._folded(p)
        if folded is None:
            return self._every_synapse(name, p)
        weight, delay, options = folded
        delay = np.asarray(delay, np.int32) if delay.any() else np.zeros((), np.int32)
        return Projection("", "", "", weight, delay, "conv", options=options)

    def _folded(self, p: Projection) -> tuple[np.ndarray, np.ndarray, dict[str, Any]] | None:
        """Weights, delays and options of the convolution that does all of this branch, if there is one."""
        weight, delay, options = p.weight.astype(np.float64), p.delays, dict(p.options)
        start, whole = _over_space(self.start), int(options.get("groups", 1)) == 1
        if self.tiles is not None:
            stride, padding, dilation = conv_geometry(p)
            pooled = (start[0], start[1] // self.tiles[0], start[2] // self.tiles[1])
            if dilation != (1, 1) or self.read != pooled:
                return None
            weight, delay = (a.repeat(self.tiles[0], 2).repeat(self.tiles[1], 3) for a in (weight, delay))
            weight = weight * self._share
            options |= {
                "stride": [s * t for s, t in zip(stride, self.tiles, strict=True)],
                "padding": [a * t for a, t in zip(padding, self.tiles, strict=True)],
            }
        elif self.row is None:
            if start != self.read:
                return None
        else:
            channels = self._channels()
            if channels is None or not whole:
                return None
            read, factor = channels
            there = (read >= 0)[None, :, None, None]
            weight = np.where(there, weight[:, read], 0.0) * factor[None, :, None, None]
            delay = np.where(there, delay[:, read], 0)
        if self.put is not None:
            taken = _whole_channels(self.put, self.made, self.shape)
            if taken is None or not whole:
                return None
            there = (taken >= 0)[:, None, None, None]
            weight, delay = np.where(there, weight[taken], 0.0), np.where(there, delay[taken], 0)
        if self.scale is not None:
            over_space = self.scale.reshape(len(weight), -1)
            if (over_space != over_space[:, :1]).any():
                return None
            weight = weight * over_space[:, 0].reshape(-1, 1, 1, 1)
        return weight, delay, options

    @property
    def places(self) -> Shape | None:
        """The (C, H, W) that a target needs so that a convolution can stay one; None: any shape."""
        if not self.synapses and self.tiles is not None and self.axons is None:
            return (self.start[0], self.start[1] // self.tiles[0], self.start[2] // self.tiles[1])
        if not self.synapses or self.synapses[0].kind != "conv":
            return None
        return self.made if self.put is None else _over_space(self.shape)

    def _channels(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Channel of the source → channel that the synapses read, and its factor; None if it is not so."""
        assert self.row is not None
        start, read = _over_space(self.start), _over_space(self.read)
        if len(start) != 3 or len(read) != 3 or start[1:] != read[1:]:
            return None
        pixels = math.prod(start[1:])
        row = self.row.reshape(self.start[0], pixels)
        gain = np.ones(row.shape) if self.gain is None else self.gain.reshape(row.shape)
        first = np.where(row[:, :1] >= 0, row[:, :1] + np.arange(pixels), -1)
        if (row != first).any() or (row[:, 0] % pixels * (row[:, 0] >= 0)).any():
            return None
        if (gain != gain[:, :1]).any():
            return None
        return np.where(row[:, 0] >= 0, row[:, 0] // pixels, -1), gain[:, 0]

    def _every_synapse(self, name: str, p: Projection) -> Projection:
        n_in = math.prod(self.start)
        count = p.weight.size * (math.prod(self.made[1:]) if p.kind == "conv" else 1)
        if count > LARGEST:
            raise GraphError(
                f"projection {name!r}: {count} synapses of a convolution between other linear maps are too "
                "many to write out; put a neuron between."
            )
        ends = {"a": Population("a", "input", self.read), "b": Population("b", "li", self.made)}
        every = listed(Graph(ends, []), replace(p, name=name, source="a", target="b"))
        pre, post, weight, delay = every.source, every.target, every.weight.astype(np.float64), every.delay
        if self.row is not None:  # read place ← source neurons
            order = np.argsort(self.row, kind="stable")
            first = np.searchsorted(self.row[order], np.arange(math.prod(self.read) + 1))
            counts = np.diff(first)[pre]
            run = np.repeat(first[:-1][pre] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            pre, post, weight, delay = order[run], *(np.repeat(a, counts) for a in (post, weight, delay))
        if self.gain is not None:
            weight = weight * self.gain[pre]
        if self.put is not None:  # place the synapses give → places of the result
            order = np.argsort(self.put, kind="stable")
            first = np.searchsorted(self.put[order], np.arange(math.prod(self.made) + 1))
            counts = np.diff(first)[post]
            run = np.repeat(first[:-1][post] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            post, pre, weight, delay = order[run], *(np.repeat(a, counts) for a in (pre, weight, delay))
        if self.scale is not None:
            weight = weight * self.scale[post]
        return _sparse(n_in, pre, post, weight, self._delayed(delay, pre, post))


def _over_space(shape: Shape) -> Shape:
    """(C, L) as (C, 1, L), which a convolution reads."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def _whole_channels(put: np.ndarray, made: Shape, shape: Shape) -> np.ndarray | None:
    """Channel of the result → channel that the synapses give (−1: none); None if it is not so."""
    shape = _over_space(shape)
    if len(made) != 3 or len(shape) != 3 or made[1:] != shape[1:]:
        return None
    pixels = math.prod(shape[1:])
    rows = put.reshape(shape[0], pixels)
    first = np.where(rows[:, :1] >= 0, rows[:, :1] + np.arange(pixels), -1)
    if (rows != first).any() or (rows[:, 0] % pixels * (rows[:, 0] >= 0)).any():
        return None
    return np.where(rows[:, 0] >= 0, rows[:, 0] // pixels, -1)


def _sparse(
    n_in: int, pre: np.ndarray, post: np.ndarray, weight: np.ndarray, delay: np.ndarray
) -> Projection:
    order = np.lexsort((post, pre))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(pre, minlength=n_in))]).astype(np.int64)
    delay = np.asarray(delay, np.int32)[order]
    return Projection(
        "", "", "", weight[order], delay if delay.any() else np.zeros((), np.int32), "sparse",
        indptr=indptr, indices=post[order].astype(np.int32),
    )  # fmt: skip


def _matrix(p: Projection, start: Shape, shape: Shape) -> csr_matrix:
    """A projection without delays as a matrix [neurons of `shape`, neurons of `start`]."""
    if p.kind == "dense":
        return csr_matrix(p.weight.astype(np.float64))
    ends = {"a": Population("a", "input", _over_space(start)), "b": Population("b", "li", shape)}
    every = listed(Graph(ends, []), replace(p, name="p", source="a", target="b"))
    size = (math.prod(shape), math.prod(start))
    return csr_matrix((every.weight.astype(np.float64), (every.target, every.source)), size)


def _entries(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, row and value of each entry."""
    found = matrix.tocoo()
    return found.col, found.row, found.data


class Memory:
    """Where the numbers of a tensor and of its views lie.

    writes  what wrote over them, in words, first to last
    """

    def __init__(self) -> None:
        self.writes: list[str] = []


@dataclass(frozen=True)
class Value:
    """A sum of branches and a bias, of one step's shape; without branches a constant.

    lead    sizes of the axes in front of `shape`: (steps, batch), or their product where a module folds them
    bias    float64 [shape flattened], or a 0-d zero
    memory  shared with what may be a view of the same tensor
    seen    writes to `memory` that the value knows of
    """

    shape: Shape
    branches: tuple[Branch, ...]
    lead: Shape
    bias: np.ndarray = field(default_factory=lambda: np.zeros(()))
    memory: Memory = field(default_factory=Memory, compare=False)
    seen: int = 0

    @property
    def written_by(self) -> str | None:
        """What wrote over the tensor, under another name, after this value was made; None: nothing."""
        return self.memory.writes[-1] if len(self.memory.writes) > self.seen else None

    def written(self, where: object, result: Value) -> Value:
        """`result`, written over this value's tensor; every other value there no longer holds."""
        self.memory.writes.append(str(where))
        return replace(result, memory=self.memory, seen=len(self.memory.writes))

    def copied(self) -> Value:
        """The same numbers in a tensor of their own."""
        return replace(self, memory=Memory(), seen=0)

    @property
    def size(self) -> int:
        """Neurons of one step."""
        return math.prod(self.shape)

    @property
    def spread_bias(self) -> np.ndarray:
        """The bias of every neuron, flat."""
        return np.broadcast_to(self.bias, (self.size,))

    def reshaped(self, shape: Shape, lead: Shape | None = None) -> Value:
        """The same numbers in the same order under another shape."""
        branches = tuple(b.reshaped(shape) for b in self.branches)
        return replace(self, shape=shape, branches=branches, lead=self.lead if lead is None else lead)

    def moved(
        self, where: object, row: np.ndarray, shape: Shape, gain: np.ndarray | None = None, tiles: Any = None
    ) -> Value:
        """Place j added to place row[j], times gain[j]; −1: dropped. Without gain it may be a view."""
        bias = self.bias
        if bias.any():
            kept = row >= 0
            old = self.spread_bias * (1.0 if gain is None else gain)
            bias = np.zeros(math.prod(shape))
            np.add.at(bias, row[kept], old[kept])
        branches = tuple(b.spread(where, row, gain, shape, tiles) for b in self.branches)
        made = replace(self, shape=shape, branches=branches, bias=bias)
        return made if gain is None else made.copied()

    def scaled(self, factor: np.ndarray) -> Value:
        """Times a factor that broadcasts to `shape`."""
        flat = np.broadcast_to(np.asarray(factor, np.float64), self.shape).reshape(-1)
        bias = self.spread_bias * flat if self.bias.any() else self.bias
        return Value(self.shape, tuple(b.scaled(flat) for b in self.branches), self.lead, bias)

    def shifted(self, offset: np.ndarray) -> Value:
        """Plus a constant that broadcasts to `shape`."""
        flat = np.broadcast_to(np.asarray(offset, np.float64), self.shape).reshape(-1)
        return replace(self.copied(), bias=self.spread_bias + flat) if flat.any() else self.copied()

    def plus(self, where: object, other: Value) -> Value:
        """The sum of two values of one shape."""
        if (self.shape, self.lead) != (other.shape, other.lead):
            raise GraphError(f"{where} adds shapes {list(self.shape)} and {list(other.shape)}.")
        total = Value(self.shape, self.branches + other.branches, self.lead, self.bias)
        return total.shifted(other.spread_bias.reshape(other.shape))

    def late(self, where: object, delays: np.ndarray, behind: bool) -> Value:
        """Held back by a number of steps for each neuron."""
        branches = tuple(b.late(where, delays, behind) for b in self.branches)
        if self.bias.any() and delays.any():
            raise GraphError(
                f"{where} delays a bias, which a Graph adds from the first step; put a neuron between."
            )
        return replace(self.copied(), branches=branches)

    def through(
        self, where: object, made: Sequence[Projection], shape: Shape, compose: bool = False
    ) -> Value:
        """Sent through synapses that give `shape`; see `Branch.through`."""
        bias = np.zeros(())
        if self.bias.any():
            if any(p.delays.any() for p in made):
                raise GraphError(
                    f"{where} delays a bias, which a Graph adds from the first step; put a neuron between."
                )
            bias = np.sum([_applied(p, self.spread_bias, self.shape) for p in made], 0)
        branches = tuple(b.through(where, made, shape, compose) for b in self.branches)
        return Value(shape, branches, self.lead, bias)

    def projections(self, target: str, shape: Shape) -> list[Projection]:
        """All branches as projections into `target` of this shape; names tell source, target, branch, tap."""
        done: list[Projection] = []
        for k, branch in enumerate(self.branches):
            done += branch.projections(f"{branch.source}→{target}" + (f".{k}" if k else ""), target, shape)
        return done


def _applied(p: Projection, x: np.ndarray, shape: Shape) -> np.ndarray:
    """What a projection without delays gives for the constant x."""
    if p.kind == "dense":
        return np.asarray(p.weight, np.float64) @ x
    stride, padding, dilation = conv_geometry(p)
    y = F.conv2d(
        torch.from_numpy(np.array(x.reshape(1, *shape))), torch.from_numpy(p.weight.astype(np.float64)),
        None, stride, padding, dilation, int(p.options.get("groups", 1)),
    )  # fmt: skip
    return y.numpy().reshape(-1)
