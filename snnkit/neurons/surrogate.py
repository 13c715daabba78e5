"""Surrogate derivatives: what stands in for ds/dh in the backward pass.

Each is a scalar function of ``u = h − v_th`` and a sharpness ``alpha``; `SURROGATES` is the only
list of them. Names and constants are those of the papers and libraries where they come from; two
names may share a formula where the literature has two (``fast_sigmoid`` and ``superspike``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, isfinite
from typing import Any, TypedDict

from ..errors import ParameterError


@dataclass(frozen=True)
class Surrogate:
    """A derivative with its default sharpness.

    ds_dh  ``ds_dh(u, alpha)``, plain arithmetic and `exp`: compiled into every kernel
    alpha  the sharpness that the source uses when none is given
    """

    ds_dh: Callable[..., Any]
    alpha: float


def atan(u: Any, alpha: Any) -> Any:
    """α/2 / (1 + (π/2·α·u)²), derivative of arctan(π/2·α·u)/π + ½: SpikingJelly, snnTorch (α = 2).

    Fang et al., ICCV 2021 (learnable membrane time constant).
    """
    z = 1.5707963267948966 * alpha * u
    return alpha / 2 / (1 + z * z)


def sigmoid(u: Any, alpha: Any) -> Any:
    """α·σ(αu)·(1 − σ(αu)): SpikingJelly (α = 4), snnTorch (slope = 25)."""
    e = exp(-abs(alpha * u))
    return alpha * e / ((1 + e) * (1 + e))


def fast_sigmoid(u: Any, alpha: Any) -> Any:
    """1 / (1 + α·|u|)²: snnTorch's fast_sigmoid (slope = 25).

    Zenke and Ganguli, Neural Computation 30(6), 2018.
    """
    z = 1 + alpha * abs(u)
    return 1 / (z * z)


def superspike(u: Any, alpha: Any) -> Any:
    """1 / (1 + α·|u|)², α = 1: SpikingJelly's SuperSpike, and Norse's "super" at every α (it ignores α).

    Zenke and Ganguli, Neural Computation 30(6), 2018.
    """
    z = 1 + alpha * abs(u)
    return 1 / (z * z)


def soft_sign(u: Any, alpha: Any) -> Any:
    """α/2 / (1 + α·|u|)²: SpikingJelly's SoftSign (α = 2); the fast sigmoid with unit area."""
    z = 1 + alpha * abs(u)
    return alpha / 2 / (z * z)


def triangle(u: Any, alpha: Any) -> Any:
    """α·max(0, 1 − |u|): Norse's "triangle" (α = 0.3).

    Esser et al., PNAS 113(41), 2016; Bellec et al., Nature Communications 11, 2020.
    """
    return alpha * (1 - abs(u)) * (abs(u) < 1)


def piecewise_quadratic(u: Any, alpha: Any) -> Any:
    """α·max(0, 1 − α·|u|): SpikingJelly's PiecewiseQuadratic (α = 1); a triangle of unit area."""
    return alpha * (1 - alpha * abs(u)) * (alpha * abs(u) < 1)


def boxcar(u: Any, alpha: Any) -> Any:
    """α where |u| < ½/α, else 0: a box of unit area. SpikingJelly's Rect (α = 1)."""
    return alpha * (2 * alpha * abs(u) < 1)


def exponential(u: Any, alpha: Any) -> Any:
    """α/2 · exp(−α·|u|): SpikingJelly's PiecewiseExp (α = 1). Shrestha and Orchard, NeurIPS 2018."""
    return alpha / 2 * exp(-abs(alpha * u))


def gaussian(u: Any, alpha: Any) -> Any:
    """Normal density of standard deviation α: sinabs' Gaussian (σ = 0.5)."""
    z = u / alpha
    return 0.3989422804014327 / alpha * exp(-z * z / 2)


SURROGATES: dict[str, Surrogate] = {
    "atan": Surrogate(atan, 2.0),
    "sigmoid": Surrogate(sigmoid, 4.0),
    "fast_sigmoid": Surrogate(fast_sigmoid, 25.0),
    "superspike": Surrogate(superspike, 1.0),
    "soft_sign": Surrogate(soft_sign, 2.0),
    "triangle": Surrogate(triangle, 0.3),
    "piecewise_quadratic": Surrogate(piecewise_quadratic, 1.0),
    "boxcar": Surrogate(boxcar, 1.0),
    "exponential": Surrogate(exponential, 1.0),
    "gaussian": Surrogate(gaussian, 0.5),
}
"""Name → surrogate. Add to it to make a surrogate of one's own known everywhere."""


class Backward(TypedDict, total=False):
    """What a neuron's backward pass is told, by keyword.

    surrogate     name in `SURROGATES` ("atan")
    alpha         its sharpness; None (default): the source's
    detach_reset  whether the backward pass leaves out what a spike does to the state (True)
    """

    surrogate: str
    alpha: float | None
    detach_reset: bool


def checked(name: str, alpha: float | None = None) -> tuple[str, float]:
    """The name and its sharpness (the source's own if None), or `ParameterError`."""
    if name not in SURROGATES:
        raise ParameterError(f"unknown surrogate {name!r}; known are {', '.join(sorted(SURROGATES))}.")
    value = SURROGATES[name].alpha if alpha is None else float(alpha)
    if not (isfinite(value) and value > 0):
        raise ParameterError(f"surrogate {name!r}: alpha must be a positive number, got {alpha}.")
    return name, value


def backward_of(
    surrogate: str = "atan", alpha: float | None = None, detach_reset: bool = True
) -> tuple[str, float, bool]:
    """`Backward` with its defaults, the first two `checked`."""
    return *checked(surrogate, alpha), detach_reset
