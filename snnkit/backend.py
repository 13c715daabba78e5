"""Which kernels run.

Three names: ``reference`` (plain torch or NumPy, states what the others compute), ``numba`` (CPU)
and ``cuda`` (Numba CUDA). ``auto`` takes the fastest that the data's device has. The environment
variable ``SNNKIT_BACKEND`` sets the default, `use` sets it for a block.
"""

import ctypes
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import BackendError

BACKENDS = ("reference", "numba", "cuda")

_fuse: ContextVar[bool] = ContextVar("snnkit_fuse", default=True)
_log = logging.getLogger("snnkit.backend")
_chosen: ContextVar[str | None] = ContextVar("snnkit_backend", default=None)
_logged: set[str] = set()


def _one_thread() -> None:
    """Let a forked process go on with Numba's kernels, on the one thread it has.

    Threads of GNU OpenMP do not survive a fork, so Numba ends a child that runs a parallel kernel after its
    parent has (a DataLoader's worker). To the child as a process that has just begun, and with one thread,
    which OpenMP serves without its pool, nothing is lost.
    """
    parallel, pool = (sys.modules.get(f"numba.np.ufunc.{name}") for name in ("parallel", "omppool"))
    if pool is None or not getattr(parallel, "_is_initialized", False):
        return
    ctypes.CFUNCTYPE(None, ctypes.c_int)(pool.launch_threads)(1)
    sys.modules["numba"].set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)


def _checked(name: str, where: str) -> str:
    if name != "auto" and name not in BACKENDS:
        raise BackendError(f"{where}: unknown backend {name!r}; known are auto, {', '.join(BACKENDS)}.")
    return name


def requested() -> str:
    """The backend asked for: by `use`, else by ``SNNKIT_BACKEND``, else ``auto``."""
    chosen = _chosen.get()
    return chosen or _checked(os.environ.get("SNNKIT_BACKEND", "auto"), "SNNKIT_BACKEND")


@contextmanager
def use(name: str) -> Iterator[None]:
    """Run the block with this backend: ``with backend.use("reference"): ...``."""
    token = _chosen.set(_checked(name, "backend.use"))
    try:
        yield
    finally:
        _chosen.reset(token)


@contextmanager
def unfused() -> Iterator[None]:
    """Run the block module by module, also where one kernel would do for several, as in training.

    Hooks on the modules between are called then; gradients differ in their last bits.
    """
    token = _fuse.set(False)
    try:
        yield
    finally:
        _fuse.reset(token)


def fuses() -> bool:
    """False under `unfused`."""
    return _fuse.get()


def declines(name: str, device: str) -> str | None:
    """Why backend `name` cannot work on data of `device` ("cpu", "cuda"), or None if it can."""
    simulated = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
    if name == "numba" and device != "cpu":
        return f"the data is on {device}, not on the CPU"
    if name == "cuda":
        if importlib.util.find_spec("numba_cuda") is None:
            return "numba-cuda is not installed: pip install 'snnkit[cuda]'"
        if device != "cuda" and not simulated:
            return "the data is on the CPU"
    return None


def choose(operation: str, device: str = "cpu", available: tuple[str, ...] = BACKENDS) -> str:
    """The backend that runs `operation`; says once, in the log, which one was passed over and why.

    Raises `BackendError` if one was asked for by name and cannot run.
    """
    want = requested()
    if want != "auto":
        reason = declines(want, device) if want in available else "it has no kernel for this"
        if reason:
            raise BackendError(f"{operation}: backend {want!r} cannot run: {reason}.")
        return want
    for name in ("cuda", "numba", "reference"):
        if name not in available:
            continue
        if name == "cuda" and device != "cuda":
            continue
        reason = declines(name, device)
        if reason is None:
            return name
        message = f"{operation}: backend {name!r} passed over ({reason})"
        if message not in _logged:
            _logged.add(message)
            _log.info(message)
    raise BackendError(f"{operation}: no backend for data on {device}; it has {', '.join(available)}.")


def explain(operation: str, device: str = "cpu", available: tuple[str, ...] = BACKENDS) -> dict[str, str]:
    """What `choose` would say of each backend: ``"used"``, or why not."""
    used = choose(operation, device, available)
    return {
        name: "used"
        if name == used
        else (declines(name, device) if name in available else "it has no kernel for this") or "slower here"
        for name in BACKENDS
    }
