"""The profiles there are: read from TOML and checked before any number is used.

Those that come with snnkit lie in the folder beside this file, one file each; a user's own is any other
TOML file: `load_profile("my_board.toml")`.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ..errors import ConfigError, nearest, sentences
from ..files import PathLike
from .models import MODELS
from .profile import Constant, Mesh, Profile, unknown

FOLDER = Path(__file__).parent / "profiles"


def available() -> list[str]:
    """Names of the profiles that come with snnkit."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_profile(profile: PathLike | Profile) -> Profile:
    """A profile by name, from a TOML file, or as it is; checked.

    Raises `ConfigError` if there is none, it can't be read, or it has mistakes, and lists all of them.
    """
    if isinstance(profile, Profile):
        return _checked(profile, f"profile {profile.name!r}")
    path = Path(profile)
    if path.suffix.lower() != ".toml":
        path = FOLDER / f"{profile}.toml"
        if not path.is_file():
            raise ConfigError(
                f"there is no {unknown('profile', str(profile), available())} "
                "Give the path of a .toml file for your own."
            )
        return _built_in(path)
    return _read(path)


@cache
def _built_in(path: Path) -> Profile:
    return _read(path)


def _read(path: Path) -> Profile:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"profile {path} can't be read ({error}).") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"profile {path} is not valid TOML: {error}.") from error
    try:
        profile = Profile.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"profile {path} has {_listed(error)}") from error
    return _checked(profile, f"profile {path}")


def _listed(error: ValidationError) -> str:
    """All of pydantic's complaints in one line."""
    problems = []
    for e in error.errors():
        where = ".".join(str(part) for part in e["loc"]) or "the file"
        if e["type"] == "extra_forbidden":
            parts: dict[str, type[BaseModel]] = {"constants": Constant, "mesh": Mesh}
            owner = parts.get(str(e["loc"][0]), Profile)
            problems.append(f"unknown key {where}{nearest(str(e['loc'][-1]), owner.model_fields)}")
        elif e["type"] == "missing":
            problems.append(f"{where} is missing")
        else:
            message = e["msg"].removeprefix("Value error, ").removesuffix(".")
            problems.append(f"{where}: {message} (got {e['input']!r})"[:200])
    return f"{len(problems)} problem{'s' * (len(problems) > 1)}: " + sentences(problems)


def _checked(profile: Profile, where: str) -> Profile:
    """The profile, if it has the constants and settings that its cost model takes."""
    if profile.model not in MODELS:
        raise ConfigError(f"{where} has no {unknown('cost model', profile.model, MODELS)}")
    model = MODELS[profile.model]
    problems = [
        f"constant {name!r} is missing"
        for name in model.needs(profile.settings)
        if name not in profile.constants
    ]
    for name, constant in profile.constants.items():
        unit = model.unit(name)
        if unit is None:
            problems.append(f"unknown constant {name!r}{nearest(name, model.constants)}")
        elif constant.unit != unit:
            problems.append(f"constant {name!r} is in {constant.unit}, the model takes {unit}")
    problems += model.wrong_settings(profile.settings)
    if model.on_chip and profile.mesh is None:
        problems.append("[mesh] is missing, which a chip needs")
    if problems:
        raise ConfigError(
            f"{where} has {len(problems)} problem{'s' * (len(problems) > 1)}: {sentences(problems)}"
        )
    return profile
