"""Numba loops of any neuron over time, for the CPU. Computes what `scan.reference` computes.

Time outside, neurons inside: a block of columns stays in cache while time runs, its row of one step
is the vector that LLVM turns into SIMD code. Threads take blocks (`spread`): Numba's own `prange`
takes two to three times as long to compile.
"""

import functools
import itertools
import json
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import llvmlite.binding

from .. import jit
from .equations import kernel_source
from .neuron import Neuron, resolve
from .surrogate import SURROGATES

WIDTH = 4096
"""Columns in a block: its states and parameters stay in the second-level cache while time runs."""

# A row has up to a dozen arrays that could overlap for all LLVM knows; by default it gives up on
# vectorising after eight comparisons.
llvmlite.binding.set_option("snnkit", "-runtime-memory-check-threshold=400")


def tape(neuron: Neuron, learn: bool) -> tuple[str, ...]:
    """State variables whose value before each step is stored for the backward pass."""
    if neuron.taped is None:
        return neuron.state
    if not learn:
        return neuron.taped
    return tuple(n for n in neuron.state if n in neuron.taped or n not in neuron.rewound)


def scratch(neuron: Neuron, learn: Collection[str]) -> list[str]:
    """State variables that the backward pass works out again from the stored h."""
    return [n for n in neuron.rewound if learn and n not in (neuron.taped or ())]


def columns(*names: str) -> str:
    """Comma-separated names, each followed by a comma, for argument lists in templates."""
    return "".join(f"{name}, " for name in names)


def definitions(neuron: Neuron, surrogate: str, dtype: str, jit_line: str) -> list[str]:
    """Source lines that define `real`, `step`, `adjoint`, `rewind` and `surrogate`."""
    parts = [f"real = np.{dtype}\n"]
    functions = {"step": neuron.step, "adjoint": neuron.adjoint, "rewind": neuron.rewind}
    functions["surrogate"] = SURROGATES[surrogate].ds_dh
    for name, function in functions.items():
        if function is not None:
            parts.append(f"{jit_line}\n{kernel_source(function, name)}")
    return parts


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


def lines(indent: int, text: list[str]) -> str:
    """Lines of source, indented."""
    return "\n".join(" " * indent + line for line in text)


def forward_source(neuron: Neuron, surrogate: str, dtype: str, keep_h: bool, taped: tuple[str, ...]) -> str:
    """Source of ``forward(x, s, h, *taped, *state, *params, width, per_neuron, first, last)``.

    The state is updated in place. Items `first` to `last` are the blocks that this call does, of
    rows · ⌈columns / width⌉.
    """
    p = [f"p_{n}" for n in neuron.params]
    v = list(neuron.state)
    tapes = [f"tape_{n}" for n in taped]
    rows = ["x", *(["s"] if neuron.spiking else []), *(["h"] if keep_h else []), *tapes]
    values = [f"{n}[j]" for n in (*v, "x", *p)]
    body = [f"tape_{n}[j] = {n}[j]" for n in taped]
    body.append(f"s_, h_, {', '.join(f'{n}_' for n in v)} = step({', '.join(values)})")
    body += ["s[j] = s_"] if neuron.spiking else []
    body += ["h[j] = h_"] if keep_h else []
    body += [f"{n}[j] = {n}_" for n in v]
    cut = "[t, r, lo:hi]"
    return "\n".join(
        [
            "from math import exp\n\nimport numpy as np\nfrom numba import njit\n",
            *definitions(neuron, surrogate, dtype, '@njit(error_model="numpy")'),
            f"""
@njit(error_model="numpy")
def row({columns(*rows, *v, *p)}):
    for j in range(x.shape[0]):
{lines(8, body)}


@njit(cache=True, nogil=True, error_model="numpy")
def forward(x, s, h, {columns(*tapes, *v, *p)}width, per_neuron, first, last):
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
                {columns(*(f"{n}[r, lo:hi]" for n in v))}
                {columns(*(f"{n}[a:b]" for n in p))}
            )
""",
        ]
    )


