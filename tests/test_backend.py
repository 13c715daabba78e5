"""Choosing a backend is one visible act."""

import pytest

from snnkit import backend
from snnkit.errors import BackendError


def test_a_block_overrides_the_environment_and_gives_it_back(monkeypatch):
    monkeypatch.setenv("SNNKIT_BACKEND", "numba")
    assert backend.choose("x") == "numba"
    with backend.use("reference"):
        assert backend.choose("x") == "reference"
        with backend.use("auto"):
            assert backend.choose("x", available=("reference",)) == "reference"
    assert backend.choose("x") == "numba"


def test_what_cannot_run_is_refused_by_name():
    with backend.use("cuda"), pytest.raises(BackendError, match="lif: backend 'cuda' cannot run"):
        backend.choose("lif", available=("reference", "numba"))
    with pytest.raises(BackendError, match="unknown backend 'fast'"), backend.use("fast"):
        pass


def test_explain_names_the_one_used_and_why_not_the_others(monkeypatch):
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.delenv("SNNKIT_BACKEND", raising=False)
    said = backend.explain("lif", "cpu")
    assert said["numba"] == "used"
    assert said["reference"] == "slower here"
    assert said["cuda"]
