"""Kernels built from templates, compiled once and kept on disk.

Numba's on-disk cache works for functions of a module file, not for closures. So a kernel that is
specialised to a neuron's `step` is written out as the source of a small module under
`files.cache_folder()`, named by the hash of its text, and imported from there: the first process
compiles, every later one loads.
"""

import hashlib
import importlib.util
import inspect
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np

from .errors import ParameterError
from .files import cache_folder

_building = threading.RLock()


def source_of(function: Callable[..., Any], name: str) -> str:
    """Source text of a module-level function, renamed to `name`, decorators removed.

    Raises `ParameterError` for a function without source.
    """
    try:
        lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    except (OSError, TypeError) as error:
        raise ParameterError(
            f"{function!r} has no source to compile ({error}); define it in a file or a notebook cell."
        ) from error
    while not lines[0].startswith("def "):
        lines.pop(0)
    lines[0] = f"def {name}(" + lines[0].split("(", 1)[1]
    return "\n".join(lines) + "\n"


def build(name: str, source: str) -> ModuleType:
    """Import the module with this source, from the kernel cache. Same source, same module."""
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}\n{source}".encode()).hexdigest()[:16]
    qualified = f"snnkit_kernel_{name}_{digest}"
    with _building:  # another thread must not get a module that is still being filled
        if qualified in sys.modules:
            return sys.modules[qualified]
        path = _store(f"{qualified}.py", source)
        spec = importlib.util.spec_from_file_location(qualified, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[qualified] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[qualified]
            raise
        return module


def _store(file: str, source: str) -> Path:
    for folder in (cache_folder() / "kernels", Path(tempfile.gettempdir()) / "snnkit-kernels"):
        path = folder / file
        try:
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False) as out:
                    out.write(source)
                Path(out.name).replace(path)
            return path
        except OSError:
            continue
    raise ParameterError(f"no folder to keep compiled kernels in; set SNNKIT_CACHE (tried {folder}).")
