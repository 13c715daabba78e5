"""Layers with learned synaptic delays."""

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ParameterError, ShapeError
from ..graph import Projection
from .kernel import check_version
from .ops import delayed_product


class DelayedLinear(nn.Module):
    """Linear map with a learned delay at every synapse: ``[T, B, I] → [T + padding_right, B, O]``.

        y[t, b, o] = Σ_i Σ_k weight[o, i, k] · Σ_d K(d; position[o, i, k], σ) · x[t − d, b, i]

    K is the kernel of `snnkit.delays.kernel`. In evaluation mode, and with ``version="max"``, a synapse
    has one tap at the delay round(position). Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024.

    in_features, out_features  I, O
    max_delay      longest delay, steps; the window has max_delay + 1 of them
    kernel_count   K, delays (each with its weight) of one synapse
    version        "gauss", "triangle" or "max"
    sigma          width of the kernel, steps; default window // 2, the start of the paper's schedule
    padding_right  steps the output is longer than the input; the paper's is max_delay // 2, and
                   max_delay keeps all that any spike causes
    bias           add a learned bias
    """

    weight: nn.Parameter
    position: nn.Parameter
    _sigma: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_delay: int = 24,
        kernel_count: int = 1,
        version: str = "gauss",
        sigma: float | None = None,
        padding_right: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("in_features", in_features, 1),
            ("out_features", out_features, 1),
            ("max_delay", max_delay, 0),
            ("kernel_count", kernel_count, 1),
            ("padding_right", padding_right, 0),
        ):
            if value < least:
                raise ParameterError(f"DelayedLinear needs {name} ≥ {least}, got {value}.")
        self.in_features, self.out_features = in_features, out_features
        self.max_delay, self.kernel_count = max_delay, kernel_count
        self.version, self.padding_right = check_version(version), padding_right
        shape = (out_features, in_features, kernel_count)
        self.weight = nn.Parameter(torch.empty(shape))
        self.position = nn.Parameter(torch.empty(shape))
        start = self.window // 2 if sigma is None else sigma
        self.register_buffer("_sigma", torch.tensor(start, dtype=torch.float64))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    @property
    def window(self) -> int:
        """Number of delays: max_delay + 1."""
        return self.max_delay + 1

    @property
    def sigma(self) -> float:
        """Width of the kernel, steps; set it as the schedule says."""
        return float(self._sigma)

    @sigma.setter
    def sigma(self, value: float) -> None:
        if not value >= 0:
            raise ParameterError(f"sigma is a width of ≥ 0 steps, got {value}.")
        self._sigma.fill_(value)

    def reset_parameters(self) -> None:
        """Weights Kaiming uniform (ReLU's gain, fan-in I·K), positions uniform over the window, bias 0."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        nn.init.uniform_(self.position, 0, self.max_delay)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Put every position back into [0, max_delay]; call after each optimiser step."""
        self.position.clamp_(0, self.max_delay)

    def delays(self) -> np.ndarray:
        """Integer delays ``[O, I, K]``, steps: the positions, rounded (half to even)."""
        rounded = self.position.detach().round().clamp(0, self.max_delay)
        return rounded.to(torch.int32).cpu().numpy()

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, I] → [T + padding_right, B, O]``."""
        if x.ndim != 3 or x.shape[2] != self.in_features:
            raise ShapeError(
                f"DelayedLinear expects x of shape [T, B, {self.in_features}], got {list(x.shape)}."
            )
        version = self.version if self.training else "max"
        y = delayed_product(
            x, self.weight, self.position, self._sigma, self.window, version, self.padding_right
        )
        return y if self.bias is None else y + self.bias

    def projections(self, name: str, source: str, target: str) -> list[Projection]:
        """One dense projection for each of the K delays of a synapse, with integer delays."""
        weight, delay = self.weight.detach().cpu().numpy(), self.delays()
        names = [name] if self.kernel_count == 1 else [f"{name}.{k}" for k in range(self.kernel_count)]
        return [
            Projection(n, source, target, weight[:, :, k].copy(), delay[:, :, k].copy())
            for k, n in enumerate(names)
        ]

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, max_delay={self.max_delay}, "
            f"kernel_count={self.kernel_count}, version={self.version!r}, "
            f"padding_right={self.padding_right}, bias={self.bias is not None}"
        )
