"""Events of the audit log as lines of a file: CSV or JSON. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...actions.audit_log import AuditEvent
from ...clock import instant, iso
from ...errors import QueuedeckError
from ..formatting import printable

# The columns of the CSV file, and the fields of a line of JSON, as in the API.
COLUMNS = (
    *("at", "who", "role", "address", "action", "source", "backend", "queue", "state", "ids", "count", "outcomes"),
    *("reason", "detail", "bulk_id", "batch", "id"),
)
# Longer than any field of an event: text is not cut.
MAX_TEXT = 100_000
# A spreadsheet takes a cell that begins like this for a formula; the last four are their full-width forms.
_FORMULA = tuple("=+-@＝＋－＠")


@dataclass(frozen=True, slots=True)
class AuditFile:
    """A format of exported events. `head` = the bytes before the first event."""

    name: str
    extension: str
    mimetype: str
    head: bytes
    write_events: Callable[[Iterable[AuditEvent]], bytes]
    write_failure: Callable[[QueuedeckError], bytes]  # the last line of a file that is incomplete

    def name_at(self, at: float) -> str:
        """The name of a file that is exported at that time: `queuedeck-audit-2026-11-25.csv`, the day in UTC."""
        moment = iso(instant(at)) or ""
        return f"queuedeck-audit-{moment[:10]}.{self.extension}"


def safe_cell(value: Any) -> str:
    """A value as text of a CSV cell that no spreadsheet runs as a formula, without invisible characters.

    Unknown values are empty; lists and objects are JSON.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"))
    text = printable(value, MAX_TEXT)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) or text[:1].isspace() else text


def _write_rows(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _csv_events(events: Iterable[AuditEvent]) -> bytes:
    return _write_rows([safe_cell(fields[name]) for name in COLUMNS] for fields in (each.public() for each in events))


def _csv_failure(exc: QueuedeckError) -> bytes:
    return _write_rows([[safe_cell(f"INCOMPLETE: {exc.message}")]])


def _json_line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _json_events(events: Iterable[AuditEvent]) -> bytes:
    return b"".join(
        _json_line({name: fields[name] for name in COLUMNS}) for fields in (each.public() for each in events)
    )


def _json_failure(exc: QueuedeckError) -> bytes:
    return _json_line({"error": {"code": exc.code, "message": printable(exc.message), "hint": exc.hint}})


CSV_FILE = AuditFile("CSV", "csv", "text/csv", _write_rows([COLUMNS]), _csv_events, _csv_failure)
JSON_LINES = AuditFile("JSON lines", "jsonl", "application/x-ndjson", b"", _json_events, _json_failure)
