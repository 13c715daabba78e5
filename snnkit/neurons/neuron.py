"""What a neuron is to the kernels: its equations as data.

A neuron model is written once, as a scalar `step` (and its `adjoint`), in plain arithmetic that
runs alike on Python floats, NumPy arrays, torch tensors and inside Numba and CUDA kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ParameterError


@dataclass(frozen=True)
class Neuron:
    """The equations of one neuron model.

    name     what a `Population` calls it
    params   names of the per-step parameters, in the order `step` takes them
    state    names of the state variables, in the order `step` takes and returns them
    step     ``step(*state, x, *params) -> (s, h, *state)``: one time step; x is the summed input
             (bias included), s the spike (0 or 1), h what the threshold and the surrogate see
    adjoint  the vector-Jacobian product of `step`, or None where the neuron is not trained:
             ``adjoint(gs, gh, *gstate, h, ds_dh, through, *state, x, *params) -> (*gstate, gx, *gparams)``
             with the cotangents of the step's results, its own h, the surrogate derivative at
             h − v_th, and through = 0 where the reset is detached, else 1; `state` is that before the step
    spiking  False for a read-out without threshold (s is always 0)
    initial  state variables that do not start at 0
    integer  True where the arithmetic is on integers (the chip's model)
    taped    state variables (before the step) that the adjoint needs even if no parameter is learned;
             None: all of them
    rewind   ``rewind(h, *taped, *params)``: the variables `rewound` after a step, from its h; what can
             be had so is not stored for the backward pass
    rewound  names of the state variables that `rewind` gives (at most one), or none

    A step uses ``h >= v_th`` where it spikes, and ``v_th <= h`` or ``h < v_th`` where that resets the
    neuron: autograd sees the surrogate in the first, and in the others unless the reset is detached.
    """

    name: str
    params: tuple[str, ...]
    state: tuple[str, ...]
    step: Callable[..., Any]
    adjoint: Callable[..., Any] | None = None
    spiking: bool = True
    initial: tuple[tuple[str, float], ...] = ()
    integer: bool = False
    taped: tuple[str, ...] | None = None
    rewind: Callable[..., Any] | None = None
    rewound: tuple[str, ...] = ()


NEURONS: dict[str, Callable[..., Neuron]] = {}
"""Neuron name → function of the population's options (``reset="soft"``, …) that gives its equations."""


def register(name: str, make: Callable[..., Neuron]) -> None:
    """Add a neuron, built in or a user's own; its name is what populations and files use."""
    if name in NEURONS:
        raise ParameterError(f"a neuron named {name!r} is registered already; choose another name.")
    NEURONS[name] = make


def resolve(name: str, options: dict[str, Any] | None = None) -> Neuron:
    """The equations of neuron `name` with these options."""
    if name not in NEURONS:
        raise ParameterError(f"unknown neuron {name!r}; known are {', '.join(sorted(NEURONS))}.")
    try:
        return NEURONS[name](**(options or {}))
    except TypeError as error:
        raise ParameterError(f"neuron {name!r}: options {options} do not fit ({error}).") from error
