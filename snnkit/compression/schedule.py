"""How networks of images are trained: the keys that every such table of a TOML file shares."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from ..errors import ParameterError
from ..training.config import Section, explain

MILESTONES = (0.6, 0.8, 0.9)


class Training(Section):
    """How a network is trained; the defaults are the paper's for the spiking stages."""

    epochs: int = Field(10, ge=1)
    batch: int = Field(64, ge=1)
    lr: float = Field(1e-4, gt=0)
    milestones: tuple[float, ...] = Field(MILESTONES, description="shares of the epochs at which lr falls")
    factor: float = Field(5.0, ge=1, description="lr is divided by it at each milestone")
    weight_decay: float = Field(0.0, ge=0, description="on all parameters")
    optimiser: Literal["adam", "sgd"] = Field("adam", description="adam: amsgrad; sgd: momentum 0.9")
    augment: int = Field(0, ge=0, description="largest shift, pixels; 0 for neither shifts nor mirrors")
    mirror: bool = Field(True, description="also mirror half of them, where augment > 0; not for digits")
    average: float = Field(
        0.0, ge=0, lt=1,
        description="what is validated and kept is a mean over the steps so far, in which the weights of k "
        "steps ago count average^k; 0: the weights themselves",
    )  # fmt: skip

    def schedule(self, **changes: Any) -> Schedule:
        """The same for `train_images`, with changes."""
        return Schedule(**{key: value for key, value in self if key in Schedule.model_fields} | changes)


class Distillation(Section):
    """How much of the loss a teacher gives, see `fitting.distilled`."""

    distillation: float = Field(0.0, ge=0, le=1, description="share of the loss that the ANN teaches")
    temperature: float = Field(4.0, gt=0, description="of the scores that are compared with the ANN's")


class Schedule(Training, Distillation):
    """What `train_images` is told, one value for both sections; raises `ParameterError` for what can't be."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            wrong = "; ".join(explain(problem, Schedule, values) for problem in error.errors())
            raise ParameterError(f"a schedule needs {_ranges()}; {wrong}.") from None

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.lr / self.factor ** sum(epoch >= round(m * self.epochs) for m in self.milestones)


PUBLISHED = Schedule()
"""The schedule of every stage in arXiv 2110.05929."""

SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _ranges() -> str:
    """The values that the keys of a schedule may have, in words."""
    keys = Schedule.model_json_schema()["properties"].items()
    bounds = [f"{key} {sign} {about[n]:g}" for key, about in keys for n, sign in SIGNS.items() if n in about]
    return " and ".join(bounds)
