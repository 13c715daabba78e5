"""Neurons as torch modules: they hold parameters, check shapes and call `scan.run`; nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ParameterError
from ..graph import Population
from . import normalised, scan
from .neuron import resolve
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


class _Neuron(nn.Module):
    """What the modules share: parameters by name, the call, the single step and lowering."""

    neuron: str
    options: dict[str, Any]
    _text: str
    surrogate: str
    alpha: float
    detach_reset: bool
    v_th: Tensor
    v_reset: Tensor
    v_rest: Tensor
    refractory: Tensor | None

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
        self, v_th: Number, v_reset: Number, reset: str, detach_reset: bool, refractory: int | Sequence[int],
        surrogate: str, alpha: float | None, learn_threshold: bool, size: int | None,
    ) -> None:  # fmt: skip
        """What the neurons with a choice of reset and a refractory period have in common."""
        steps = np.asarray(refractory)
        if steps.dtype.kind not in "iu" or steps.min(initial=0) < 0:
            raise ParameterError(f"refractory must be a number of steps ≥ 0, got {refractory}.")
        holds = bool(steps.any())
        self.options = {"reset": reset, **({"refractory": True} if holds else {})}
        resolve(self.neuron, self.options)
        self._text = scan.encode(self.options)
        self.surrogate, self.alpha = checked(surrogate, alpha)
        self.detach_reset = detach_reset
        self._keep("v_th", _tensor("v_th", v_th, size if learn_threshold else None), learn_threshold)
        self._keep("v_reset", _tensor("v_reset", v_reset, None), False)
        self.register_buffer("refractory", _tensor("refractory", steps.tolist(), None) if holds else None)

    def _get_decay(self, name: str) -> Tensor:
        raw = getattr(self, f"{name}_raw", None)
        return getattr(self, name) if raw is None else torch.sigmoid(raw)

    def per_step(self) -> dict[str, Tensor]:
        """The per-step parameters, by the names that `NEURONS` gives them."""
        raise NotImplementedError

    def initial(self) -> dict[str, Tensor]:
        """Where state variables start, if not at 0."""
        return {}

    def forward(self, x: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, scan.State]:
        """x [T, ...] and the state to go on from → spikes [T, ...] and the state after the last step."""
        result = self.run(x, state)
        return result.s, result.state

    def run(self, x: Tensor, state: Sequence[Tensor] | None = None, trace: bool = False) -> scan.Run:
        """As calling the module, and with `trace` the membrane potential before each reset as well."""
        return scan.run(
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

    def step(self, x: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, scan.State]:
        """One time step: x [...] → output [...] and state."""
        s, after = self.forward(x[None], state)
        return s[0], after

    def population(self, name: str, size: int | tuple[int, ...]) -> Population:
        """The neurons as a part of a `Graph`, parameters in float64."""
        params = {k: v.detach().double().cpu().numpy() for k, v in self.per_step().items()}
        initial = {k: v.detach().double().cpu().numpy() for k, v in self.initial().items() if v.any()}
        shape = size if isinstance(size, tuple) else (size,)
        return Population(name, self.neuron, shape, params, options=dict(self.options), initial=initial)


class LIF(_Neuron):
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
        surrogate: str = "atan",
        alpha: float | None = None,
        learn_tau: bool = False,
        learn_threshold: bool = False,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.neuron = "lif"
        self._keep_threshold(v_th, v_reset, reset, detach_reset, refractory, surrogate, alpha,
                             learn_threshold, size)  # fmt: skip
        if v_rest is None:
            v_rest = v_reset if reset == "hard" else 0.0
        self._keep("v_rest", _tensor("v_rest", v_rest, None), False)
        self.dt, self.decay_input = float(dt), decay_input
        self._keep_decay("decay", _decay("mem", tau_mem, decay, dt), learn_tau, size)

    def per_step(self) -> dict[str, Tensor]:
        """decay, gain, v_th, v_reset, v_rest and, where there is one, refractory."""
        decay = self._get_decay("decay")
        params: dict[str, Tensor] = {
            "decay": decay,
            "gain": 1 - decay if self.decay_input else torch.ones((), dtype=decay.dtype, device=decay.device),
            "v_th": self.v_th,
            "v_reset": self.v_reset,
            "v_rest": self.v_rest,
        }
        return params if self.refractory is None else {**params, "refractory": self.refractory}

    def initial(self) -> dict[str, Tensor]:
        """v starts at v_rest."""
        return {"v": self.v_rest}

    @property
    def tau_mem(self) -> Tensor:
        """Membrane time constant, ms."""
        return self.dt / (1 - self._get_decay("decay"))


class IF(LIF):
    """Integrate-and-fire neurons: `LIF` without leak (decay 1), v ← v + x."""

    def __init__(
        self,
        *,
        dt: float = 1.0,
        v_th: Number = 1.0,
        v_reset: Number = 0.0,
        reset: str = "hard",
        detach_reset: bool = True,
        refractory: int | Sequence[int] = 0,
        surrogate: str = "atan",
        alpha: float | None = None,
        learn_threshold: bool = False,
        size: int | None = None,
    ) -> None:
        super().__init__(decay=1.0, dt=dt, v_th=v_th, v_reset=v_reset, reset=reset, detach_reset=detach_reset,
                         refractory=refractory, surrogate=surrogate, alpha=alpha,
                         learn_threshold=learn_threshold, size=size)  # fmt: skip
        self.neuron = "if"


class CubaLIF(_Neuron):
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
        surrogate: str = "atan",
        alpha: float | None = None,
        learn_tau: bool = False,
        learn_threshold: bool = False,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.neuron = "cuba"
        self._keep_threshold(v_th, v_reset, reset, detach_reset, refractory, surrogate, alpha,
                             learn_threshold, size)  # fmt: skip
        self.dt = float(dt)
        self._keep_decay("decay_syn", _decay("syn", tau_syn, decay_syn, dt), learn_tau, size)
        self._keep_decay("decay_mem", _decay("mem", tau_mem, decay_mem, dt), learn_tau, size)

    def per_step(self) -> dict[str, Tensor]:
        """decay_syn, decay_mem, v_th, v_reset and, where there is one, refractory."""
        params: dict[str, Tensor] = {
            "decay_syn": self._get_decay("decay_syn"),
            "decay_mem": self._get_decay("decay_mem"),
            "v_th": self.v_th,
            "v_reset": self.v_reset,
        }
        return params if self.refractory is None else {**params, "refractory": self.refractory}

    @property
    def tau_syn(self) -> Tensor:
        """Time constant of the synaptic current, ms."""
        return self.dt / (1 - self._get_decay("decay_syn"))

    @property
    def tau_mem(self) -> Tensor:
        """Membrane time constant, ms."""
        return self.dt / (1 - self._get_decay("decay_mem"))


class AdLIF(_Neuron):
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
        super().__init__()
        self.neuron, self.options = "adlif", {"discretisation": discretisation}
        resolve(self.neuron, self.options)
        self._text = scan.encode(self.options)
        self.surrogate, self.alpha = checked(surrogate, alpha)
        self.detach_reset, self.dt = detach_reset, float(dt)
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
        """decay, decay_w, a, b, v_th, v_reset."""
        decays = {"decay": self._get_decay("decay"), "decay_w": self._get_decay("decay_w")}
        return {**decays, **{name: getattr(self, name) for name in ("a", "b", "v_th", "v_reset")}}

    @property
    def tau_mem(self) -> Tensor:
        """Membrane time constant, ms."""
        return -self.dt / torch.log(self._get_decay("decay"))

    @property
    def tau_w(self) -> Tensor:
        """Time constant of the adaptation, ms."""
        return -self.dt / torch.log(self._get_decay("decay_w"))


class LI(_Neuron):
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
        super().__init__()
        self.neuron, self.options, self._text, self.detach_reset = "li", {}, "{}", True
        self.surrogate, self.alpha = "atan", 2.0
        self.dt, self.decay_input = float(dt), decay_input
        self._keep_decay("decay", _decay("mem", tau_mem, decay, dt), learn_tau, size)

    def per_step(self) -> dict[str, Tensor]:
        """decay and gain."""
        decay = self._get_decay("decay")
        one = torch.ones((), dtype=decay.dtype, device=decay.device)
        return {"decay": decay, "gain": 1 - decay if self.decay_input else one}

    def forward(self, x: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, scan.State]:
        """x [T, ...] and the state to go on from → v [T, ...] and the state after the last step."""
        result = self.run(x, state)
        return result.h, result.state

    @property
    def tau_mem(self) -> Tensor:
        """Membrane time constant, ms."""
        return self.dt / (1 - self._get_decay("decay"))
