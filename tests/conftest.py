"""What tests share: hypothesis without deadlines, arrays full of NaN, a timing task, CUDA with no device."""

import contextlib
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from snnkit.datasets import Binned
from snnkit.datasets.splits import Splits
from snnkit.events import EventBatch
from snnkit.training.config import parse_config

settings.register_profile("snnkit", deadline=None, derandomize=True)  # first calls compile
settings.load_profile("snnkit")

with contextlib.suppress(ValueError):  # a shell's background jobs start with Ctrl-C ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)

RECORDINGS = Path(os.environ.get("SNNKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def recordings() -> Path:
    """The folder with fsdd/fsdd.h5 and asc/asc_words.h5; skips where it is not there."""
    if not (RECORDINGS / "fsdd" / "fsdd.h5").is_file():
        pytest.skip("no recordings: set SNNKIT_DATA to the folder that holds fsdd/fsdd.h5")
    return RECORDINGS


@pytest.fixture
def poison_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.empty` gives NaN, so that an output nobody wrote cannot pass.

    NumPy's is left alone: Numba compiles its own `zeros` by looking `numpy.empty` up.
    """

    def poisoned(make):
        def empty(*args, **kwargs):
            tensor = make(*args, **kwargs)
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        return empty

    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, poisoned(getattr(torch, name)))


def order_task(clips, seed, steps=16, channels=8):
    """Clips in which one of two channel groups fires first; which one is the label."""
    rng = np.random.default_rng(seed)
    x = np.zeros((steps, clips, channels), np.float32)
    labels = rng.integers(0, 2, clips)
    for b in range(clips):
        first, second = (0, channels // 2) if labels[b] == 0 else (channels // 2, 0)
        for start, at in ((first, 2), (second, 8)):
            x[at + rng.integers(0, 2, 3), b, start + rng.integers(0, channels // 2, 3)] += 1
    lengths = rng.integers(steps - 4, steps + 1, clips)
    x[np.arange(steps)[:, None] >= lengths] = 0
    return Binned(
        EventBatch.from_dense(x, lengths),
        labels.astype(np.int64),
        np.zeros(clips, np.int64),
        ["first", "second"],
        10.0,
        channels,
        "order",
    )


@pytest.fixture
def task():
    parts = {name: order_task(clips, seed) for seed, (name, clips) in enumerate(
        {"train": 96, "valid": 40, "test": 40}.items())}  # fmt: skip
    return Splits({k: lambda v=v: v for k, v in parts.items()}, ["first", "second"], 10.0, 8, "order")


@pytest.fixture
def config():
    def make(**sections):
        ours = {"hidden": [12, 10], "max_delay": 8, "dropout": 0.1}
        tree = {
            "model": {} if "network" in sections.get("model", {}) else ours,
            "train": {"epochs": 4, "batch": 32, "threads": 1},
        }
        for name, values in sections.items():
            tree.setdefault(name, {}).update(values)
        return parse_config(tree)

    return make


@pytest.fixture
def simulated() -> Callable[[str], None]:
    """``simulated(code)`` runs Python in a process whose kernels Numba simulates; it must not fail."""
    pytest.importorskip("numba_cuda")

    def run(code: str) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run


@pytest.fixture(params=[(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
def ptx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``ptx(kernel, signature, dtype)``: the kernel's PTX for a chip that need not be there.

    Kernels of float32 must not compute in float64.
    """
    pytest.importorskip("numba_cuda")
    pathfinder = pytest.importorskip("cuda.pathfinder")
    from numba import cuda

    try:
        pathfinder.load_nvidia_dynamic_lib("nvvm")
    except RuntimeError:
        pytest.skip("no libnvvm: install the CUDA toolkit or nvidia-nvvm")
    chip = request.param
    # What a kernel calls is compiled for the device at hand, and NVRTC is asked which chips it knows;
    # here there is neither, and the kernels need neither.
    device = types.SimpleNamespace(compute_capability=chip)
    monkeypatch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
    monkeypatch.setattr("numba.cuda.cudadrv.nvrtc.get_supported_ccs", lambda: [(8, 0), (9, 0)])
    monkeypatch.setattr("numba.cuda.cuda_paths._get_nvrtc_path", lambda: None)

    def compiled(kernel: Any, signature: tuple[Any, ...], dtype: str) -> str:
        text, _ = cuda.compile_ptx(kernel.py_func, signature, cc=chip)
        assert f".target sm_{chip[0]}{chip[1]}" in text
        if dtype == "float32":
            assert ".f64" not in text, "float32 kernels must compute in float32"
        return text

    return compiled
