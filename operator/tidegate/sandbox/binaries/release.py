"""
Download a project's release and check it against the SHA-256 that the project publishes with it.

In:    a `Release`.
Out:   the program as a file, or a `FetchError` that says what failed.
Rules: fails fast: a host that does not answer within seconds is not tried again in this run.
"""

import hashlib
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tidegate.sandbox.binaries.cache import Say
from tidegate.sandbox.binaries.catalog import Release

CONNECT_TIMEOUT_S = 5.0
CHUNK_BYTES = 1 << 20
# One line of progress per this many bytes.
PROGRESS_BYTES = 20 << 20


class FetchError(Exception):
    """One way to get a program failed; the text says why. The next way is tried."""


class Downloader:
    """Downloads releases, and remembers hosts that did not answer."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._silent_hosts: dict[str, str] = {}

    def fetch(self, release: Release, *, workspace: Path) -> Path:
        """
        Path of the verified program, in `workspace`.

        Raises:
            FetchError: The host does not answer, the file is missing, or the checksum differs.
        """
        name = release.url.rsplit("/", 1)[-1]
        wanted = published_sum(self._text(release.sums_url), name=name)
        artefact = workspace / name
        self._download(release.url, artefact)
        if (got := sha256(artefact)) != wanted:
            raise FetchError(f"{release.url}: SHA-256 is {got}, but the project publishes {wanted}")
        return unpack(artefact, release.member) if release.member else artefact

    def _text(self, url: str) -> str:
        with self._open(url) as answer:
            return str(answer.read(1 << 20).decode("utf-8", "replace"))

    def _download(self, url: str, target: Path) -> None:
        with self._open(url) as answer, target.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            done = reported = 0
            try:
                while chunk := answer.read(CHUNK_BYTES):
                    file.write(chunk)
                    done += len(chunk)
                    if done - reported >= PROGRESS_BYTES or done == total:
                        reported = done
                        self._say(f"  {done >> 20} of {total >> 20 if total else '?'} MiB")
            except OSError as error:
                raise FetchError(f"{url}: the download broke off after {done} bytes: {error}") from error

    def _open(self, url: str):  # type: ignore[no-untyped-def]  # urlopen's own type is Any
        host = urlsplit(url).hostname or ""
        if host in self._silent_hosts:
            raise FetchError(f"{host}: {self._silent_hosts[host]} (not tried again)")
        try:
            return urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise FetchError(f"{url}: HTTP {error.code}") from error
        except OSError as error:
            self._silent_hosts[host] = str(getattr(error, "reason", error))
            raise FetchError(f"{host}: {self._silent_hosts[host]}") from error


def published_sum(text: str, *, name: str) -> str:
    """
    The SHA-256 of `name` in a published list: lines of `SUM  NAME`, or a single sum.

    Raises:
        FetchError: The list does not name the file, or the entry is not a SHA-256.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    sums = [line[0] for line in lines if len(line) == 2 and line[1].lstrip("*").rsplit("/", 1)[-1] == name]
    if not sums and len(lines) == 1 and len(lines[0]) == 1:
        sums = lines[0]
    if len(sums) != 1 or len(sums[0]) != 64 or not set(sums[0].lower()) <= set("0123456789abcdef"):
        raise FetchError(f"the published checksums do not name {name}")
    return sums[0].lower()


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, member: str) -> Path:
    """Extracts one file from a tar archive into the archive's folder; returns its path."""
    target = archive.parent / Path(member).name
    try:
        with tarfile.open(archive) as tar:
            file = tar.extractfile(member)
            assert file is not None
            target.write_bytes(file.read())
    except (KeyError, tarfile.TarError) as error:
        raise FetchError(f"{archive.name}: {error}") from error
    return target
