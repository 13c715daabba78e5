"""Rules that divide recordings without official parts: at random, by groups, or folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError, ShapeError, choices
from .labels import as_array

RULES = ("random", "speakers", "kfold")
_BY_HAND = (
    "say which is which: train=, valid= and test= (files or pairs), or a column 'part' in the file; 'random' "
    "would put recordings of one group into several parts."
)
"""The way out where there are too few groups."""


@dataclass(frozen=True)
class SplitRule:
    """Who is in train, valid and test.

    by     "random": a share of every class; "speakers": whole groups (who spoke, the session, any column);
           "kfold": fold `fold` of `folds` is test, the next one valid; whole groups where there are any, else
           stratified by class
    seed   of the draw
    share  of each class, or of the groups, that valid and test have each under "random", "speakers", rounded
           and at least one; None: 0.1 of each class, 0.15 of the groups

    Every class has a recording in train. Under "random" one alone goes there, of two the other is in test,
    and valid has what both leave.

    Raises `ParameterError` for an unknown rule, with the nearest, and for folds that leave no train part.
    """

    by: str = "random"
    folds: int = 5
    fold: int = 0
    seed: int = 0
    share: float | None = None

    def __post_init__(self) -> None:
        if self.by not in RULES:
            raise ParameterError(f"unknown split {self.by!r}{choices(self.by, RULES)}")
        if self.folds < 3:
            raise ParameterError(f"folds = {self.folds}; train, valid and test need at least 3.")
        if not 0 <= self.fold < self.folds:
            raise ParameterError(f"fold = {self.fold}; it is one of 0..{self.folds - 1}.")
        if self.share is not None and not 0 < self.share < 0.5:
            raise ParameterError(f"share = {self.share}; it must be above 0 and below 0.5.")

    def rows(self, labels: np.ndarray, groups: np.ndarray | None, name: str) -> dict[str, np.ndarray]:
        """Part → sorted rows, int64 [R].

        labels  [B]; other targets than whole numbers are not stratified
        groups  int64 [B], −1 where unknown; None: there are none

        Raises `ParameterError` for too few groups or recordings, naming the first without a group where the
        rule goes by them, and naming a class that would have no recording in train.
        """
        count = len(labels)
        if groups is not None and len(groups) != count:
            raise ShapeError(f"{name}: {len(groups)} groups for {count} samples.")
        if groups is not None and self.by != "random" and (groups >= 0).any() and (groups < 0).any():
            blank = int(np.argmax(groups < 0))
            raise ParameterError(
                f"{name}: recording {blank} has no group, and {int((groups >= 0).sum())} of {count} have "
                f"one; split = {self.by!r} needs it of all. Give it, or take split = 'random'."
            )
        grouped = groups is not None and (groups >= 0).all() and len(np.unique(groups)) > 1
        strata = labels if labels.ndim == 1 and labels.dtype.kind in "iu" else np.zeros(count, np.int64)
        rng = np.random.default_rng(self.seed)
        if self.by == "speakers" and not grouped:
            raise ParameterError(
                f"{name}: split = 'speakers' needs to know the group of every recording, and at least 3 of "
                "them; give groups, or take split = 'random'."
            )
        if self.by == "random" or not grouped:
            place = _ranks(strata, rng)
            size = np.bincount(strata, minlength=1)[strata]
            if self.by == "kfold":
                part = (place + _starts(strata, self.folds)) % self.folds
                test, valid = part == self.fold, part == (self.fold + 1) % self.folds
            else:
                taken = np.maximum(1, np.rint((0.1 if self.share is None else self.share) * size))
                tested = np.minimum(taken, size // 2)
                both = np.minimum(tested + taken, np.maximum(size - 1, 0))
                test, valid = place < tested, (place >= tested) & (place < both)
        else:
            assert groups is not None
            known = rng.permutation(np.unique(groups))
            if self.by == "kfold":
                if len(known) < self.folds:
                    raise ParameterError(
                        f"{name}: {self.folds} folds of {len(known)} groups; "
                        + (f"take {len(known)} at most." if len(known) >= 3 else _BY_HAND)
                    )
                fold = np.arange(len(known)) % self.folds
                chosen = known[fold == self.fold], known[fold == (self.fold + 1) % self.folds]
            else:
                if len(known) < 3:
                    raise ParameterError(
                        f"{name}: split = 'speakers' needs at least 3 groups, one a part, there are "
                        f"{len(known)}; {_BY_HAND}"
                    )
                number = max(1, round((0.15 if self.share is None else self.share) * len(known)))
                chosen = known[:number], known[number : 2 * number]
            test, valid = (np.isin(groups, some) for some in chosen)
        parts = {"train": ~(test | valid), "valid": valid, "test": test}
        for part, mask in parts.items():
            if not mask.any():
                raise ParameterError(
                    f"{name}: split = {self.by!r} of {count} recordings leaves none for {part}; give "
                    "more, or another split."
                )
        if (lost := np.setdiff1d(strata, strata[parts["train"]])).size:
            number = int((strata == lost[0]).sum())
            raise ParameterError(
                f"{name}: split = {self.by!r} leaves none of the {number} recordings of class {lost[0]} for "
                "train; give more, or another seed, fold or split."
            )
        return {part: np.flatnonzero(mask) for part, mask in parts.items()}


def _ranks(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Place of every recording in a random order of its class, from 0. int64 [B]"""
    ranks = np.zeros(len(strata), np.int64)
    for one in np.unique(strata):
        rows = rng.permutation(np.flatnonzero(strata == one))
        ranks[rows] = np.arange(len(rows))
    return ranks


def _starts(strata: np.ndarray, folds: int) -> np.ndarray:
    """Fold in which the class of every recording begins, so that folds stay of equal size. int64 [B]"""
    ends = np.cumsum(np.bincount(strata, minlength=1))
    return np.concatenate([[0], ends])[:-1][strata] % folds


def numbered_groups(groups: Any) -> tuple[np.ndarray, dict[int, str]]:
    """Groups as people have them, numbers or names [B] → int64 [B] and number → name.

    What is blank (empty, None, NaN) or a negative number is unknown: −1, and no group.
    """
    given = as_array(groups).reshape(-1)
    if given.dtype.kind in "iu":
        numbers = given.astype(np.int64)
        return numbers, {int(n): str(n) for n in np.unique(numbers) if n >= 0}
    each = groups if isinstance(groups, list | tuple) and len(groups) == len(given) else given
    texts = ["" if _blank(k) else k.decode() if isinstance(k, bytes) else str(k) for k in each]
    known = sorted({k for k in texts if k.strip()})
    where = {k: number for number, k in enumerate(known)}
    return np.array([where.get(k, -1) for k in texts], np.int64), dict(enumerate(known))


def _blank(value: Any) -> bool:
    """Whether it stands for a missing value: None, NaN of Python and NumPy, or pandas' NA."""
    return value is None or str(value) == "<NA>" or (not isinstance(value, str | bytes) and value != value)


def rule_of(split: str | SplitRule | Mapping[str, Any]) -> SplitRule:
    """A rule by its name, by its fields, or as it is."""
    if isinstance(split, SplitRule):
        return split
    return SplitRule(**split) if isinstance(split, Mapping) else SplitRule(split)
