"""How the kernel's width shrinks over training."""

from ..errors import ParameterError

FINAL_SIGMA = 0.23
"""Where the published schedule ends, steps."""


def sigma_at(
    epoch: int,
    epochs: int,
    sigma_start: float,
    sigma_end: float = FINAL_SIGMA,
    shrinking: int | None = None,
) -> float:
    """σ during `epoch` (from 0) of a training of `epochs`, steps.

    σ falls by the constant factor (σ_end / σ_start)^(1 / q) an epoch, for q = `shrinking` epochs (None:
    epochs // 4), and stays. Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024, section 3.3.

    Raises `ParameterError` for epochs and widths that are not positive.
    """
    if epochs < 1 or epoch < 0 or sigma_start <= 0 or sigma_end <= 0:
        raise ParameterError(
            f"sigma_at needs epochs ≥ 1, epoch ≥ 0 and positive widths, got epoch {epoch} of {epochs}, "
            f"σ from {sigma_start} to {sigma_end}."
        )
    falls = max(1, epochs // 4 if shrinking is None else shrinking)
    return float(sigma_start * (sigma_end / sigma_start) ** (min(epoch, falls) / falls))
