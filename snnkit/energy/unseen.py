"""Multiply-accumulates of every call that torch makes, whether a module made it or plain functions did.

    MACs of a matrix product [m, k] · [k, n]     m · k · n
    of a convolution                             as torch.utils.flop_counter, padding counted like any input
    of attention                                 q · kᵀ and softmax · v, masked or not
    of recurrent layers                          every weight matrix once a step and sample

What multiplies element by element (decays, batch norm, gates, masks) is no MAC here. Loads torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


class MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls ``counted(operation, macs)`` for each operation of `RULES` that runs while it is entered."""

    def __init__(self, counted: Callable[[str, int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted = counted

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count its MACs; one that is made of others is taken apart."""
        given = kwargs or {}
        packet = getattr(func, "_overloadpacket", None)
        if packet not in RULES and isinstance(func, torch._ops.OpOverload):
            with self:  # in inference mode composite operations come here whole
                result = func.decompose(*args, **given)
            if result is not NotImplemented:
                return result
        result = func(*args, **given)
        if packet in RULES:
            self.counted(str(packet).removeprefix("aten."), RULES[packet](result, *args, **given))
        return result


def _by_flops(formula: Callable[..., int]) -> Callable[..., int]:
    """A FLOP is half a MAC there."""
    return lambda result, *args, **kwargs: formula(*args, **kwargs, out_val=result) // 2


def _matrix_vector(_: Any, *args: Any, **__: Any) -> int:
    """Of mv(matrix, vector) and addmv(bias, matrix, vector)."""
    return int(args[-2].numel())


def _vectors(_: Any, a: Any, *__: Any, **___: Any) -> int:
    return int(a.numel())


def _batches_summed(_: Any, bias: Any, a: Any, b: Any, **__: Any) -> int:
    return int(a.numel() * b.shape[2])


def _attention(_: Any, q: Any, k: Any, v: Any, *__: Any, **___: Any) -> int:
    """q ``[…, L, E]``, k ``[…, S, E]``, v ``[…, S, Ev]``."""
    return int(math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1]))


def _bilinear(_: Any, a: Any, b: Any, c: Any, *expand: Any, **__: Any) -> int:
    """One for each product a·b·c that is summed."""
    shapes = []
    for x, axes in zip((a, b, c), expand[:3], strict=True):
        for axis in axes:
            x = x.unsqueeze(axis)
        shapes.append(x.shape)
    return math.prod(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


def _places(x: Any) -> int:
    return int(x.numel() // x.shape[-1])


def _onednn_recurrent(_: Any, x: Any, w_ih: Any, w_hh: Any, *__: Any, **___: Any) -> int:
    return int(_places(x) * (w_ih.numel() + w_hh.numel()))


def _recurrent(_: Any, x: Any, weights: Any, *__: Any, **___: Any) -> int:
    return int(_places(x) * sum(w.numel() for w in weights if w.dim() == 2))


def _own_attention(_: Any, q: Any, k: Any, v: Any, width: int, heads: int, *weights: Any, **__: Any) -> int:
    """Projections of q, k and v ``[B, L, E]``, attention, and the projection of its result."""
    return int(_attention(None, q, k, v) + width * width * (2 * _places(q) + _places(k) + _places(v)))


def _encoder(_: Any, x: Any, width: int, heads: int, *rest: Any, **__: Any) -> int:
    """Of a transformer's layer: attention, and four matrices once a token."""
    matrices = (rest[at] for at in (0, 2, 11, 13))  # qkv, projection, the two of the feed-forward part
    return int(_attention(None, x, x, x) + _places(x) * sum(w.numel() for w in matrices))


def _onednn_linear(_: Any, x: Any, weight: Any, *__: Any, **___: Any) -> int:
    return int(_places(x) * weight.numel())


def _convolution(result: Any, x: Any, weight: Any, *__: Any, **___: Any) -> int:
    return int(result.numel() * math.prod(weight.shape[1:]))


# what torch.utils.flop_counter lacks: operations by the names that one torch or another has
OWN: dict[str, Callable[..., int]] = {
    "mv": _matrix_vector,
    "addmv": _matrix_vector,
    "dot": _vectors,
    "vdot": _vectors,
    "addbmm": _batches_summed,
    "_int_mm": _by_flops(flop_registry[aten.mm]),
    "_addmm_activation": _by_flops(flop_registry[aten.addmm]),
    "_trilinear": _bilinear,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "_native_multi_head_attention": _own_attention,
    "_transformer_encoder_layer_fwd": _encoder,
    "mkldnn_rnn_layer": _onednn_recurrent,
    "_cudnn_rnn": _recurrent,
    "miopen_rnn": _recurrent,
    "mkldnn_linear": _onednn_linear,
    "mkldnn_convolution": _convolution,
    "cudnn_convolution_relu": _convolution,
    "cudnn_convolution_add_relu": _convolution,
}

RULES: dict[Any, Callable[..., int]] = {
    **{packet: _by_flops(formula) for packet, formula in flop_registry.items()},
    **{getattr(aten, name): rule for name, rule in OWN.items() if getattr(aten, name, None)},
}
"""Operation → MACs of its result and arguments."""
