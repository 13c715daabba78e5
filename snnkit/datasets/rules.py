"""Rules that divide recordings without official parts: at random, by groups, or folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError, ShapeError, choices
from .labels import as_array

RULES = ("random", "speakers", "kfold")


@dataclass(frozen=True)
class SplitRule:
    """Who is in train, valid and test.

    by     "random": a share of every class; "speakers": whole groups (who spoke, the session, any column);
           "kfold": fold `fold` of `folds` is test, the next one valid; whole groups where there are any, else
           stratified by class
    seed   of the draw
    share  of the recordings, or of the groups, that valid and test have each under "random", "speakers"

    Raises `ParameterError` for an unknown rule, with the nearest, and for folds that leave no train part.
    """

    by: str = "random"
    folds: int = 5
    fold: int = 0
    seed: int = 0
    share: float = 0.1

    def __post_init__(self) -> None:
        if self.by not in RULES:
            raise ParameterError(f"unknown split {self.by!r}{choices(self.by, RULES)}")
        if self.folds < 3:
            raise ParameterError(f"folds = {self.folds}; train, valid and test need at least 3.")
        if not 0 <= self.fold < self.folds:
            raise ParameterError(f"fold = {self.fold}; it is one of 0..{self.folds - 1}.")
        if not 0 < self.share < 0.5:
            raise ParameterError(f"share = {self.share}; it must be above 0 and below 0.5.")

    def rows(self, labels: np.ndarray, groups: np.ndarray | None, name: str) -> dict[str, np.ndarray]:
        """Part → sorted rows, int64 [R].

        labels  [B]; other targets than whole numbers are not stratified
        groups  int64 [B], −1 where unknown; None: there are none

        Raises `ParameterError` for too few groups or recordings.
        """
        count = len(labels)
        if groups is not None and len(groups) != count:
            raise ShapeError(f"{name}: {len(groups)} groups for {count} samples.")
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
                taken = np.maximum(1, np.rint(self.share * size))
                test, valid = place < taken, (place >= taken) & (place < 2 * taken)
        else:
            assert groups is not None
            known = rng.permutation(np.unique(groups))
            if self.by == "kfold":
                if len(known) < self.folds:
                    raise ParameterError(f"{name}: {self.folds} folds of {len(known)} groups; take fewer.")
                fold = np.arange(len(known)) % self.folds
                chosen = known[fold == self.fold], known[fold == (self.fold + 1) % self.folds]
            else:
                if len(known) < 3:
                    raise ParameterError(
                        f"{name}: split = 'speakers' needs at least 3 groups, there are {len(known)}; take "
                        "split = 'random'."
                    )
                number = max(1, round(max(self.share, 0.15) * len(known)))
                chosen = known[:number], known[number : 2 * number]
            test, valid = (np.isin(groups, some) for some in chosen)
        parts = {"train": ~(test | valid), "valid": valid, "test": test}
        for part, mask in parts.items():
            if not mask.any():
                raise ParameterError(
                    f"{name}: split = {self.by!r} of {count} recordings leaves none for {part}; give "
                    "more, or another split."
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
    """Groups as people have them, numbers or names [B] → int64 [B] and number → name."""
    given = as_array(groups).reshape(-1)
    if given.dtype.kind in "iu":
        numbers = given.astype(np.int64)
        return numbers, {int(n): str(n) for n in np.unique(numbers) if n >= 0}
    texts = [k.decode() if isinstance(k, bytes) else str(k) for k in given]
    known = sorted(set(texts))
    where = {k: number for number, k in enumerate(known)}
    return np.array([where[k] for k in texts], np.int64), dict(enumerate(known))


def rule_of(split: str | SplitRule | Mapping[str, Any]) -> SplitRule:
    """A rule by its name, by its fields, or as it is."""
    if isinstance(split, SplitRule):
        return split
    return SplitRule(**split) if isinstance(split, Mapping) else SplitRule(split)
