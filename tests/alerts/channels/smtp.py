"""A real mail server that accepts, defers, refuses or hangs."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.alerts.channels.fake_providers import HANGS_S


class _AnyPort(Controller):
    """A controller that reads its free port before it connects there to check that it runs."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class SmtpSink:
    """Keeps the accepted mails in `mails`; `data` is its reply to a mail, `recipients` its replies to addresses."""

    def __init__(self, *, data: str = "250 queued", recipients: dict[str, str] | None = None, **options: Any) -> None:
        self.mails: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.to: list[list[str]] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.data = data
        self.recipients = recipients or {}
        context: ssl.SSLContext | None = options.pop("direct_tls", None)
        if options.get("auth_required"):
            options["authenticator"] = self._sign_in
        self._controller = _AnyPort(
            self, hostname="127.0.0.1", port=0, ssl_context=context, ready_timeout=60, **options
        )
        self._controller.start()
        self.port = self._controller.port

    def close(self) -> None:
        self._controller.stop(no_assert=True)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        answer = self.recipients.get(address, "250 fine")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        self.raw.append(content)
        self.to.append(list(envelope.rcpt_tos))
        mail = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        if self.data == "hang":
            await asyncio.sleep(HANGS_S)
        return self.data

    def _sign_in(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"s3cr3t-token-Zq81/x", handled=False)
