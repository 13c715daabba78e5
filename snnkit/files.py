"""Files that appear whole or not at all, and errors that name the file."""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py

from .errors import ChecksumError, DataError

PathLike = str | os.PathLike[str]
LFS = b"version https://git-lfs"
"""How the notes begin that Git leaves in the place of large files."""


def cache_folder() -> Path:
    """Where derived data and compiled kernels are kept: ``SNNKIT_CACHE``, else the user's cache folder."""
    if "SNNKIT_CACHE" in os.environ:
        return Path(os.environ["SNNKIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "snnkit"


def with_suffix(folder: Path, pattern: str, suffixes: Iterable[str]) -> list[Path]:
    """Files of `folder` that `pattern` finds and that end so, in small or capital letters; sorted."""
    known = tuple(suffixes)
    return sorted(p for p in folder.glob(pattern) if p.suffix.lower() in known)


def stamp(files: Iterable[Path]) -> str:
    """What identifies the content of files for a cache: a digest of the path, size and time of each."""
    stats = [(str(file.resolve()), file.stat()) for file in files]
    text = "\n".join(f"{path}:{stat.st_size}:{stat.st_mtime_ns}" for path, stat in stats)
    return hashlib.sha256(text.encode()).hexdigest()


def check_digest(path: PathLike, expected: str, algorithm: str = "sha256") -> None:
    """Raise `ChecksumError` unless the file's digest is `expected` (hex)."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected.lower():
        raise ChecksumError(
            f"{path}: {algorithm} is {found}, expected {expected}; the file is damaged or another "
            "version. Delete it and fetch it again."
        )


class atomic:
    """``with atomic(path) as temporary``: write to the path given; it is renamed to `path` at the end.

    The temporary file lies in the same folder, is flushed to disk and then renamed. On an error it
    is removed, and what was at `path` before stays. An `OSError` becomes a `DataError`.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".", suffix=f".{self.path.name}", dir=self.path.parent)
        except OSError as error:
            raise self._failed(error) from error
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                with open(self.temporary, "rb") as raw:
                    os.fsync(raw.fileno())
                umask = os.umask(0)
                os.umask(umask)
                self.temporary.chmod(0o666 & ~umask)
                os.replace(self.temporary, self.path)
            elif issubclass(kind, OSError):
                raise self._failed(error) from error
        except OSError as reason:
            raise self._failed(reason) from reason
        finally:
            self.temporary.unlink(missing_ok=True)

    def _failed(self, reason: OSError) -> DataError:
        return DataError(f"{self.path} could not be written ({reason}); what was there before is unchanged.")


class atomic_h5:
    """``with atomic_h5(path) as file``: an `h5py.File` under the protection of `atomic`."""

    def __init__(self, path: PathLike) -> None:
        self.atomic = atomic(path)

    def __enter__(self) -> h5py.File:
        self.file = h5py.File(self.atomic.__enter__(), "w")
        return self.file

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self.file.close()
        except (OSError, RuntimeError) as reason:  # the last blocks are written here: disk full
            kind, error = kind or OSError, error or OSError(str(reason))
        self.atomic.__exit__(kind, error, trace)


def _is_note(path: Path) -> bool:
    try:
        with open(path, "rb") as raw:
            return raw.read(len(LFS)) == LFS
    except OSError:
        return False


class open_h5:
    """``with open_h5(path) as file``: an HDF5 file for reading; a clear `DataError` where it can't be."""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)

    def __enter__(self) -> h5py.File:
        if not self.path.is_file():
            raise DataError(f"{self.path} does not exist.")
        try:
            self.file = h5py.File(self.path, "r")
        except OSError as error:
            if _is_note(self.path):
                raise DataError(
                    f"{self.path} is no file of data, but Git LFS's note of one; fetch it with: git lfs pull"
                ) from error
            raise DataError(
                f"{self.path} is no readable HDF5 file; it may be truncated or damaged ({error})."
            ) from error
        return self.file

    def __exit__(self, *_: Any) -> None:
        self.file.close()


class exclusive:
    """``with exclusive(path)``: other processes that want the same path wait until the block ends.

    For work of minutes whose result is a file at `path`: look again whether it is there once inside.
    Where no lock can be had (another operating system, a folder that can't be written), none is taken.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)

    def __enter__(self) -> None:
        self.file: Any = None
        try:
            import fcntl

            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path.with_name(f".{self.path.name}.lock"), "w")
            fcntl.flock(self.file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            self.__exit__()

    def __exit__(self, *_: Any) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None
