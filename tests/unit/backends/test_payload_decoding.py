"""Whatever bytes a job producer writes, something printable and bounded comes out."""

from __future__ import annotations

import json
import pickle
import re
import time
from collections.abc import Callable

import pytest

from dashboard.backends.payloads.decoding import (
    DECODE_LIMIT_BYTES,
    finite,
    json_payload,
    loads,
    printable,
    text_or_none,
)
from dashboard.redact import MASK, mask_text
from dashboard.sources.source import text


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((3, 3.0), (-0.5, -0.5), (0, 0.0), (2**1000, float(2**1000))),
        *((10**400, None), (float("inf"), None), (float("nan"), None), (True, None), ("3", None), (None, None)),
    ],
)
def test_a_number_is_one_that_a_float_holds(value: object, number: float | None) -> None:
    assert finite(value) == number


@pytest.mark.parametrize(("value", "shown"), [("a", "a"), ("ab", "a…"), ("\ud800", "?"), ("", None), (1, None)])
def test_only_a_string_is_text(value: object, shown: str | None) -> None:
    assert text_or_none(value, 1) == shown


def test_plain_json_is_decoded() -> None:
    payload = json_payload(b'{"to": "a@b.example", "n": 12345678901234567890, "ok": true, "none": null}')
    assert payload.kind == "json"
    assert payload.value == {"to": "a@b.example", "n": 12345678901234567890, "ok": True, "none": None}
    assert not payload.truncated


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "text"),
        (b"{", "text"),
        (b"[NaN]", "text"),
        (b"[1e999999999]", "json"),
        (b"9" * 5000, "json"),
        (b"[" * 10_000 + b"]" * 10_000, "text"),
        (b'{"a":' * 10_000, "text"),
        (b"\xff\xfe\xfa", "text"),
        (b"\x80\x05\x95\x00\x01\x02\x03\x04\x05\x06\x07\x08", "binary"),
        (pickle.dumps({"a": 1}), "binary"),
        (b'"\\ud800"', "json"),
    ],
)
def test_anything_else_becomes_printable_text(raw: bytes, kind: str) -> None:
    payload = json_payload(raw)
    assert payload.kind == kind
    payload.text.encode("utf-8")
    json.dumps(payload.value, allow_nan=False)


def test_a_value_that_was_not_read_whole_says_so() -> None:
    payload = json_payload(b'{"a": 1', size_bytes=100_000_000)
    assert payload.truncated
    assert payload.size_bytes == 100_000_000
    assert payload.note == "the first 7 B of 95.4 MiB"


def test_more_than_the_limit_is_not_decoded() -> None:
    with pytest.raises(ValueError, match="longer than"):
        loads(b" " * (DECODE_LIMIT_BYTES + 1))


def test_more_nodes_than_a_page_can_hold_are_cut() -> None:
    payload = json_payload(json.dumps([[] for _ in range(60_000)]).encode())
    assert payload.truncated
    assert len(payload.value) < 60_000


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a" * 36,
    ],
)
def test_a_secret_is_recognized_by_its_shape_anywhere(secret: str) -> None:
    assert secret not in json_payload(json.dumps({"note": f"use {secret} please"}).encode()).text
    assert secret not in printable(f"Error: use {secret} please")


@pytest.mark.parametrize("before", ["", "token-", "--", "a_b-c-", "x.", "id=", "-eyJ-"])
def test_a_token_is_masked_within_a_word_and_the_rest_of_the_word_stays(before: str) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
    shown = printable(f"use {before}{token}, please")
    if before == "-eyJ-":  # begins like a token itself
        assert shown == f"use -{MASK}, please"
    else:
        assert shown == f"use {before}{MASK}, please"


def test_a_password_in_a_url_is_masked_and_the_rest_stays() -> None:
    assert (
        printable("connect to redis://user:hunter2@db.example:6379/0") == f"connect to redis://{MASK}@db.example:6379/0"
    )


def test_text_leads_back_to_its_bytes_and_printable_does_not_break_a_page() -> None:
    raw = b"id-\xff-\xc3\xa4"
    assert text(raw).encode("utf-8", "surrogateescape") == raw
    assert printable(raw) == printable(text(raw)) == "id-\\xff-ä"
    assert len(printable(b"x" * 1_000_000, 100)) == 101


WORST = ("eyJ", "-eyJ", ".eyJaaaaaaaa", "eyJaaaaaaaa.", "-eyJaaaaaaaa", "eyJaaaaaaaa.aaaaaaaa-")


@pytest.mark.parametrize("end", ["", ".", ".aaaaaaaa", ".aaaaaaaa."])
def test_masking_takes_linear_time(end: str) -> None:
    """Compared with one plain scan: a quadratic pattern took 10,000 times as long."""
    for pump in WORST:
        value = pump * (DECODE_LIMIT_BYTES // len(pump)) + end
        assert cpu_s(lambda value=value: mask_text(value)) < 100 * cpu_s(
            lambda value=value: re.sub("[A-Z]", "", value)
        ), pump


def cpu_s(work: Callable[[], object]) -> float:
    """The processor time of `work`, at least a millisecond."""
    began = time.thread_time()
    work()
    return max(time.thread_time() - began, 0.001)
