"""Labels as people have them, numbered once for all parts of a data set."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError, ParameterError, ShapeError, nearest


def as_array(x: Any, where: str = "the list") -> np.ndarray:
    """An array of NumPy, of a torch tensor (0-d ones and those in a list are numbers) or of a list.

    Raises `ShapeError` naming `where` and the first element whose shape is another than that of element 0.
    """
    if is_tensor(x):
        return x.detach().cpu().numpy()
    if not isinstance(x, list | tuple):
        return np.asarray(x)
    if not any(is_tensor(one) for one in x):
        with contextlib.suppress(ValueError, RuntimeError):  # of different lengths, or tensors further in
            return np.array(x)
    each = [as_array(one, where) for one in x]
    if odd := next((i for i, one in enumerate(each) if one.shape != each[0].shape), None):
        raise ShapeError(
            f"{where}: element {odd} has shape {list(each[odd].shape)}, element 0 {list(each[0].shape)}; all "
            "must be of one shape."
        )
    return np.array([one[()] for one in each])


def whole_numbers(values: Any, where: str) -> np.ndarray:
    """`values` as int64, none of them rounded.

    Raises `DataError` naming `where` and the first that is no whole number.
    """
    given = as_array(values, where)
    if given.dtype.kind in "iub":
        return given.astype(np.int64)
    if given.dtype.kind != "f":
        if not given.size:
            return given.astype(np.int64)
        raise DataError(f"{where}: {given.dtype} where whole numbers are expected.")
    wrong = ~np.isfinite(given) | (given != np.floor(given))
    if wrong.any():
        place = int(np.argmax(wrong.reshape(-1)))
        raise DataError(
            f"{where}: value {place} is {given.reshape(-1)[place]}, where whole numbers are expected; round "
            "them as you mean it."
        )
    return given.astype(np.int64)


def is_tensor(x: Any) -> bool:
    """Whether it is a torch tensor; torch is not loaded for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def numbered(
    given: Mapping[str, Any],
    classes: Sequence[str] | None,
    name: str,
    steps: Mapping[str, int] | None = None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Labels of every part as int64 [B], and the names of the classes in label order.

    given    part → whole numbers [B], or names [B], or other targets: reals [B], or anything of more axes,
             which are left as they are (reals as float32)
    classes  names in label order; None: names in sorted order over all parts, or the numbers from 0
    steps    part → steps of its longest sample

    Whole numbers [B, T] over all steps are a class in every step (negative: none), numbered from 0 as [B]
    are. Other targets have a class for each of their outputs: one, or as many as their last axis is long.

    Raises `ShapeError` naming part and sample of lists that differ in length, `DataError` naming part and
    sample of a label that has no class, `ParameterError` for classes that are named twice and for parts that
    do not have the same kind of label.
    """
    ys = {part: as_array(y, f"{name}: {part}, labels") for part, y in given.items()}
    if classes is not None:
        classes = [str(c) for c in classes]
        if twice := next((c for c in classes if classes.count(c) > 1), None):
            raise ParameterError(f"{name}: classes names {twice!r} twice.")
    kinds = {part: _kind(y, classes) for part, y in ys.items()}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{part} has {kind}" for part, kind in kinds.items())
        raise ParameterError(f"{name}: the parts have different labels: {said}; give all the same kind.")
    kind = next(iter(kinds.values()), "numbers")
    if kind == "names":
        if odd := next((part for part, y in ys.items() if y.size != len(y)), None):
            raise ShapeError(
                f"{name}: {odd}: labels {list(ys[odd].shape)} are names; names are one a sample, [B]. A "
                "class in every step is whole numbers [B, T], negative where there is none: "
                "np.unique(labels, return_inverse=True) numbers them."
            )
        return _names(ys, classes, name)
    if kind == "numbers":
        return _numbers(ys, classes, name)
    targets = {part: y.astype(np.float32) if y.dtype.kind == "f" else y for part, y in ys.items()}
    for part, y in targets.items():
        wrong = ~np.isfinite(y)
        if wrong.any():
            sample = int(np.argwhere(wrong)[0][0])
            raise DataError(f"{name}: {part}, sample {sample}: its target is not finite.")
    for part, y in targets.items():
        if steps and _short(y, steps.get(part, 0)):
            raise ShapeError(
                f"{name}: {part}: labels {list(y.shape)} are whole numbers, and recordings have up to "
                f"{steps[part]} steps; a class in every step is one for each of them, negative where there "
                "is none. Give targets of another kind as reals."
            )
    if steps and all(_in_every_step(y, steps.get(part, 0)) for part, y in targets.items()):
        top = max((int(y.max()) for y in targets.values() if y.size), default=-1) + 1
        return targets, classes or [str(k) for k in range(max(top, 1))]
    widths = {y.shape[-1] if y.ndim > 1 else 1 for y in targets.values()}
    outputs = max(widths, default=1)
    return targets, classes or [str(k) for k in range(outputs)]


def _in_every_step(y: np.ndarray, steps: int) -> bool:
    return y.ndim == 2 and y.dtype.kind in "iub" and y.shape[1] >= steps > 0


def _short(y: np.ndarray, steps: int) -> bool:
    """Whether whole numbers [B, K] are nearly as many as there are steps, and not one-hot."""
    near = y.ndim == 2 and y.dtype.kind in "iub" and steps / 2 < y.shape[1] < steps
    return near and not ((y.sum(1) == 1).all() and (y >= 0).all())


def _kind(y: np.ndarray, classes: Sequence[str] | None) -> str:
    if y.dtype.kind in "USO":
        return "names"
    if y.ndim <= 1 and (y.dtype.kind in "iub" or classes is not None or y.size == 0):
        return "numbers"
    return "targets"


def _names(
    ys: dict[str, np.ndarray], classes: Sequence[str] | None, name: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    texts = {
        part: [k.decode() if isinstance(k, bytes) else str(k) for k in y.reshape(-1)]
        for part, y in ys.items()
    }
    known = sorted({k for names in texts.values() for k in names}) if classes is None else list(classes)
    where = {k: number for number, k in enumerate(known)}
    for part, names in texts.items():
        for sample, k in enumerate(names):
            if k not in where:
                raise DataError(
                    f"{name}: {part}, sample {sample}: label {k!r} is none of the classes "
                    f"{', '.join(known[:10])}{nearest(k, known) or '.'}"
                )
    return {part: np.array([where[k] for k in names], np.int64) for part, names in texts.items()}, known


def _numbers(
    ys: dict[str, np.ndarray], classes: Sequence[str] | None, name: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    top = max((int(y.max()) for y in ys.values() if y.size), default=-1) + 1
    known = [str(k) for k in range(top)] if classes is None else list(classes)
    for part, y in ys.items():
        wrong = (y < 0) | (y >= len(known)) | (y != np.floor(y))
        if wrong.any():
            sample = int(np.argmax(wrong))
            raise DataError(
                f"{name}: {part}, sample {sample}: label {y.reshape(-1)[sample]} is outside "
                f"0..{len(known) - 1} ({len(known)} classes)."
            )
    return {part: y.astype(np.int64).reshape(-1) for part, y in ys.items()}, known
