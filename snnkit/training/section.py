"""What the tables of a configuration have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pydantic import AfterValidator, BaseModel, ConfigDict

from ..errors import nearest


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def one_of(names: Callable[[], Iterable[str]]) -> AfterValidator:
    """Marks a field of text that must be one of `names()`, as they are when a file is read."""

    def validate(name: str) -> str:
        if name not in (known := list(names())):
            raise ValueError(f"is none of {', '.join(known)}{nearest(name, known)}")
        return name

    return AfterValidator(validate)
