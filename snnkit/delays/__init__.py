"""Learned synaptic delays: what they mean, the layers that have them, and fast kernels."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kernel import VERSIONS, DelayKernel, window_weights
    from .layers import (
        AxonalDelay,
        DelayedConv1d,
        DelayedConv2d,
        DelayedLinear,
        DendriticDelay,
        RecurrentDelayedLinear,
    )  # fmt: skip
    from .ops import channel_delay, delayed_product
    from .schedule import sigma_at
    from .synapses import Synapses

_HOME = {
    "AxonalDelay": "layers",
    "DelayKernel": "kernel",
    "DelayedConv1d": "layers",
    "DelayedConv2d": "layers",
    "DelayedLinear": "layers",
    "DendriticDelay": "layers",
    "RecurrentDelayedLinear": "layers",
    "Synapses": "synapses",
    "VERSIONS": "kernel",
    "channel_delay": "ops",
    "delayed_product": "ops",
    "sigma_at": "schedule",
    "window_weights": "kernel",
}

__all__ = [
    "VERSIONS", "AxonalDelay", "DelayKernel", "DelayedConv1d", "DelayedConv2d", "DelayedLinear",
    "DendriticDelay", "RecurrentDelayedLinear", "Synapses", "channel_delay", "delayed_product", "sigma_at",
    "window_weights",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
