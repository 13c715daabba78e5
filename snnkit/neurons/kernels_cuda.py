"""Numba CUDA loops of any neuron over time. Computes what `reference.run` computes.

One thread takes one neuron of one sample through all steps, its state in registers; neighbouring
threads read neighbouring inputs. Works under Numba's CUDA simulator as well.
"""

import functools
import os
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Any

import torch

from .. import jit
from .kernels_cpu import above, columns, definitions, file_name, lines
from .neuron import Neuron
from .surrogate import Surrogate

THREADS = 128
"""Threads in a block."""

_HEAD = "import numpy as np\nfrom numba import cuda\n"
_JIT = "@cuda.jit(device=True)"


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


def forward_source(neuron: Neuron, dtype: str, keep_h: bool, taped: tuple[str, ...]) -> str:
    """Source of ``forward(x, s, h, *taped, *state, *params)``: x [T, M], state [M] in place, params [N].

    Column m has the parameters m mod N.
    """
    p = [f"p_{n}" for n in neuron.params]
    v = list(neuron.state)
    tapes = [f"tape_{n}" for n in taped]
    values = [*(f"{n}_" for n in v), "x[t, m]", *(f"{n}_" for n in p)]
    body = [f"tape_{n}[t, m] = {n}_" for n in taped]
    body.append(f"s_, h_, {', '.join(f'{n}_' for n in v)} = _step({', '.join(values)})")
    body += ["s[t, m] = s_"] if neuron.spiking else []
    body += ["h[t, m] = h_"] if keep_h else []
    return "\n".join(
        [
            _HEAD,
            definitions(dtype, _JIT, step=neuron.step),
            f"""
@cuda.jit
def forward(x, s, h, {columns(*tapes, *v, *p)}):
    m = cuda.grid(1)
    if m < x.shape[1]:
        n = {f"m % {p[0]}.shape[0]" if p else "0"}
{lines(8, [f"{n}_ = {n}[m]" for n in v])}
{lines(8, [f"{n}_ = {n}[n]" for n in p])}
        for t in range(x.shape[0]):
{lines(12, body)}
{lines(8, [f"{n}[m] = {n}_" for n in v])}
""",
        ]
    )


def backward_source(
    neuron: Neuron, surrogate: Surrogate, dtype: str, grads: str, learn: tuple[str, ...],
    taped: tuple[str, ...],
) -> str:  # fmt: skip
    """Source of ``backward(gs, gh, h, *taped, x, *state, *gstate, gx, *glearn, *params, alpha, through)``.

    Arrays as in `forward_source`, gstate and glearn [M] are updated in place; `grads` as in
    `kernels_cpu.backward_source`.
    """
    p = [f"p_{n}" for n in neuron.params]
    tapes = [f"tape_{n}" for n in taped]
    gstate = [f"g_{n}" for n in neuron.state]
    glearn = [f"gp_{n}" for n in learn]
    rewound = scratch(neuron, learn)

    def value(n: str) -> str:
        return f"tape_{n}[t, m]" if n in taped else f"old_{n}" if n in rewound else "real(0)"

    arguments = [
        *(f"g{c}[t, m]" if c in grads else "real(0)" for c in "sh"),
        *(f"{n}_" for n in gstate),
        "h_",
        f"_surrogate({above(neuron, 'h_', 'p_v_th_')}, alpha)" if neuron.spiking else "real(0)",
        "through",
        *(value(n) for n in neuron.state),
        "x[t, m]" if learn else "real(0)",
        *(f"{n}_" for n in p),
    ]
    results = [*(f"{n}_" for n in gstate), "gx_", *(f"d_{n}" for n in neuron.params)]
    body = ["h_ = h[t, m]"]
    for n in rewound:
        kept = [*(f"tape_{k}[t - 1, m]" for k in neuron.taped or ()), *(f"{q}_" for q in p)]
        body += [
            f"old_{n} = {n}[m]",
            "if t > 0:",
            f"    old_{n} = _rewind(h[t - 1, m], {', '.join(kept)})",
        ]
    body += [
        f"{', '.join(results)} = _adjoint({', '.join(arguments)})",
        "gx[t, m] = gx_",
        *(f"gp_{n}_ += d_{n}" for n in learn),
    ]
    carried = [*gstate, *glearn]
    return "\n".join(
        [
            _HEAD,
            definitions(
                dtype,
                _JIT,
                adjoint=neuron.adjoint,
                rewind=neuron.rewind,
                surrogate=surrogate.ds_dh,
                distance=neuron.distance,
            ),
            f"""
@cuda.jit
def backward(gs, gh, h, {columns(*tapes)}x, {columns(*neuron.state, *gstate)}gx, {columns(*glearn, *p)}
             alpha, through):
    m = cuda.grid(1)
    if m < h.shape[1]:
        n = {f"m % {p[0]}.shape[0]" if p else "0"}
{lines(8, [f"{n}_ = {n}[m]" for n in carried])}
{lines(8, [f"{n}_ = {n}[n]" for n in p])}
        for t in range(h.shape[0] - 1, -1, -1):
{lines(12, body)}
{lines(8, [f"{n}[m] = {n}_" for n in carried])}
""",
        ]
    )


@functools.lru_cache(maxsize=256)
def forward(neuron: Neuron, dtype: str, keep_h: bool, taped: tuple[str, ...]) -> ModuleType:
    """Module with the kernel ``forward`` of this neuron."""
    return jit.build(f"{file_name(neuron)}_cuda", forward_source(neuron, dtype, keep_h, taped))


@functools.lru_cache(maxsize=256)
def backward(
    neuron: Neuron, surrogate: Surrogate, dtype: str, grads: str, learn: tuple[str, ...],
    taped: tuple[str, ...],
) -> ModuleType:  # fmt: skip
    """Module with the kernel ``backward`` of this neuron."""
    source = backward_source(neuron, surrogate, dtype, grads, learn, taped)
    return jit.build(f"{file_name(neuron)}_cuda", source)


def launch(kernel: Any, size: int, arguments: Sequence[Any]) -> None:
    """Run `kernel` on `size` threads, on torch's current stream; tensors are passed without a copy."""
    from numba import cuda

    blocks = -(-size // THREADS)
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        kernel[blocks, THREADS](*(a.numpy() if isinstance(a, torch.Tensor) else a for a in arguments))
        return
    stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
    view: Any = cuda.as_cuda_array
    views = (view(a, sync=False) if isinstance(a, torch.Tensor) else a for a in arguments)
    kernel[blocks, THREADS, stream](*views)
