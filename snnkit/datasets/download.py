"""Fetching files: with a progress bar, checked, and whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from ..errors import ChecksumError, DataError, ParameterError
from ..files import PathLike, atomic, check_digest

TIMEOUT = 20.0
"""Seconds without an answer after which a server counts as out of reach."""


@dataclass(frozen=True)
class Remote:
    """A file on a server. `digest` is hexadecimal; None where only the content is checked, later."""

    url: str
    digest: str | None = None
    algorithm: str = "sha256"

    @property
    def name(self) -> str:
        """File name at the end of the URL."""
        return self.url.rsplit("/", 1)[-1]


class Unreachable(DataError):
    """A server that does not answer: no network, or the file has moved."""


def fetch(remote: Remote, path: PathLike, *, progress: bool = True, attribution: str = "") -> Path:
    """Download to `path` unless it is there already with the right checksum.

    Raises `Unreachable`, naming the URL and where the file should be put by hand, or `ChecksumError`;
    nothing is left at `path` then. `attribution` is printed when something was fetched.
    """
    path = Path(path)
    if path.is_file():
        if remote.digest is not None:
            check_digest(path, remote.digest, remote.algorithm)
        return path
    if not remote.url.startswith(("http://", "https://")):
        raise ParameterError(f"{remote.url}: only http and https are fetched.")
    with atomic(path) as temporary:
        found = _stream(remote, path, temporary, progress)
        if remote.digest is not None and found != remote.digest.lower():
            raise ChecksumError(
                f"{remote.url}: {remote.algorithm} of what arrived is {found}, expected {remote.digest}; "
                f"nothing was kept at {path}. Try again, or put the right file there yourself."
            )
    if attribution:
        print(attribution, file=sys.stderr)  # standard output is for results
    return path


def _stream(remote: Remote, path: Path, temporary: Path, progress: bool) -> str:
    digest = hashlib.new(remote.algorithm, usedforsecurity=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        request = urllib.request.Request(remote.url, headers={"User-Agent": "snnkit"})
        with (
            urllib.request.urlopen(request, timeout=TIMEOUT) as answer,
            open(temporary, "wb") as out,
            Progress(*columns, console=Console(stderr=True), disable=not progress) as bar,
        ):
            size = answer.headers.get("Content-Length")
            total = int(size) if size and size.isdigit() else None
            task = bar.add_task(remote.name, total=total)
            arrived = 0
            while block := answer.read(1 << 18):
                digest.update(block)
                out.write(block)
                arrived += len(block)
                bar.advance(task, len(block))
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(error, urllib.error.HTTPError):
            reason = f"HTTP {error.code} {error.reason}"
        raise Unreachable(
            f"{remote.url} can't be reached ({reason}). With no network, fetch it elsewhere and put it at "
            f"{path}."
        ) from error
    if total is not None and arrived != total:
        raise Unreachable(
            f"{remote.url}: the connection ended after {arrived} of {total} bytes. Try again, or put the "
            f"file at {path}."
        )
    return digest.hexdigest()


def unpack(archive: PathLike, folder: PathLike, members: tuple[str, ...] = ()) -> Path:
    """Unpack a zip or tar archive into `folder`, whole or not at all; an existing folder is kept.

    members  only paths that end with or contain one of these; empty: all

    Raises `DataError` naming an archive that is damaged or would write outside the folder.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with open(archive, "rb") as file:
            zipped = file.read(2) == b"PK"
        if zipped:
            with zipfile.ZipFile(archive) as packed:
                names = [n for n in packed.namelist() if not members or any(m in n for m in members)]
                packed.extractall(partial, names)
        else:
            with tarfile.open(archive) as packed_tar:
                for member in packed_tar:
                    if not members or any(part in member.name for part in members):
                        _extract(packed_tar, member, partial)
        partial.replace(folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} can't be unpacked ({error}); delete it and fetch it again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a plain file of the archive below `folder`; links and devices are left out.

    tarfile's own "data" filter does more, but Python 3.11 has it only from 3.11.4 on.
    """
    target = (folder / member.name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise tarfile.TarError(f"{member.name!r} would be written outside the archive's folder")
    source = archive.extractfile(member) if member.isfile() else None
    if source is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, open(target, "wb") as out:
            shutil.copyfileobj(source, out)


def unpack_member(archive: PathLike, member: str, path: PathLike) -> Path:
    """Unpack the one file of a zip archive whose name ends with `member` to `path`, whole or not at all.

    Raises `DataError` naming an archive that is damaged or has no such file.
    """
    archive, path = Path(archive), Path(path)
    try:
        with zipfile.ZipFile(archive) as packed:
            names = [name for name in packed.namelist() if Path(name).name == member]
            if not names:
                raise DataError(f"{archive} holds no {member}, only {', '.join(packed.namelist()[:5])}.")
            with atomic(path) as temporary, packed.open(names[0]) as source, open(temporary, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
    except (EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} can't be unpacked ({error}); delete it and fetch it again.") from error
    return path
