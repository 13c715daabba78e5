"""What every test shares: hypothesis without deadlines, and `empty` arrays that are full of NaN."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("snnkit", deadline=None, derandomize=True)  # first calls compile
settings.load_profile("snnkit")

RECORDINGS = Path(os.environ.get("SNNKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def recordings() -> Path:
    """The folder with fsdd/fsdd.h5 and asc/asc_words.h5; skips where it is not there."""
    if not (RECORDINGS / "fsdd" / "fsdd.h5").is_file():
        pytest.skip("no recordings: set SNNKIT_DATA to the folder that holds fsdd/fsdd.h5")
    return RECORDINGS


@pytest.fixture
def poison_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """`np.empty` and `torch.empty` give NaN, so that an output nobody wrote cannot pass."""
    import torch

    def poisoned(make):
        def empty(*args, **kwargs):
            array = make(*args, **kwargs)
            floating = (
                array.is_floating_point() if isinstance(array, torch.Tensor) else array.dtype.kind == "f"
            )
            if floating:
                array.fill_(float("nan")) if isinstance(array, torch.Tensor) else array.fill(np.nan)
            return array

        return empty

    for module, name in ((np, "empty"), (np, "empty_like"), (torch, "empty"), (torch, "empty_like")):
        monkeypatch.setattr(module, name, poisoned(getattr(module, name)))
