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
    """

    scores: Callable[[Any, Any], Any]
    of_spikes: bool = False

    def __call__(self, values: Any, mask: Any) -> Any:
        return self.scores(values, mask)


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


READOUTS = {
    "softmax_sum": Rule(_softmax_sum),
    "max_over_time": Rule(_max_over_time),
    "last_step": Rule(_last_step),
    "mean": Rule(_mean),
    "spike_count": Rule(_spike_count, of_spikes=True),
}
"""Name → rule.

    softmax_sum    Σ_t softmax(v_t): Hammouamri et al., ICLR 2024, section 4
    max_over_time  max_t v_t: Cramer et al., IEEE TNNLS 33(7), 2022
    last_step      v at the last step that counts
    mean           mean of v over the steps that count
    spike_count    spikes of each output in the steps that count
"""
