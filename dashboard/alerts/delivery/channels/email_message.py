"""Builds an email from a message: text and HTML parts, the last hour as an inline image, and headers for threading."""

from __future__ import annotations

import hashlib
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from html import escape
from string import Template

from ..transport.redaction import plain_line
from . import wording
from .base import Message, MessageLine
from .sparkline_png import HEIGHT, WIDTH, render_png

_POLICY = SMTP.clone(cte_type="7bit")  # accepted by every server
_PICTURE = "last-hour"
_PAGE = Template(
    """<!doctype html>
<html><body style="margin:0;padding:16px;font:15px/1.5 system-ui,sans-serif;color:#1c2430;background:#f5f6f8">
<div style="max-width:600px;margin:auto;padding:20px;background:#fff;border-top:5px solid $colour;border-radius:6px">
<h1 style="margin:0 0 12px;font-size:18px">$headline</h1>
$lines$picture$facts$errors$links
</div></body></html>
"""
)


def build_mail(message: Message, sender: Address, recipients: tuple[str, ...]) -> EmailMessage:
    """The email, ready to send. The same message always has the same Message-ID."""
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = sender
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = plain_line(wording.message_headline(message), 180)
    mail["Date"] = formatdate(usegmt=True)
    mail["Message-ID"] = mail_message_id(message.id, sender.domain)
    if message.references and message.references != message.id:
        mail["In-Reply-To"] = mail["References"] = mail_message_id(message.references, sender.domain)
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    mail["X-Auto-Response-Suppress"] = "All"
    mail["X-Queuedeck-Id"] = plain_line(message.id, 300).encode("ascii", "replace").decode()
    if message.severity == "critical" and message.kind in ("firing", "reminder"):
        mail["Importance"] = "high"
    picture = render_png(message.spark, wording.message_colour(message))
    mail.set_content(wording.format_plain_text(message))
    mail.add_alternative(render_html(message, with_picture=picture is not None), subtype="html")
    if picture is not None:
        parts = mail.get_payload()
        parts[1].add_related(  # type: ignore[index, union-attr]
            picture, "image", "png", cid=f"<{_PICTURE}>", filename="last-hour.png", disposition="inline"
        )
    return mail


def mail_message_id(name: str, domain: str) -> str:
    """The Message-ID for the id of a message: short and of safe characters, whatever the id contains."""
    return f"<{hashlib.sha256(name.encode()).hexdigest()[:32]}@{domain}>"


def render_html(message: Message, *, with_picture: bool) -> str:
    """The HTML of the email. Each value is escaped; styles are inline, as email clients require."""
    rows = [_format_line(message, line) for line in wording.shown_lines(message)]
    rows += [f"<li>{wording.hidden_lines_text(message)}</li>"] if wording.hidden_lines_text(message) else []
    spark = escape(wording.format_sparkline(message.spark))
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    title = escape(wording.spark_title(message))
    image = (
        f'<p style="margin:12px 0">{title}<br>'
        f'<img src="cid:{_PICTURE}" {size} alt="{title}: {spark}" style="max-width:100%">'
    )
    cell = 'style="padding:2px 16px 2px 0"'
    facts = "".join(
        f"<tr><td {cell}><b>{name}</b></td><td {cell}>{escape(value)}</td></tr>"
        for name, value in wording.incident_facts(message)
    )
    errors = "".join(f"<li>{escape(error)}</li>" for error in wording.shown_errors(message))
    links = " &nbsp; ".join(f'<a href="{escape(url)}">{label}</a>' for label, url in wording.action_links(message))
    return _PAGE.substitute(
        colour=wording.message_colour(message),
        headline=escape(wording.message_headline(message)),
        lines=f'<ul style="padding-left:20px">{"".join(rows)}</ul>' if rows else "",
        picture=f"{image}<br><small>last hour</small></p>" if with_picture else "",
        facts=f'<table style="border-collapse:collapse;font-size:14px">{facts}</table>' if facts else "",
        errors=f'<p style="margin:12px 0 0"><b>Top errors</b></p><ul style="padding-left:20px">{errors}</ul>'
        if errors
        else "",
        links=f'<p style="margin:16px 0 0">{links}</p>' if links else "",
    )


def _format_line(message: Message, line: MessageLine) -> str:
    words, url = escape(wording.line_text(message, line)), wording.safe_url(line.url)
    return f'<li><a href="{escape(url)}">{words}</a></li>' if url else f"<li>{words}</li>"
