"""What the tables of a configuration have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pydantic import AfterValidator, BaseModel, ConfigDict

from ..errors import listed, nearest


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def changed(self, keys: Iterable[str] | None = None) -> list[str]:
        """Those of `keys` (None: of all) that have not their defaults: a run's record names every key."""
        fields = type(self).model_fields
        chosen = fields if keys is None else keys
        return [
            key for key in chosen if getattr(self, key) != fields[key].get_default(call_default_factory=True)
        ]

    def without_effect(self, choice: str, keys: Iterable[str], instead: str) -> Iterator[str]:
        """A sentence where some of `keys` were given and `choice` leaves them without effect.

        instead  what would be right
        """
        if lost := self.changed(keys):
            given = listed(f"{key} = {plain(getattr(self, key))}" for key in lost)
            yield f"{given}: without effect with {choice}; {instead}"


def plain(value: object) -> str:
    """A value of a configuration in a message, sections by their keys alone."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, BaseModel):
        return "{…}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def one_of(names: Callable[[], Iterable[str]]) -> AfterValidator:
    """Marks a field of text that must be one of `names()`, as they are when a file is read."""

    def validate(name: str) -> str:
        if name not in (known := list(names())):
            raise ValueError(f"is none of {', '.join(known)}{nearest(name, known)}")
        return name

    return AfterValidator(validate)
