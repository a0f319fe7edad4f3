"""Addresses of syslog receivers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORT = 514
_LONGEST_PATH = 100  # of a Unix socket; Linux has room for 107 bytes


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """A receiver: a host and port, or the path of a Unix socket."""

    protocol: str  # udp, tcp or unix
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix://{self.path}" if self.protocol == "unix" else f"{self.protocol}://{host}:{self.port}"


def parse_syslog_target(text: str) -> SyslogTarget | None:
    """The receiver that `text` names; None if it names none. The port is 514 by default."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.query or parts.fragment or not text.isprintable() or "@" in parts.netloc:
        return None
    if parts.scheme == "unix":
        fits = not parts.netloc and 1 < len(parts.path.encode()) <= _LONGEST_PATH
        return SyslogTarget("unix", path=parts.path) if fits else None
    if parts.scheme not in ("udp", "tcp") or not parts.hostname or parts.path not in ("", "/") or port == 0:
        return None
    return SyslogTarget(parts.scheme, parts.hostname, port or DEFAULT_PORT)
