"""What a neuron is to the kernels: its equations as data.

A neuron model is written once, as a scalar `step` (and its `adjoint`), in plain arithmetic that
runs alike on Python floats, NumPy arrays, torch tensors and inside Numba and CUDA kernels.
"""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ParameterError


@dataclass(frozen=True)
class Neuron:
    """The equations of one neuron model.

    name     what a `Population` calls it
    params   names of the per-step parameters, in the order `step` takes them
    state    names of the state variables, in the order `step` takes and returns them
    step     ``step(*state, x, *params) -> (s, h, *state)``: one time step; x is the summed input
             (bias included), s the spike (0 or 1; with `counts` their number), h what the threshold and
             the surrogate see
    adjoint  the vector-Jacobian product of `step`, or None where the neuron is not trained:
             ``adjoint(gs, gh, *gstate, h, ds_dh, through, *state, x, *params) -> (*gstate, gx, *gparams)``
             with the cotangents of the step's results, its own h, the surrogate derivative at
             h − v_th (or `distance`), and through = 0 where the reset is detached, else 1; `state` is that
             before the step
    spiking  False for a read-out without threshold (s is always 0)
    defaults values of parameters that have one where none is given
    start    where state variables start; those not named start at 0
    integer  True where the arithmetic is on integers (the chip's model)
    taped    state variables (before the step) that the adjoint needs even if no parameter is learned;
             None: all of them
    rewind   ``rewind(h, *taped, *params)``: the variables `rewound` after a step, from its h; what can
             be had so is not stored for the backward pass
    rewound  names of the state variables that `rewind` gives (at most one), or none
    counts   True where a step may give several spikes: the engine then sends s as the spike's value
    distance ``distance(h, v_th)``: where the surrogate stands, if not at h − v_th
    positive names of the parameters that must be above 0

    A step uses ``h >= v_th`` where it spikes, and ``v_th <= h`` or ``h < v_th`` where that resets the
    neuron: autograd sees the surrogate in the first, and in the others unless the reset is detached.
    Raises `ParameterError` for defaults and starts of what it does not have, and for an adjoint of a
    spiking neuron without the parameter "v_th", at which the surrogate is taken.
    """

    name: str
    params: tuple[str, ...]
    state: tuple[str, ...]
    step: Callable[..., Any]
    adjoint: Callable[..., Any] | None = None
    spiking: bool = True
    defaults: Mapping[str, float] = field(default_factory=dict, hash=False)
    start: Mapping[str, float] = field(default_factory=dict, hash=False)
    integer: bool = False
    taped: tuple[str, ...] | None = None
    rewind: Callable[..., Any] | None = None
    rewound: tuple[str, ...] = ()
    counts: bool = False
    distance: Callable[..., Any] | None = None
    positive: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, given, known in (
            ("defaults", self.defaults, self.params),
            ("start", self.start, self.state),
        ):
            unknown = [n for n in given if n not in known]
            if unknown:
                raise ParameterError(
                    f"neuron {self.name!r}: {what} name {unknown}, it has {', '.join(known) or 'none'}."
                )
        if self.adjoint is not None and self.spiking and "v_th" not in self.params:
            raise ParameterError(
                f"neuron {self.name!r} has an adjoint and spikes, so one of its parameters must be 'v_th': "
                f"the surrogate is taken at h − v_th. It has {', '.join(self.params) or 'none'}."
            )
        object.__setattr__(self, "start", {n: self.start.get(n, 0.0) for n in self.state})


NEURONS: dict[str, Callable[..., Neuron]] = {}
"""Neuron name → function of the population's options (``reset="soft"``, …) that gives its equations."""


def register(name: str, make: Callable[..., Neuron]) -> None:
    """Add a neuron, built in or a user's own; its name is what populations and files use.

    Raises `ParameterError` where the name is taken.
    """
    if name in NEURONS:
        raise ParameterError(f"a neuron named {name!r} is registered already; choose another name.")
    NEURONS[name] = make


def resolve(name: str, options: Mapping[str, Any] | None = None) -> Neuron:
    """The equations of neuron `name` with these options.

    Raises `ParameterError` for a name that is not registered and for options that it does not have.
    """
    if name not in NEURONS:
        raise ParameterError(f"unknown neuron {name!r}; known are {', '.join(sorted(NEURONS))}.")
    try:
        return NEURONS[name](**(options or {}))
    except TypeError as error:
        raise ParameterError(f"neuron {name!r}: options {options} do not fit ({error}).") from error


def encode(options: Mapping[str, Any]) -> str:
    """A neuron's options as text, the form that operators take."""
    return json.dumps(dict(options), sort_keys=True)


def equations(name: str, options: str) -> Neuron:
    """As `resolve`, options as `encode` gives them; the same record for the same registration."""
    return _equations(NEURONS.get(name), name, options)


@functools.lru_cache(maxsize=256)
def _equations(make: Callable[..., Neuron] | None, name: str, options: str) -> Neuron:
    return resolve(name, json.loads(options))