def backward_source(
    neuron: Neuron, surrogate: str, dtype: str, grads: str, learn: tuple[str, ...], taped: tuple[str, ...]
) -> str:
    """Source of ``backward(gs, gh, h, *taped, x, *state, *old, *gstate, gx, *glearn, *params, alpha,
    through, width, per_neuron, first, last)``; `state` is the one before the first step,
    `old` room for the variables that `scratch` names, gstate and glearn are updated in place.

    grads  which cotangents of the output there are: "s", "h" or "sh"
    """
    p = [f"p_{n}" for n in neuron.params]
    tapes = [f"tape_{n}" for n in taped]
    gstate = [f"g_{n}" for n in neuron.state]
    glearn = [f"gp_{n}" for n in learn]
    rewound = scratch(neuron, learn)
    outputs = [f"g{c}" for c in grads]
    inputs = ["x"] if learn else []
    rows = [*outputs, "h", *tapes, *inputs, "gx"]
    before = [f"old_{n}" for n in rewound]

    def value(n: str) -> str:
        return f"tape_{n}[j]" if n in taped else f"old_{n}[j]" if n in rewound else "real(0)"

    ds_dh = "surrogate(h[j] - p_v_th[j], alpha)" if neuron.spiking else "real(0)"
    arguments = [
        *(f"g{c}[j]" if c in grads else "real(0)" for c in "sh"),
        *(f"{n}[j]" for n in gstate),
        "h[j]",
        ds_dh,
        "through",
        *(value(n) for n in neuron.state),
        "x[j]" if learn else "real(0)",
        *(f"{n}[j]" for n in p),
    ]
    results = [*(f"{n}_" for n in gstate), "gx_", *(f"gp_{n}_" for n in neuron.params)]
    body = [
        f"{', '.join(results)} = adjoint({', '.join(arguments)})",
        "gx[j] = gx_",
        *(f"{n}[j] = {n}_" for n in gstate),
        *(f"{n}[j] += {n}_" for n in glearn),
    ]
    cut = "[t, r, lo:hi]"
    rewinding = ""
    if rewound:
        (name,) = rewound
        kept = [f"tape_{n}" for n in neuron.taped or ()]
        rewinding = f"""
            if t == 0:
                for j in range(hi - lo):
                    old_{name}[r, lo + j] = {name}[r, lo + j]
            else:
                rewind_row(old_{name}[r, lo:hi], h[t - 1, r, lo:hi],
                           {columns(*(f"{n}[t - 1, r, lo:hi]" for n in kept))}
                           {columns(*(f"{n}[a:b]" for n in p))})"""
        row = f"""
@njit(error_model="numpy")
def rewind_row(old, h, {columns(*kept, *p)}):
    for j in range(h.shape[0]):
        old[j] = rewind(h[j], {columns(*(f"{n}[j]" for n in (*kept, *p)))})
"""
    return "\n".join(
        [
            "from math import exp\n\nimport numpy as np\nfrom numba import njit\n",
            *definitions(neuron, surrogate, dtype, '@njit(error_model="numpy")'),
            row if rewound else "",
            f"""
@njit(error_model="numpy")
def row({columns(*rows, *gstate, *before, *glearn, *p)}alpha, through):
    for j in range(h.shape[0]):
{lines(8, body)}


@njit(cache=True, nogil=True, error_model="numpy")
def backward(gs, gh, h, {columns(*tapes)}x, {columns(*neuron.state, *before, *gstate)}gx,
             {columns(*glearn, *p)}
             alpha, through, width, per_neuron, first, last):
    blocks = (h.shape[2] + width - 1) // width
    for item in range(first, last):
        r = item // blocks
        lo = (item % blocks) * width
        hi = min(lo + width, h.shape[2])
        a = lo if per_neuron else 0
        b = a + hi - lo
        for t in range(h.shape[0] - 1, -1, -1):{rewinding}
            row(
                {columns(*(n + cut for n in rows))}
                {columns(*(f"{n}[r, lo:hi]" for n in gstate))}
                {columns(*(f"{n}[r, lo:hi]" for n in (*before, *glearn)))}
                {columns(*(f"{n}[a:b]" for n in p))}
                alpha, through,
            )
""",
        ]
    )


@functools.lru_cache(maxsize=256)
def forward(
    neuron: str, options: str, surrogate: str, dtype: str, keep_h: bool, taped: tuple[str, ...]
) -> ModuleType:
    """Module with the compiled ``forward`` of this neuron; options as JSON."""
    equations = resolve(neuron, json.loads(options))
    return jit.build(f"{neuron}_forward", forward_source(equations, surrogate, dtype, keep_h, taped))


@functools.lru_cache(maxsize=256)
def backward(
    neuron: str, options: str, surrogate: str, dtype: str, grads: str, learn: tuple[str, ...],
    taped: tuple[str, ...],
) -> ModuleType:  # fmt: skip
    """Module with the compiled ``backward`` of this neuron; options as JSON."""
    equations = resolve(neuron, json.loads(options))
    return jit.build(f"{neuron}_backward", backward_source(equations, surrogate, dtype, grads, learn, taped))
