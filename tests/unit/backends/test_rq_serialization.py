"""RQ's stored values as people read them, and what hostile ones turn into."""

from __future__ import annotations

import json
import pickle
import zlib
from datetime import UTC, datetime

import pytest

from dashboard.backends.rq.keys import QueueKeys, job_id_of, queue_keys
from dashboard.backends.rq.serialization import (
    call_parts,
    call_payload,
    decode_base64,
    inflate_bytes,
    parse_failure,
    parse_integer,
    parse_time,
    serialized_payload,
)
from dashboard.model import State
from tests.counting import peak_bytes_of

TRACEBACK = """Traceback (most recent call last):
  File "/app/jobs.py", line 3, in load
    return table[key]
           ~~~~~^^^^^
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/jobs.py", line 9, in run
    raise shop.errors.OutOfStock("none left:\\n  shelf 3") from exc
shop.errors.OutOfStock: none left:
  shelf 3
"""


def packed(text: str) -> bytes:
    return zlib.compress(text.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2031-01-02T03:04:05.000006Z", datetime(2031, 1, 2, 3, 4, 5, 6, UTC)),
        ("2031-01-02T03:04:05Z", datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2031-01-02T03:04:05", datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("", None),
        (None, None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+23:00", None),
        ("2031-01-02T03:04:05" + "0" * 1000, None),
        ("\udcff", None),
    ],
)
def test_times(text: str | None, expected: datetime | None) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("-1", -1), ("", None), (None, None), ("x", None), ("9" * 5000, None)]
)
def test_numbers(text: str | None, expected: int | None) -> None:
    assert parse_integer(text) == expected


@pytest.mark.parametrize(
    ("description", "name", "arguments"),
    [
        ("app.mail.send(1, to='x')", "app.mail.send", "1, to='x'"),
        ("f()", "f", ""),
        ("app.<locals>.run('a(b)')", "app.<locals>.run", "'a(b)'"),
        ("Send the mail to Ann (again)", "Send the mail to Ann (again)", None),
        ("login(user='ann', password='it\\'s me', api_key=\"k1\", n=3)", "login", None),
        (None, None, None),
        ("", None, None),
    ],
)
def test_descriptions(description: str | None, name: str | None, arguments: str | None) -> None:
    found, shown = call_parts(description)
    assert found == name
    if description and description.startswith("login"):
        assert shown == "user='ann', password='••••••', api_key=\"••••••\", n=3"
    else:
        assert shown == arguments


def test_a_shortened_secret_is_masked_too() -> None:
    assert call_parts("f(token='abcdef...)") == ("f", "token='••••••")


def test_the_last_error_of_a_traceback_is_shown() -> None:
    error = parse_failure(packed(TRACEBACK))
    assert error is not None
    assert error.class_name == "shop.errors.OutOfStock"
    assert error.message == "none left:\n  shelf 3"
    assert error.stack == TRACEBACK.strip()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ('Traceback (most recent call last):\n  File "x", line 1\nKeyboardInterrupt\n', "KeyboardInterrupt", ""),
        (
            "Moved to FailedJobRegistry, due to AbandonedJobError, at 2031-01-01",
            "AbandonedJobError",
            "Moved to FailedJobRegistry, due to AbandonedJobError, at 2031-01-01",
        ),
        ("Job stopped by user, work-horse terminated.", None, "Job stopped by user, work-horse terminated."),
        ("Traceback (most recent call last):", None, "Traceback (most recent call last):"),
        ("Traceback (most recent call last):\n???: no", None, "???: no"),
    ],
)
def test_other_ends(text: str, name: str | None, message: str) -> None:
    error = parse_failure(packed(text))
    assert error is not None
    assert (error.class_name, error.message) == (name, message)


def test_no_error_is_none() -> None:
    assert parse_failure(b"") is None
    assert parse_failure(packed(" \n")) is None


def test_secrets_in_tracebacks_are_masked() -> None:
    error = parse_failure(packed("Traceback (most recent call last):\nRuntimeError: redis://app:hunter2@db/0"))
    assert error is not None
    assert "hunter2" not in f"{error.message}{error.stack}"


def test_zlib_bombs_are_not_inflated() -> None:
    bomb = zlib.compress(b"\0" * 50_000_000, 9)
    assert len(bomb) < 256 * 1024
    found, more = inflate_bytes(bomb)
    assert (len(found), more) == (256 * 1024, True)
    payload = serialized_payload(bomb)
    assert (payload.kind, payload.truncated) == ("opaque", True)
    error = parse_failure(bomb)
    assert error is not None
    assert len(error.stack or "") < 600_000
    assert peak_bytes_of(lambda: (inflate_bytes(bomb), serialized_payload(bomb), parse_failure(bomb))) < 4_000_000


def test_what_is_not_packed_is_read_as_it_is() -> None:
    assert inflate_bytes(b"plain") == (b"plain", False)
    assert serialized_payload(json.dumps(["f", None, [1], {}]).encode()).value == ["f", None, [1], {}]
    assert inflate_bytes(zlib.compress(b"x" * 100))[0] == b"x" * 100
    assert inflate_bytes(zlib.compress(b"x" * 100)[:-6])[1] is False


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_shows_function_and_arguments(protocol: int) -> None:
    data = zlib.compress(pickle.dumps(("app.f", None, (1, "x"), {"password": "hunter2"}), protocol))
    name, payload = call_payload(data, None, "ignored")
    assert name == "app.f"
    assert payload.kind == "json"
    assert payload.value == {"function": "app.f", "args": [1, "x"], "kwargs": {"password": "••••••"}}
    assert json.loads(payload.text) == payload.value
    assert payload.size_bytes == len(data)


def test_a_call_that_cannot_be_shown_shows_its_description() -> None:
    for data, size in ((b"\x80\x05broken", None), (None, 100_000_000)):
        name, payload = call_payload(data, size, "app.f(password='hunter2')")
        assert (name, payload.kind, payload.text) == (None, "opaque", "app.f(password='••••••')")
        assert payload.note
    assert call_payload(None, None, "f()")[1].kind == "missing"


def test_unknown_serializers_are_shown_as_text_or_binary() -> None:
    assert serialized_payload(b"Unserializable return value").kind == "text"
    assert serialized_payload(b"could not be read.").kind == "text"
    assert serialized_payload(bytes(range(32)) * 10).kind == "binary"


def test_broken_base64_is_nothing() -> None:
    assert decode_base64(b"aGk=") == b"hi"
    assert decode_base64(b"%%%") == b""
    assert decode_base64(None) == b""
    assert decode_base64(b"\xff") == b""


def test_ids_of_running_jobs() -> None:
    execution = "0123456789abcdef" * 2
    assert job_id_of(f"a:b:{execution}", State.ACTIVE) == "a:b"
    assert job_id_of("a:b", State.ACTIVE) == "a:b"
    assert job_id_of(f"a:{execution}", State.DEAD) == f"a:{execution}"


def test_keys_lead_back_to_their_queue() -> None:
    assert queue_keys("rq:queue:a:queue:b", ("rq",)) == QueueKeys("rq", "a:queue:b")
    assert queue_keys("rq:x:queue:a", ("rq", "rq:x")) == QueueKeys("rq:x", "a")
    assert queue_keys("bull:a", ("rq",)) is None
