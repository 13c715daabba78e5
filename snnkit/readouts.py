"""Read-outs: from what an output population does to class scores, padding masked out.

Each turns ``values [T, B, C]``, potentials or spikes, and a mask ``[T, B]`` of the steps that count into
scores ``[B, C]``; the loss is the cross entropy of the scores, the prediction their argmax. It is written
once, in operations that NumPy's arrays and torch's tensors share: training runs it on tensors, the engine on
arrays. `READOUTS` is the only list of them; another one is another row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rule:
    """How scores come about: ``rule(values, mask)``, arrays or tensors alike.

    scores     (values [T, B, C], mask bool [T, B]) → scores [B, C]
    of_spikes  whether the values are the outputs' spikes; else their potentials v
    running    (arrays as for `scores`) → [T, B, C], at t the scores of a run that ends with step t; None:
               read out again for every t, which takes a time that grows with T²
    """

    scores: Callable[[Any, Any], Any]
    of_spikes: bool = False
    running: Callable[[Any, Any], Any] | None = None

    def __call__(self, values: Any, mask: Any) -> Any:
        return self.scores(values, mask)

    def so_far(self, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Scores [T, B, C]: at t, those of a run that ends with step t."""
        if self.running is not None:
            return np.asarray(self.running(values, mask))
        return np.stack([self.scores(values[:t], mask[:t]) for t in range(1, len(values) + 1)])


def library(values: Any) -> Any:
    """numpy for an array, torch for a tensor; neither is loaded by this."""
    return sys.modules[type(values).__module__.partition(".")[0]]


def softmax(values: Any) -> Any:
    """Softmax over the last axis; for tensors it is torch's own."""
    if library(values) is not np:
        return values.softmax(-1)
    odds = np.exp(values - values.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def _softmax_sum(v: Any, mask: Any) -> Any:
    return (softmax(v) * mask[..., None]).sum(0)


def _max_over_time(v: Any, mask: Any) -> Any:
    xp = library(v)
    return xp.amax(xp.where(mask[..., None], v, -xp.inf), 0)


def _last_step(v: Any, mask: Any) -> Any:
    last = mask.cumsum(0).argmax(0)  # the sum rises no more after the last step that counts
    return v[last, list(range(v.shape[1]))]


def _mean(v: Any, mask: Any) -> Any:
    return (v * mask[..., None]).sum(0) / mask.sum(0).clip(min=1)[:, None]


def _spike_count(s: Any, mask: Any) -> Any:
    return (s * mask[..., None]).sum(0)


def _running_sum(values: Any, mask: Any) -> Any:
    return (values * mask[..., None]).cumsum(0)


def _running_last(v: Any, mask: Any) -> Any:
    last = np.maximum.accumulate(np.where(mask, np.arange(len(v))[:, None], 0), 0)
    return np.take_along_axis(v, last[..., None], 0)


READOUTS = {
    "softmax_sum": Rule(_softmax_sum, running=lambda v, mask: _running_sum(softmax(v), mask)),
    "max_over_time": Rule(
        _max_over_time,
        running=lambda v, mask: np.maximum.accumulate(np.where(mask[..., None], v, -np.inf), 0),
    ),
    "last_step": Rule(_last_step, running=_running_last),
    "mean": Rule(
        _mean, running=lambda v, mask: _running_sum(v, mask) / mask.cumsum(0).clip(min=1)[..., None]
    ),
    "spike_count": Rule(_spike_count, of_spikes=True, running=_running_sum),
}
"""Name → rule.

    softmax_sum    Σ_t softmax(v_t): Hammouamri et al., ICLR 2024, section 4
    max_over_time  max_t v_t: Cramer et al., IEEE TNNLS 33(7), 2022
    last_step      v at the last step that counts
    mean           mean of v over the steps that count
    spike_count    spikes of each output in the steps that count
"""
