"""Neurons as torch modules: they hold parameters, check shapes and call `run.run`; nothing else.

`MODULES` is the only list of them; `module_of` finds the one of a neuron by name, `Registered` for a
neuron that has none of its own.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ParameterError
from ..graph import Population
from . import normalised
from .neuron import NEURONS, encode, resolve
from .reference import Run, State
from .run import run
from .surrogate import checked

Number = float | Sequence[float] | np.ndarray | Tensor


def _tensor(name: str, value: Number, size: int | None) -> Tensor:
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if size is not None and tensor.ndim == 0:
        tensor = tensor.expand(size)
    if not torch.isfinite(tensor).all():
        raise ParameterError(f"{name} must be finite, got {value}.")
    return tensor.to(torch.get_default_dtype(), copy=True)


def _decay(what: str, tau: Number | None, decay: Number | None, dt: float) -> Tensor:
    """Decay per step, from a time constant in ms or given as such; float64."""
    if (tau is None) == (decay is None):
        raise ParameterError(f"give either tau_{what} (ms) or decay_{what}, not both and not neither.")
    if not dt > 0:
        raise ParameterError(f"dt must be a positive number of ms, got {dt}.")
    if decay is not None:
        value = torch.as_tensor(decay, dtype=torch.float64)
        if not ((value >= 0) & (value <= 1)).all():
            raise ParameterError(f"decay_{what} must lie in 0..1, got {decay}.")
        return value
    times = torch.as_tensor(tau, dtype=torch.float64)
    if not (times >= dt).all():
        raise ParameterError(
            f"a neuron needs tau_{what} ≥ dt, got tau_{what} = {tau} ms and dt = {dt} ms; for one "
            f"without memory set tau_{what} = dt."
        )
    return 1 - dt / times


def _fired(
    reset: str, refractory: int | Sequence[int], strict: bool, max_spikes: int | None, v_min: Number | None
) -> tuple[dict[str, Any], dict[str, Tensor | None]]:
    """The options of a neuron with a threshold, those of them that were chosen, and their parameters."""
    steps = np.asarray(refractory)
    if steps.dtype.kind not in "iu" or steps.min(initial=0) < 0:
        raise ParameterError(f"refractory must be a number of steps ≥ 0, got {refractory}.")
    options: dict[str, Any] = {"reset": reset}
    parameters: dict[str, Tensor | None] = {"v_min": None, "refractory": None}
    if steps.any():
        options["refractory"] = True
        parameters["refractory"] = _tensor("refractory", steps.tolist(), None)
    if strict:
        options["strict"] = True
    if max_spikes != 1:
        options["max_spikes"] = max_spikes
    if v_min is not None:
        options["floor"] = True
        parameters["v_min"] = _tensor("v_min", v_min, None)
    return options, parameters


class NeuronModule(nn.Module):
    """What all of them are: parameters by name, the call, the single step and lowering; not made itself.

    neuron, options   the name in `NEURONS` and the static choices
    spiking           False where the output is the membrane potential
    surrogate, alpha  name in `SURROGATES` and sharpness
    detach_reset      whether the reset is left out of the backward pass
    dt                length of a step, ms
    """

    v_th: Tensor
    v_reset: Tensor
    v_rest: Tensor
    v_min: Tensor | None
    refractory: Tensor | None

    def __init__(
        self, neuron: str, options: dict[str, Any], *, dt: float, surrogate: str, alpha: float | None,
        detach_reset: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.neuron, self.options, self._text = neuron, options, encode(options)
        self.spiking = resolve(neuron, options).spiking
        self.surrogate, self.alpha = checked(surrogate, alpha)
        self.detach_reset, self.dt = detach_reset, float(dt)
        self._rests = False

    def _keep(self, name: str, value: Tensor, learn: bool) -> None:
        if learn:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    def _keep_decay(self, name: str, value: Tensor, learn: bool, size: int | None) -> None:
        """A fixed decay is a buffer; a learned one is σ(raw), which stays between 0 and 1."""
        if not learn:
            self._keep(name, _tensor(name, value, size), False)
            return
        if not ((value > 0) & (value < 1)).all():
            raise ParameterError(
                f"a learned {name} must start strictly between 0 and 1, got {value.tolist()}; "
                "choose dt < tau < inf."
            )
        self._keep(f"{name}_raw", _tensor(name, torch.logit(value), size), True)

    def _keep_threshold(
        self, v_th: Number, v_reset: Number, optional: dict[str, Tensor | None], learn: bool,
        size: int | None,
    ) -> None:  # fmt: skip
        """What the neurons with a choice of reset have in common; `optional` as `_fired` gives it."""
        self._keep("v_th", _tensor("v_th", v_th, size if learn else None), learn)
        if not (self.v_th > 0).all() and resolve(self.neuron, self.options).counts:
            raise ParameterError(
                f"v_th must be above 0 where a step may give several spikes, got {v_th}: they are the "
                "multiples of v_th that are reached."
            )
        self._keep("v_reset", _tensor("v_reset", v_reset, None), False)
        for name, value in optional.items():
            self.register_buffer(name, value)

    def _optional(self) -> dict[str, Tensor]:
        """The parameters that options bring."""
        given = {"v_min": self.v_min, "refractory": self.refractory}
        return {n: v for n, v in given.items() if v is not None}

    def _keep_rest(self, v_rest: Number | None, v_reset: Number, reset: str) -> None:
        """Where v starts and decays to."""
        if v_rest is None:
            v_rest = v_reset if reset == "hard" else 0.0
        self._keep("v_rest", _tensor("v_rest", v_rest, None), False)
        self._rests = True

    def _get_decay(self, name: str) -> Tensor:
        raw = getattr(self, f"{name}_raw", None)
        return getattr(self, name) if raw is None else torch.sigmoid(raw)

    def per_step(self) -> dict[str, Tensor]:
        """The per-step parameters, each [] or [N], by the names that `NEURONS` gives them."""
        raise NotImplementedError

    def _leaky(self, decay: Tensor, decay_input: bool) -> dict[str, Tensor]:
        """The per-step parameters of "lif" and "if"."""
        params: dict[str, Tensor] = {
            "decay": decay,
            "gain": 1 - decay if decay_input else torch.ones((), dtype=decay.dtype, device=decay.device),
            "v_th": self.v_th,
            "v_reset": self.v_reset,
            "v_rest": self.v_rest,
        }
        return {**params, **self._optional()}

    def initial(self) -> dict[str, Tensor]:
        """Where state variables start, if not at the neuron's own `start`: v at v_rest, if there is one."""
        return {"v": self.v_rest} if self._rests else {}

    def forward(self, x: Tensor, state: Sequence[Tensor] | None = None) -> Tensor:
        """x [T, ...] → spikes [T, ...], from rest or from a state that `run` gave.

        In place of spikes a neuron that has none gives its membrane potential. One tensor in, one out, so
        that neurons chain in `torch.nn.Sequential`; `run` gives the state as well. Raises as `run.run` does.
        """
        result = self.run(x, state)
        return result.s if self.spiking else result.h

    def run(self, x: Tensor, state: Sequence[Tensor] | None = None, trace: bool = False) -> Run:
        """As calling the module, with the state after the last step to go on from.

        trace  the membrane potential before each reset as well
        """
        return run(
            self.neuron,
            x,
            state,
            self.per_step(),
            options=self._text,
            surrogate=self.surrogate,
            alpha=self.alpha,
            detach_reset=self.detach_reset,
            trace=trace,
            initial=self.initial(),
        )

    def after_norm(
        self, x: Tensor, norm: nn.BatchNorm1d, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Spikes for ``norm(x)``, x [T, B, N], from the start, and spikes · mask; see `normalised`."""
        return normalised.run(
            self.neuron,
            x,
            norm,
            self.per_step(),
            mask=mask,
            options=self._text,
            surrogate=self.surrogate,
            alpha=self.alpha,
            detach_reset=self.detach_reset,
            initial=self.initial(),
        )

    def step(self, x: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, State]:
        """One time step: x [...] → output [...] and state."""
        result = self.run(x[None], state)
        return (result.s if self.spiking else result.h)[0], result.state

    def population(self, name: str, size: int | tuple[int, ...]) -> Population:
        """The neurons as a part of a `Graph`, parameters in float64."""
        params = {k: v.detach().double().cpu().numpy() for k, v in self.per_step().items()}
        initial = {k: v.detach().double().cpu().numpy() for k, v in self.initial().items() if v.any()}
        shape = size if isinstance(size, tuple) else (size,)
        return Population(name, self.neuron, shape, params, options=dict(self.options), initial=initial)


class LIF(NeuronModule):
    """Leaky integrate-and-fire neurons; the equations are in `snnkit.neurons.lif`.

    tau_mem          membrane time constant, ms, at least `dt`; or `decay`, the share of v that a
                     step leaves (1 − dt/tau_mem). A number, or one per neuron
    dt               length of a step, ms
    v_th, v_reset    threshold, and where a hard reset puts v, in units of the input
    v_rest           where v starts and decays to; None: v_reset with a hard reset (as SpikingJelly), else 0
    reset            "hard" (to v_reset), "soft" (subtract v_th) or "none"
    detach_reset     leave the reset out of the backward pass
    decay_input      True: v ← v + (x − v)·dt/tau_mem; False: v ← decay·v + x
    refractory       steps after a spike in which the neuron stays reset and sees no input
    strict           True: a spike where h > v_th; False: where h ≥ v_th
    max_spikes       most spikes of a neuron in a step; above 1, or None for no limit, the output counts them:
                     the multiples of v_th that h reaches
    v_min            a floor of v after the reset; None: none
    surrogate, alpha name in `SURROGATES` and sharpness (None: the source's own)
    learn_tau, learn_threshold  make decay (kept in (0, 1)) or threshold a parameter to be learned
    size             number of neurons, for a value of its own in each where a single one is given
    """

    def __init__(
        self,
        tau_mem: Number | None = None,
        *,
        decay: Number | None = None,
        dt: float = 1.0,
        v_th: Number = 1.0,
        v_reset: Number = 0.0,
        v_rest: Number | None = None,
        reset: str = "hard",
        detach_reset: bool = True,
        decay_input: bool = False,
        refractory: int | Sequence[int] = 0,
        strict: bool = False,
        max_spikes: int | None = 1,
        v_min: Number | None = None,
        surrogate: str = "atan",
        alpha: float | None = None,
        learn_tau: bool = False,
        learn_threshold: bool = False,
        size: int | None = None,
    ) -> None:
        options, optional = _fired(reset, refractory, strict, max_spikes, v_min)
        super().__init__("lif", options, dt=dt, surrogate=surrogate, alpha=alpha, detach_reset=detach_reset)
        self._keep_threshold(v_th, v_reset, optional, learn_threshold, size)
        self._keep_rest(v_rest, v_reset, reset)
        self.decay_input = decay_input
        self._keep_decay("decay", _decay("mem", tau_mem, decay, dt), learn_tau, size)

    def per_step(self) -> dict[str, Tensor]:
        """decay, gain, v_th, v_reset, v_rest and any v_min and refractory; each [] or [N]."""
        return self._leaky(self._get_decay("decay"), self.decay_input)

    @property
    def tau_mem(self) -> Tensor:
        """Membrane time constant, ms, [] or [N]."""
        return self.dt / (1 - self._get_decay("decay"))


class IF(NeuronModule):
    """Integrate-and-fire neurons: `LIF` without leak (decay 1), v ← v + x; arguments as for `LIF`."""

    decay: Tensor

    def __init__(
        self,
        *,
        dt: float = 1.0,
        v_th: Number = 1.0,
        v_reset: Number = 0.0,
        reset: str = "hard",
        detach_reset: bool = True,
        refractory: int | Sequence[int] = 0,
        strict: bool = False,
        max_spikes: int | None = 1,
        v_min: Number | None = None,
        surrogate: str = "atan",
        alpha: float | None = None,
        learn_threshold: bool = False,
        size: int | None = None,
    ) -> None:
        options, optional = _fired(reset, refractory, strict, max_spikes, v_min)
        super().__init__("if", options, dt=dt, surrogate=surrogate, alpha=alpha, detach_reset=detach_reset)
        self._keep_threshold(v_th, v_reset, optional, learn_threshold, size)
        self._keep_rest(None, v_reset, reset)
        self._keep_decay("decay", _decay("mem", None, 1.0, dt), False, size)

    def per_step(self) -> dict[str, Tensor]:
        """decay (1), gain (1), v_th, v_reset, v_rest and any v_min and refractory; each [] or [N]."""
        return self._leaky(self.decay, False)


class CubaLIF(NeuronModule):
    """Current-based leaky integrate-and-fire neurons; the equations are in `snnkit.neurons.cuba`.

    tau_syn, tau_mem  time constants of current and membrane, ms, at least `dt`; or `decay_syn`,
                      `decay_mem`, the share that a step leaves
    learn_tau         make both decays (kept in (0, 1)) parameters to be learned

    The other arguments are those of `LIF`.
    """

    def __init__(
        self,
        tau_syn: Number | None = None,
        tau_mem: Number | None = None,
        *,
        decay_syn: Number | None = None,
        decay_mem: Number | None = None,
        dt: float = 1.0,
        v_th: Number = 1.0,
        v_reset: Number = 0.0,
        reset: str = "hard",
        detach_reset: bool = True,
        refractory: int | Sequence[int] = 0,
        strict: bool = False,
        max_spikes: int | None = 1,
        v_min: Number | None = None,
        surrogate: str = "atan",
        alpha: float | None = None,
        learn_tau: bool = False,
        learn_threshold: bool = False,
        size: int | None = None,
    ) -> None:
        options, optional = _fired(reset, refractory, strict, max_spikes, v_min)
        super().__init__("cuba", options, dt=dt, surrogate=surrogate, alpha=alpha, detach_reset=detach_reset)
        self._keep_threshold(v_th, v_reset, optional, learn_threshold, size)
        self._keep_decay("decay_syn", _decay("syn", tau_syn, decay_syn, dt), learn_tau, size)
        self._keep_decay("decay_mem", _decay("mem", tau_mem, decay_mem, dt), learn_tau, size)

    def per_step(self) -> dict[str, Tensor]:
        """decay_syn, decay_mem, v_th, v_reset and any v_min and refractory; each [] or [N]."""
        params: dict[str, Tensor] = {
            "decay_syn": self._get_decay("decay_syn"),
            "decay_mem": self._get_decay("decay_mem"),
            "v_th": self.v_th,
            "v_reset": self.v_reset,
        }
        return {**params, **self._optional()}

    @property
    def tau_syn(self) -> Tensor:
        """Time constant of the synaptic current, ms, [] or [N]."""
        return self.dt / (1 - self._get_decay("decay_syn"))

    @property
    def tau_mem(self) -> Tensor:
        """Membrane time constant, ms, [] or [N]."""
        return self.dt / (1 - self._get_decay("decay_mem"))


class AdLIF(NeuronModule):
    """Adaptive leaky integrate-and-fire neurons; the equations are in `snnkit.neurons.adlif`.

    tau_mem, tau_w    time constants of membrane and adaptation, ms; here decay = exp(−dt/tau)
    a, b              how membrane potential and spikes drive the adaptation
    discretisation    "se" (symplectic Euler) or "euler"
    learn_adaptation  make a and b parameters to be learned

    The other arguments are those of `LIF`; the reset is hard.
    """

    def __init__(
        self,
        tau_mem: Number,
        tau_w: Number,
        a: Number = 1.0,
        b: Number = 1.0,
        *,
        dt: float = 1.0,
        v_th: Number = 1.0,
        v_reset: Number = 0.0,
        discretisation: str = "se",
        detach_reset: bool = True,
        surrogate: str = "atan",
        alpha: float | None = None,
        learn_tau: bool = False,
        learn_adaptation: bool = False,
        learn_threshold: bool = False,
        size: int | None = None,
    ) -> None:
        options = {"discretisation": discretisation}
        super().__init__("adlif", options, dt=dt, surrogate=surrogate, alpha=alpha, detach_reset=detach_reset)
        for name, tau in (("mem", tau_mem), ("w", tau_w)):
            if not (torch.as_tensor(tau) > 0).all() or not dt > 0:
                raise ParameterError(f"AdLIF needs dt > 0 and tau_{name} > 0, got {dt} and {tau} ms.")
            decay = torch.exp(-dt / torch.as_tensor(tau, dtype=torch.float64))
            self._keep_decay("decay" if name == "mem" else "decay_w", decay, learn_tau, size)
        self._keep("a", _tensor("a", a, size if learn_adaptation else None), learn_adaptation)
        self._keep("b", _tensor("b", b, size if learn_adaptation else None), learn_adaptation)
        self._keep("v_th", _tensor("v_th", v_th, size if learn_threshold else None), learn_threshold)
        self._keep("v_reset", _tensor("v_reset", v_reset, None), False)

    def per_step(self) -> dict[str, Tensor]:
        """decay, decay_w, a, b, v_th, v_reset; each [] or [N]."""
        decays = {"decay": self._get_decay("decay"), "decay_w": self._get_decay("decay_w")}
        return {**decays, **{name: getattr(self, name) for name in ("a", "b", "v_th", "v_reset")}}

    @property
    def tau_mem(self) -> Tensor:
        """Membrane time constant, ms, [] or [N]."""
        return -self.dt / torch.log(self._get_decay("decay"))

    @property
    def tau_w(self) -> Tensor:
        """Time constant of the adaptation, ms, [] or [N]."""
        return -self.dt / torch.log(self._get_decay("decay_w"))


class LI(NeuronModule):
    """Leaky integrators: v ← decay·v + gain·x, which is also the output; arguments as for `LIF`."""

    def __init__(
        self,
        tau_mem: Number | None = None,
        *,
        decay: Number | None = None,
        dt: float = 1.0,
        decay_input: bool = False,
        learn_tau: bool = False,
        size: int | None = None,
    ) -> None:
        super().__init__("li", {}, dt=dt, surrogate="atan", alpha=None, detach_reset=True)
        self.decay_input = decay_input
        self._keep_decay("decay", _decay("mem", tau_mem, decay, dt), learn_tau, size)

    def per_step(self) -> dict[str, Tensor]:
        """decay and gain, each [] or [N]."""
        decay = self._get_decay("decay")
        one = torch.ones((), dtype=decay.dtype, device=decay.device)
        return {"decay": decay, "gain": 1 - decay if self.decay_input else one}

    @property
    def tau_mem(self) -> Tensor:
        """Membrane time constant, ms, [] or [N]."""
        return self.dt / (1 - self._get_decay("decay"))


class Registered(NeuronModule):
    """Any neuron of `NEURONS` with its per-step parameters as they are; what `module_of` gives for a new one.

    neuron           its name
    values           its parameters, each a number or one per neuron (those not given: the neuron's
                     `defaults`), and its options, by name
    dt               length of a step, ms; the neuron itself does not know it
    learn            names of the parameters to be learned
    size             number of neurons, for a value of its own in each where a single one is learned

    Raises `ParameterError` naming what is missing or unknown and what there is, and for a neuron of
    integers.
    """

    def __init__(
        self,
        neuron: str,
        *,
        dt: float = 1.0,
        detach_reset: bool = True,
        surrogate: str = "atan",
        alpha: float | None = None,
        learn: Sequence[str] = (),
        size: int | None = None,
        **values: Any,
    ) -> None:
        options = {k: values.pop(k) for k in _option_defaults(neuron) if k in values}
        super().__init__(neuron, options, dt=dt, surrogate=surrogate, alpha=alpha, detach_reset=detach_reset)
        model = resolve(neuron, options)
        if model.integer:
            raise ParameterError(f"neuron {neuron!r} computes in integers and cannot be a torch module.")
        given = {**model.defaults, **values}
        missing = [n for n in model.params if n not in given]
        unknown = [n for n in (*values, *learn) if n not in model.params]
        if missing or unknown:
            has = ", ".join((*model.params, *_option_defaults(neuron)))
            raise ParameterError(f"neuron {neuron!r} has {has}; missing {missing}, unknown {unknown}.")
        self.names = model.params
        self.values = nn.Module()
        for n in self.names:
            value = _tensor(n, given[n], size if n in learn else None)
            if n in learn:
                self.values.register_parameter(n, nn.Parameter(value))
            else:
                self.values.register_buffer(n, value)

    def per_step(self) -> dict[str, Tensor]:
        """The per-step parameters by name."""
        return {n: getattr(self.values, n) for n in self.names}


MODULES: dict[str, Callable[..., NeuronModule]] = {
    "lif": LIF,
    "if": IF,
    "cuba": CubaLIF,
    "li": LI,
    "adlif": AdLIF,
}
"""Neuron name → its torch module. Add to it to give a neuron of one's own other parameters than its own."""


def module_of(name: str) -> Callable[..., NeuronModule]:
    """What makes the torch module of neuron `name`: that of `MODULES`, else `Registered` with this name.

    Raises `ParameterError` for a name that is in neither `MODULES` nor `NEURONS`.
    """
    if name not in MODULES and name not in NEURONS:
        raise ParameterError(f"unknown neuron {name!r}; known are {', '.join(sorted({*MODULES, *NEURONS}))}.")
    return MODULES.get(name) or functools.partial(Registered, name)


def arguments_of(name: str) -> dict[str, Any]:
    """What `module_of(name)` takes by name, with defaults; `inspect.Parameter.empty` where there is none.

    Raises `ParameterError` as `module_of` does.
    """
    taken = {
        n: p.default
        for n, p in inspect.signature(module_of(name)).parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    if name in MODULES:
        return taken
    taken.pop("neuron", None)
    model = resolve(name)
    own = {n: model.defaults.get(n, inspect.Parameter.empty) for n in model.params}
    return {**own, **_option_defaults(name), **taken}


def _option_defaults(name: str) -> dict[str, Any]:
    """A neuron's options with their defaults."""
    if name not in NEURONS:
        return {}
    return {n: p.default for n, p in inspect.signature(NEURONS[name]).parameters.items()}
