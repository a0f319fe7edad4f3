"""Email over SMTP: verified certificates, one deadline for the whole session, and no recipient gets a message twice.

The host can be in a private network: mail servers usually are, and its address comes only from the settings.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import threading
from collections import OrderedDict
from collections.abc import Iterator
from email.errors import MessageError
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..transport.deadline import Deadline
from ..transport.http import result_from_error, tls_context
from ..transport.public_addresses import connect_first, resolve_host
from ..transport.redaction import Scrubber
from .base import Channel, DeliveryResult, Message
from .config import ChannelSettings, Secret
from .email_message import build_mail

PORTS = {"starttls": 587, "tls": 465, "none": 25}
ANSWER_LIMIT = 65_536  # bytes of all replies of a session
_MAX_REMEMBERED = 500  # messages whose delivered recipients are remembered


class EmailSettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mail server and the recipients."""

    host: str
    sender: str = msgspec.field(name="from")  # "Queuedeck <queuedeck@example.com>"
    to: tuple[str, ...]
    port: int | None = None  # default: 587 for starttls, 465 for tls, 25 for none
    tls: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: Secret | None = None
    ca_file: str | None = None  # PEM file of trusted certificate authorities; default: those of the system

    def find_problem(self, *, allow_private: bool) -> str | None:
        if not self.host or not self.host.isascii() or not self.host.isprintable() or " " in self.host:
            return "host: expected the host name or address of a mail server"
        if self.port is not None and not 0 < self.port < 65536:
            return "port: expected 1 to 65535"
        if _parse_address(self.sender) is None:
            return "from: expected an address, such as Queuedeck <queuedeck@example.com>"
        if not 0 < len(self.to) <= 50 or not all(_parse_address(item) for item in self.to):
            return "to: expected 1 to 50 addresses"
        if (self.username is None) != (self.password is None):
            return "password: expected together with username"
        if self.username is not None and not (self.username + (self.password or Secret("")).reveal()).isascii():
            return "username: expected plain ASCII, for the password too"
        if self.username is not None and self.tls == "none":
            return "tls: expected starttls or tls, because a password must not be sent unencrypted"
        if self.ca_file is not None and not Path(self.ca_file).is_file():
            return "ca_file: expected a readable file"
        return super().find_problem(allow_private=allow_private)


