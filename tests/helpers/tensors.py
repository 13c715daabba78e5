"""Inputs, layers with delays and a comparison to a share of the largest value."""

import torch

from snnkit.delays import DelayedLinear


def spikes(*shape, rate=0.3, seed=0, dtype=torch.float64):
    """Counts, as binned events are: zeros, ones, a few twos."""
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(*shape, generator=g) < rate) * torch.randint(1, 3, shape, generator=g)
    return x.to(dtype)


def layer(n_in, n_out, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    return DelayedLinear(n_in, n_out, **options).to(dtype)


def close(got, want, tolerance):
    scale = want.abs().max().clamp_min(1e-3)
    torch.testing.assert_close(got / scale, want / scale, rtol=tolerance, atol=tolerance)
