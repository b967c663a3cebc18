"""Where pictures and videos may come from besides the request itself: hosts and folders that were named
when the server was started, and nowhere else.

A file is resolved, opened without following a last link, and read from what was opened; a host is asked
once, without a redirect, and not where its name leads into a private network. Read next: `pictures.py`.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import SplitResult, unquote, urlsplit

from ...door.errors import ArgumentError
from .refused import Refused

FETCHING = 20.0                           # seconds that a file on another machine may take
CHUNK = 1 << 16                           # bytes that are read at a time
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class AllowedPlaces:
    """hosts: names, with `:PORT` where it is not the usual one; folders: resolved."""
    hosts: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()

    @classmethod
    def of(cls, hosts: Sequence[str], folders: Sequence[Path]) -> AllowedPlaces:
        """What `--allow-urls` and `--allow-files` name. Raises ArgumentError for what is no host or no
        folder."""
        for host in hosts:
            if not re.fullmatch(r"[\w.-]+(:\d{1,5})?|\[[0-9a-fA-F:.]+\](:\d{1,5})?", host):
                raise ArgumentError(f"--allow-urls is {host!r}; it should be a host such as "
                                    "images.example.org, with :PORT where it is not the usual one")
        for folder in folders:
            if not folder.is_dir():
                raise ArgumentError(f"--allow-files is {folder}, which is no folder; name one that is "
                                    "there")
        return cls(frozenset(host.lower() for host in hosts),
                   tuple(folder.resolve() for folder in folders))

    # ---- files

    def read(self, name: str, limit: int, what: str = "picture") -> bytes:
        """The bytes of a file by its path, or by a `file:` URL of this machine. Raises Refused."""
        path = _path_of(name)
        refusal = Refused("this server opens no files but those in the folders that it was started "
                          f"with; send the {what} itself, as a data: URL", 403, code="file_not_allowed")
        if not self.folders or path is None:
            raise refusal
        try:
            real = path.resolve(strict=True)
            if not path.is_absolute() or not any(real.is_relative_to(folder) for folder in self.folders):
                raise refusal
            return _read_file(real, limit, what)
        except Refused:                                          # a ValueError too
            raise
        except (OSError, ValueError, RuntimeError):  # not there, no path at all, links in a circle:
            raise refusal from None  # what lies elsewhere is nobody's business

    # ---- URLs

    def fetch(self, url: str, limit: int, what: str = "picture") -> bytes:
        """The bytes at a URL. Raises Refused."""
        parts = _parts_of(url)
        if parts is None or not _host_names(parts) & self.hosts:
            raise Refused("this server fetches no URLs but from the hosts that it was started with; "
                          f"send the {what} itself, as a data: URL", 403, code="url_not_allowed")
        try:
            return _fetched(parts, limit, what)
        except Refused:                                          # a ValueError too
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Refused(f"the {what} at {parts.hostname} could not be fetched "
                          f"({type(error).__name__}); send it as a data: URL",
                          code="url_not_fetched") from None


def _path_of(name: str) -> Path | None:
    """The path in a name; None for a `file:` URL of another machine."""
    if name[:5].lower() != "file:":
        return Path(name)
    try:
        parts = urlsplit(name)
    except ValueError:
        return None
    return Path(unquote(parts.path)) if parts.netloc in ("", "localhost") and not parts.query else None


def _read_file(real: Path, limit: int, what: str) -> bytes:
    """A regular file, as far as the limit. Raises OSError and Refused."""
    # a link put there after `resolve` is not followed, and a pipe is not waited for
    opened = os.open(real, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
                     | getattr(os, "O_BINARY", 0))
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode) or real.resolve(strict=True) != real:
            raise OSError("not a regular file, or moved")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Refused(f"the {what} has more than {limit:,} bytes; shrink it", 413, code="too_large")
    return data


def _parts_of(url: str) -> SplitResult | None:
    """The parts of a URL that names a host and nobody's password, else None."""
    try:
        parts = urlsplit(url)
        parts.port  # raises ValueError for what is no number
    except ValueError:
        return None
    good = parts.scheme in PORTS and parts.hostname and "@" not in parts.netloc
    return parts if good and re.fullmatch(r"[!-~]*", url) else None


def _host_names(parts: SplitResult) -> set[str]:
    """How an operator may have written the host of a URL."""
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
    port = parts.port or PORTS[parts.scheme]
    return {f"{name}:{port}"} | ({name} if port == PORTS[parts.scheme] else set())


def _fetched(parts: SplitResult, limit: int, what: str) -> bytes:
    end = monotonic() + FETCHING
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=FETCHING)
    try:
        connection.connect()
        _check_peer(connection.sock, str(parts.hostname))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"accept": "video/*" if what == "video" else "image/*"})
        reply = connection.getresponse()
        if reply.status != 200:                                  # a redirect too: it leads elsewhere
            raise Refused(f"{parts.hostname} answers {reply.status}, where 200 must come; redirects are "
                          "not followed",
                          code="url_not_fetched")
        data = b""
        while len(data) <= limit and (part := reply.read(CHUNK)):
            data += part
            if monotonic() > end:
                raise TimeoutError
    finally:
        connection.close()
    if len(data) > limit:
        raise Refused(f"the {what} at {parts.hostname} has more than {limit:,} bytes; shrink it", 413,
                      code="too_large")
    return data


def _check_peer(opened: socket.socket, host: str) -> None:
    """Raise OSError where a name leads to an address that only this machine or network knows, unless the
    operator named an address, or localhost, himself."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        peer = ipaddress.ip_address(opened.getpeername()[0].partition("%")[0])
        if host != "localhost" and not peer.is_global:
            raise OSError("a private address") from None
