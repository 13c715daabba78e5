"""Learned synaptic delays: what they mean, the layers that have them, and fast kernels."""

from typing import Any

_HOME = {
    "DelayedLinear": "layers",
    "delayed_product": "ops",
    "window_weights": "kernel",
    "sigma_at": "schedule",
}

__all__ = ["DelayedLinear", "delayed_product", "sigma_at", "window_weights"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
