"""Numba loops of any neuron over time, for the CPU. Computes what `reference.run` computes.

Time outside, neurons inside: a block of columns stays in cache while time runs, its row of one step
is the vector that LLVM turns into SIMD code. Threads take blocks (`spread`): Numba's own `prange`
takes two to three times as long to compile.
"""

import functools
import itertools
import os
import re
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import llvmlite.binding

from .. import jit
from .equations import step_source
from .neuron import Neuron
from .surrogate import Surrogate

WIDTH = 4096
"""Columns in a block: its states and parameters stay in the second-level cache while time runs."""

NARROW, KEPT = 2048, 1 << 18
"""The same for the backward pass, which has more rows of a block's width, and how many numbers it may work
out again and keep for a block."""

_HEAD = "import numpy as np\nfrom numba import njit\n"
_JIT = '@njit(error_model="numpy")'

# A row has up to a dozen arrays that could overlap for all LLVM knows; by default it gives up on
# vectorising after eight comparisons.
llvmlite.binding.set_option("snnkit", "-runtime-memory-check-threshold=400")


def columns(*names: str) -> str:
    """Comma-separated names, each followed by a comma, for argument lists in templates."""
    return "".join(f"{name}, " for name in names)


def definitions(dtype: str, decorator: str, **functions: Callable[..., object] | None) -> str:
    """Source that defines ``real`` and the functions that there are, ``step=f`` as ``_step``."""
    there = {name: f for name, f in functions.items() if f is not None}
    imports, source = step_source(decorator, **there)
    return f"{imports}\nreal = np.{dtype}\n\n\n{source}"


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def spread(kernel: Callable[[int, int], object], items: int, threads: int) -> None:
    """``kernel(first, last)`` over `items` in equal shares on `threads` threads; it must release the GIL."""
    threads = min(threads, items)
    if threads < 2:
        kernel(0, items)
        return
    key = os.getpid(), threads  # threads do not survive a fork
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads - 1, "snnkit-neurons")
    cuts = [items * k // threads for k in range(threads + 1)]
    others = [_pools[key].submit(kernel, a, b) for a, b in itertools.pairwise(cuts[1:])]
    kernel(0, cuts[1])
    for other in others:
        other.result()


def file_name(neuron: Neuron) -> str:
    """The neuron's name as a part of a module's."""
    return re.sub(r"\W", "_", neuron.name)


def above(neuron: Neuron, h: str, threshold: str) -> str:
    """Source of how far h is above the threshold, which the surrogate sees."""
    return f"{h} - {threshold}" if neuron.distance is None else f"_distance({h}, {threshold})"


def lines(indent: int, text: list[str]) -> str:
    """Lines of source, indented."""
    return "\n".join(" " * indent + line for line in text)


def _constants(neuron: Neuron, scalar: Collection[str]) -> list[str]:
    """The parameters as a loop over columns j reads them."""
    return [f"p_{n}" if n in scalar else f"p_{n}[j]" for n in neuron.params]


def forward_source(
    neuron: Neuron, dtype: str, scalar: Collection[str], keep_h: bool, normed: bool = False,
    masked: bool = False,
) -> str:  # fmt: skip
    """Source of ``forward(x, s, h, d, mask, scale, shift, *state, *params, width, per_neuron, first, last)``.

    The state is updated in place; parameters that `scalar` names are one number. Items `first` to `last`
    are the blocks that this call does, of rows · ⌈columns / width⌉.

    normed  the neuron sees scale · x + shift
    masked  also d = s · mask is written
    """
    p = [f"p_{n}" for n in neuron.params]
    v = list(neuron.state)
    rows = ["x", *(["s"] if neuron.spiking else []), *(["h"] if keep_h else []), *(["d"] if masked else [])]
    lines_of = ["mask"] if masked else []
    affine = ["scale", "shift"] if normed else []
    drive = "scale[j] * x[j] + shift[j]" if normed else "x[j]"
    constants = _constants(neuron, scalar)
    values = [*(f"{n}[j]" for n in v), drive, *constants]
    body = [f"s_, h_, {', '.join(f'{n}_' for n in v)} = _step({', '.join(values)})"]
    body += ["s[j] = s_"] if neuron.spiking else []
    body += ["d[j] = s_ * mask[j]"] if masked else []
    body += ["h[j] = h_"] if keep_h else []
    body += [f"{n}[j] = {n}_" for n in v]
    cut, cuts = "[t, r, lo:hi]", [n.replace("[j]", "[a:b]") for n in constants]
    return "\n".join(
        [
            _HEAD,
            definitions(dtype, _JIT, step=neuron.step),
            f"""
@njit(error_model="numpy")
def row({columns(*rows, *lines_of, *affine, *v, *p)}):
    for j in range(x.shape[0]):
{lines(8, body)}


@njit(cache=True, nogil=True, error_model="numpy")
def forward(x, s, h, d, mask, scale, shift, {columns(*v, *p)}width, per_neuron, first, last):
    blocks = (x.shape[2] + width - 1) // width
    for item in range(first, last):
        r = item // blocks
        lo = (item % blocks) * width
        hi = min(lo + width, x.shape[2])
        a = lo if per_neuron else 0
        b = a + hi - lo
        for t in range(x.shape[0]):
            row(
                {columns(*(n + cut for n in rows))}
                {columns(*(f"{n}[r, lo:hi]" for n in lines_of))}
                {columns(*(f"{n}[a:b]" for n in affine))}
                {columns(*(f"{n}[r, lo:hi]" for n in v))}
                {columns(*cuts)}
            )
""",
        ]
    )


def backward_source(
    neuron: Neuron, surrogate: Surrogate, dtype: str, scalar: Collection[str], grads: str,
    learn: tuple[str, ...], normed: bool = False,
) -> str:  # fmt: skip
    """Source of ``backward(gs, gh, gd, mask, x, scale, shift, mean, rstd, *state, *gstate, gx, *glearn,
    sums, *params, alpha, through, width, per_neuron, first, last)``; `state` is the one before the first
    step, gstate and glearn are updated in place.

    A block of columns is run forward again first, which keeps what the adjoint needs of all its steps in
    cache: the forward pass stores none of it.

    grads   which cotangents of the output there are, of "s", "h" and "d" (of s · mask)
    normed  as in `forward_source`; gx is scale times the cotangent g of what the neuron saw, and
            sums[0] += Σ_t g, sums[1] += Σ_t g · (x − mean) · rstd
    """
    p = [f"p_{n}" for n in neuron.params]
    v = list(neuron.state)
    gstate = [f"g_{n}" for n in v]
    glearn = [f"gp_{n}" for n in learn]
    # what each loop reads of the norm: fewer rows stay in the first-level cache
    affine = ["scale", "shift"] if normed else []
    centred = ["scale", *(["shift"] if learn else []), "mean", "rstd"] if normed else []
    needed = v if learn or neuron.taped is None else list(neuron.taped)
    kept = [*(["h"] if neuron.spiking or learn else []), *(f"old_{n}" for n in needed)]
    outputs = [f"g{c}" for c in grads]
    lines_of = ["mask"] if "d" in grads else []
    drive = "scale[j] * x[j] + shift[j]" if normed else "x[j]"
    constants = _constants(neuron, scalar)
    values = [*(f"{n}[j]" for n in v), drive, *constants]
    again = [f"old_{n}[j] = {n}[j]" for n in needed]
    again.append(f"s_, h_, {', '.join(f'{n}_' for n in v)} = _step({', '.join(values)})")
    again += ["h[j] = h_"] if "h" in kept else []
    again += [f"{n}[j] = {n}_" for n in v]

    gs = " + ".join((["gs[j]"] if "s" in grads else []) + (["gd[j] * mask[j]"] if "d" in grads else []))
    h = "h[j]" if "h" in kept else "real(0)"
    threshold = "p_v_th" if "v_th" in scalar else "p_v_th[j]"
    arguments = [
        gs or "real(0)",
        "gh[j]" if "h" in grads else "real(0)",
        *(f"{n}[j]" for n in gstate),
        h,
        f"_surrogate({above(neuron, h, threshold)}, alpha)" if neuron.spiking else "real(0)",
        "through",
        *(f"old_{n}[j]" if n in needed else "real(0)" for n in v),
        drive if learn else "real(0)",
        *constants,
    ]
    results = [*(f"{n}_" for n in gstate), "gx_", *(f"gp_{n}_" for n in neuron.params)]
    body = [f"{', '.join(results)} = _adjoint({', '.join(arguments)})"]
    if normed:
        body += [
            "gx[j] = scale[j] * gx_",
            "sum_g[j] += gx_",
            "sum_gx[j] += gx_ * ((x[j] - mean[j]) * rstd[j])",
        ]
    else:
        body += ["gx[j] = gx_"]
    body += [*(f"{n}[j] = {n}_" for n in gstate), *(f"{n}[j] += {n}_" for n in glearn)]
    inputs = ["x"] if learn or normed else []
    sums = ["sum_g", "sum_gx"] if normed else []
    cut, steps = "[t, r, lo:hi]", "x.shape[0]" if kept else "0"
    cuts = [n.replace("[j]", "[a:b]") for n in constants]
    return "\n".join(
        [
            _HEAD,
            definitions(
                dtype,
                _JIT,
                step=neuron.step,
                adjoint=neuron.adjoint,
                surrogate=surrogate.ds_dh,
                distance=neuron.distance,
            ),
            f"""
@njit(error_model="numpy")
def again({columns("x", *kept, *affine, *v, *p)}):
    for j in range(x.shape[0]):
{lines(8, again)}


@njit(error_model="numpy")
def row({columns(*outputs, *inputs, "gx", *kept, *lines_of, *gstate, *glearn, *sums, *centred, *p)}
        alpha, through):
    for j in range(gx.shape[0]):
{lines(8, body)}


@njit(cache=True, nogil=True, error_model="numpy")
def backward(gs, gh, gd, mask, x, scale, shift, mean, rstd, {columns(*v, *gstate)}gx,
             {columns(*glearn)}sums, {columns(*p)}
             alpha, through, width, per_neuron, first, last):
    blocks = (gx.shape[2] + width - 1) // width
    kept = np.empty(({len(kept)}, {steps}, width), gx.dtype)
    now = np.empty(({len(v)}, width), gx.dtype)
    for item in range(first, last):
        r = item // blocks
        lo = (item % blocks) * width
        hi = min(lo + width, gx.shape[2])
        a = lo if per_neuron else 0
        b = a + hi - lo
{lines(8, [f"now[{k}, : hi - lo] = {n}[r, lo:hi]" for k, n in enumerate(v)])}
        for t in range({steps}):
            again(
                x[t, r, lo:hi],
                {columns(*(f"kept[{k}, t, : hi - lo]" for k in range(len(kept))))}
                {columns(*(f"{n}[a:b]" for n in affine))}
                {columns(*(f"now[{k}, : hi - lo]" for k in range(len(v))))}
                {columns(*cuts)}
            )
        for t in range(gx.shape[0] - 1, -1, -1):
            row(
                {columns(*(n + cut for n in (*outputs, *inputs, "gx")))}
                {columns(*(f"kept[{k}, t, : hi - lo]" for k in range(len(kept))))}
                {columns(*(f"{n}[r, lo:hi]" for n in (*lines_of, *gstate, *glearn)))}
                {columns(*(f"sums[{k}, r, lo:hi]" for k in range(len(sums))))}
                {columns(*(f"{n}[a:b]" for n in centred), *cuts)}
                alpha, through,
            )
""",
        ]
    )


@functools.lru_cache(maxsize=256)
def forward(
    neuron: Neuron, dtype: str, scalar: tuple[str, ...], keep_h: bool, normed: bool = False,
    masked: bool = False,
) -> ModuleType:  # fmt: skip
    """Module with the compiled ``forward`` of this neuron."""
    source = forward_source(neuron, dtype, scalar, keep_h, normed, masked)
    return jit.build(f"{file_name(neuron)}_forward", source)


@functools.lru_cache(maxsize=256)
def backward(
    neuron: Neuron, surrogate: Surrogate, dtype: str, scalar: tuple[str, ...], grads: str,
    learn: tuple[str, ...], normed: bool = False,
) -> ModuleType:  # fmt: skip
    """Module with the compiled ``backward`` of this neuron."""
    source = backward_source(neuron, surrogate, dtype, scalar, grads, learn, normed)
    return jit.build(f"{file_name(neuron)}_backward", source)
