"""Masks are fair coins, the same in the backward pass, and fixed by torch's seed."""

import numpy as np
import pytest
import torch

from snnkit.errors import ParameterError
from snnkit.training.dropout import Dropout


def splitmix64(seed, k):
    """The mask's hash, by Python's integers (Steele, Lea and Flood, OOPSLA 2014)."""
    m = 2**64 - 1
    z = (seed + k * 0x9E3779B97F4A7C15) & m
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & m
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & m
    return (z ^ (z >> 31)) >> 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mask_is_the_hash(dtype):
    x = torch.arange(1, 38, dtype=dtype).reshape(37, 1)
    torch.manual_seed(3)
    got = Dropout(0.3, "step")(x)
    torch.manual_seed(3)
    seed = int(torch.randint(2**63 - 1, ()))
    keep = torch.tensor([splitmix64(seed, k) >= round(0.3 * 2**32) for k in range(37)])[:, None]
    torch.testing.assert_close(got, torch.where(keep, x / 0.7, 0 * x))
    assert 0 < keep.sum() < 37


@pytest.mark.parametrize("p", [0.1, 0.4, 0.9])
def test_the_share_dropped_is_p_and_neighbours_are_independent(p):
    torch.manual_seed(0)
    dropped = (Dropout(p, "step")(torch.ones(1000, 300)) == 0).numpy()
    assert dropped.mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / dropped.size))
    for a, b in ((dropped[1:], dropped[:-1]), (dropped[:, 1:], dropped[:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01


def test_a_shared_mask_is_one_for_all_steps_as_spikingjellys():
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    x = torch.ones(7, 400, 50)
    for make in (Dropout(0.3), layer.Dropout(0.3, step_mode="m")):
        y = make(x)
        assert torch.equal(y, y[:1].expand_as(y))
        assert (y[0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.015)
        torch.testing.assert_close(y.max().item(), 1 / 0.7)


@pytest.mark.parametrize("mask", ["shared", "step"])
def test_the_gradient_passes_where_the_value_did(mask):
    x = torch.ones(50, 4, 3, requires_grad=True)
    y = Dropout(0.5, mask)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_evaluation_and_zero_are_the_identity_and_calls_differ():
    x = torch.ones(9, 9)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    layer = Dropout(0.5)
    assert not torch.equal(layer(x), layer(x))
    with pytest.raises(ParameterError, match="0 ≤ p < 1, got 1"):
        Dropout(1.0)
    with pytest.raises(ParameterError, match="'often' is none of shared, step"):
        Dropout(0.1, "often")