class Email(Channel):
    """Sends email to a few recipients."""

    kind = "email"
    settings_type = EmailSettings

    def __init__(self, settings: EmailSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._sender = _parse_address(settings.sender) or Address()
        self._to = tuple(address.addr_spec for item in settings.to if (address := _parse_address(item)))
        self._scrubber = Scrubber(_credential_texts(settings))
        self._context = tls_context(settings.ca_file)
        self._delivered_to: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._lock = threading.Lock()

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        mail = build_mail(message, self._sender, self._to).as_bytes()
        try:
            return self._send_mail(message.id, mail, deadline)
        except smtplib.SMTPNotSupportedError:
            said = "the server does not support STARTTLS or the required sign-in; check tls and username"
            return DeliveryResult(ok=False, permanent=True, status="unsupported", answer=said)
        except smtplib.SMTPResponseException as exc:
            return self._refused_result(exc.smtp_code, exc.smtp_error)
        except smtplib.SMTPServerDisconnected:
            return result_from_error(TimeoutError() if deadline.is_expired else ConnectionResetError())
        except smtplib.SMTPException:
            return DeliveryResult(ok=False, status="protocol", answer="the server's reply was not SMTP")
        except (OSError, ValueError, MessageError) as exc:
            return result_from_error(TimeoutError() if deadline.is_expired else exc)

    def _send_mail(self, name: str, mail: bytes, deadline: Deadline) -> DeliveryResult:
        with _Smtp(self._settings, self._context, deadline) as smtp:
            self._open_session(smtp)
            _require_success(smtp.mail(self._sender.addr_spec))
            have = self._delivered_to.get(name, frozenset())
            wanted = [to for to in self._to if to not in have]
            answers = {to: smtp.rcpt(to) for to in wanted}
            taken = frozenset(to for to, (code, _) in answers.items() if 200 <= code < 300)
            if not taken and answers:
                # The lowest code: retry if any recipient can still be reached.
                code, said = min(answers.values(), key=lambda answer: answer[0])
                if have and code >= 500:  # as if they had refused it in the first attempt: the others have it
                    return self._delivered_result(250, b"already delivered to the others", answers)
                return self._refused_result(code, said)
            code, said = smtp.data(mail) if taken else (250, b"already delivered to all recipients")
            if not 200 <= code < 300:
                return self._refused_result(code, said)
            self._remember_recipients(name, taken)
            return self._delivered_result(code, said, {to: answer for to, answer in answers.items() if to not in taken})

    def _open_session(self, smtp: _Smtp) -> None:
        smtp.ehlo_or_helo_if_needed()
        if self._settings.tls == "starttls":
            _require_success(smtp.starttls(context=self._context))
            smtp.ehlo_or_helo_if_needed()
        if self._settings.username is not None and self._settings.password is not None:
            smtp.login(self._settings.username, self._settings.password.reveal())

    def _delivered_result(self, code: int, said: bytes, refused: dict[str, tuple[int, bytes]]) -> DeliveryResult:
        """Delivered, unless a refused recipient can still be reached: then only those are retried."""
        failures = (b"; not delivered to %s: %d %s" % (to.encode(), *answer) for to, answer in refused.items())
        text = said + b"".join(failures)
        later = [answer_code for answer_code, _ in refused.values() if 400 <= answer_code < 500]
        return DeliveryResult(
            ok=not later, status=str(later[0] if later else code), answer=self._scrubber.redact_text(text)
        )

    def _refused_result(self, code: int, said: bytes | str) -> DeliveryResult:
        permanent = 500 <= code < 600
        return DeliveryResult(ok=False, permanent=permanent, status=str(code), answer=self._scrubber.redact_text(said))

    def _remember_recipients(self, name: str, taken: frozenset[str]) -> None:
        with self._lock:
            self._delivered_to[name] = self._delivered_to.pop(name, frozenset()) | taken
            while len(self._delivered_to) > _MAX_REMEMBERED:
                self._delivered_to.popitem(last=False)


class _Smtp(smtplib.SMTP):
    """An SMTP session whose connection ends at the deadline, however slowly the server sends."""

    def __init__(self, settings: EmailSettings, context: ssl.SSLContext, deadline: Deadline) -> None:
        self._deadline = deadline
        self._tls_context = context if settings.tls == "tls" else None
        port = settings.port or PORTS[settings.tls]
        super().__init__(settings.host, port, local_hostname="localhost", timeout=max(deadline.remaining_s(), 0.001))

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        del timeout  # the deadline applies
        sock = connect_first(resolve_host(host, port, self._deadline, allow_private=True), self._deadline)
        try:
            return self._tls_context.wrap_socket(sock, server_hostname=host) if self._tls_context else sock
        except BaseException:
            sock.close()
            raise

    def getreply(self) -> tuple[int, bytes]:
        # smtplib has no limit on the lines that it reads.
        if self.file is None and self.sock is not None:
            self.file = _BoundedReader(self.sock.makefile("rb"))
        return super().getreply()

    def __exit__(self, *args: object) -> None:
        # The result is known by now, so there is no need to wait for the reply to QUIT.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            self.putcmd("quit")
        self.close()


class _BoundedReader:
    """Reads lines of a file, at most 64 KiB in total."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._bytes_left = ANSWER_LIMIT

    def readline(self, size: int) -> bytes:
        line: bytes = self._file.readline(size)
        self._bytes_left -= len(line)
        if self._bytes_left < 0:
            raise ConnectionAbortedError
        return line

    def close(self) -> None:
        self._file.close()


def _require_success(answer: tuple[int, bytes]) -> None:
    code, said = answer
    if not 200 <= code < 300:
        raise smtplib.SMTPResponseException(code, said)


def _parse_address(text: str) -> Address | None:
    """The address with its display name; None when it is invalid, or contains what could end a header line."""
    if not text.isprintable():
        return None
    name, spec = parseaddr(text)
    try:
        found = Address(display_name=name, addr_spec=spec)
    except (ValueError, IndexError, MessageError):
        return None
    return found if found.username and found.domain and spec.isascii() else None


def _credential_texts(settings: EmailSettings) -> Iterator[str]:
    """The password, plain and in the form of AUTH PLAIN."""
    yield from settings.secret_texts()
    if settings.password is not None:
        yield f"\0{settings.username}\0{settings.password.reveal()}"
