"""Read-outs ignore padding, and compute what their names say."""

import pytest
import torch

from snnkit.readouts import READOUTS
from snnkit.training.losses import rate_penalty, valid_steps


@pytest.mark.parametrize("name", READOUTS)
def test_what_stands_in_the_padding_changes_nothing(name):
    g = torch.Generator().manual_seed(0)
    v = torch.randn(9, 4, 3, generator=g)
    mask = valid_steps(9, torch.tensor([9, 5, 1, 3]))
    other = torch.where(mask[..., None], v, torch.full_like(v, 50.0))
    torch.testing.assert_close(READOUTS[name](other, mask), READOUTS[name](v, mask))


@pytest.mark.parametrize("name", READOUTS)
def test_a_sample_scores_the_same_alone_and_padded(name):
    v = torch.randn(6, 1, 5, generator=torch.Generator().manual_seed(1))
    alone = READOUTS[name](v, valid_steps(6, torch.tensor([6])))
    padded = torch.cat([v, torch.ones(4, 1, 5)])
    torch.testing.assert_close(READOUTS[name](padded, valid_steps(10, torch.tensor([6]))), alone)


def test_values_by_hand():
    v = torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]], [[9.0, 9.0]]])
    mask = valid_steps(3, torch.tensor([2]))
    assert READOUTS["max_over_time"](v, mask).tolist() == [[2.0, 1.0]]
    assert READOUTS["last_step"](v, mask).tolist() == [[2.0, 0.0]]
    assert READOUTS["mean"](v, mask).tolist() == [[1.0, 0.5]]
    assert READOUTS["spike_count"](v, mask).tolist() == [[2.0, 1.0]]
    softmax = torch.softmax(v[:2], -1).sum(0)
    torch.testing.assert_close(READOUTS["softmax_sum"](v, mask), softmax)


def test_rates_below_the_target_cost_nothing_and_padding_is_not_counted():
    s = torch.zeros(4, 2, 3)
    s[0] = 1
    mask = valid_steps(4, torch.tensor([2, 2]))
    assert rate_penalty([s], mask, 0.5).item() == 0
    assert rate_penalty([s], mask, 0.25).item() == pytest.approx(0.25**2)
