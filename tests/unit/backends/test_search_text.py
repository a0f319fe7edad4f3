"""The text that a search looks through keeps what may be found, hides what is secret, and stays short."""

from __future__ import annotations

import json

import pytest

from dashboard.backends.payloads.decoding import json_payload, printable
from dashboard.backends.payloads.pickle_display import TEXT_LIMIT, describe
from dashboard.backends.payloads.search_text import LIMIT, ends, joined, of_json
from dashboard.redact import MASK, mask_text


def test_plain_json_is_searched_unchanged() -> None:
    assert of_json(b'{"to":"a@example.com","n":3}') == '{"to":"a@example.com","n":3}'
    assert of_json(None) == of_json(b"") == ""


def test_escapes_are_resolved() -> None:
    assert "grüße" in of_json(json.dumps({"text": "grüße"}).encode())
    assert "grüße" in of_json('{"text": "grüße"}'.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b'{"user": "ann", "password": "hunter2"}',
        b'{"user": "ann", "api_key":"hunter2"}',
        b'{"user": "ann", "API-Key" : "hunter2"}',
        b'{"user": "ann", "p\\u0061ssword": "hunter2"}',
        b'{"user": "ann", "deep": [{"token": "hunter2"}]}',
        b'{"user": "ann", "secret": {"a": ["hunter2"]}}',
        b'{"user": "ann", "card": 4242, "tokens": ["hunter2"]}',
        b'{"user": "ann", "password": "hunter2", broken',
        b'{"user": "ann", "password": "hunter2 and so on',
        b'{"user": "ann", "secret": {"a": ["hunter2", {"b": ',
        b'{"user": "ann", "password": "hunter2", "x": "' + b"x" * LIMIT,
        b'{"user": "ann", "p\\u0061ssword": "hunter2", "x": "' + b"x" * LIMIT,
        b'{"user": "ann", "url": "redis://u:hunter2@host"}',
        b'{"user": "ann", "my \\"password\\"": "hunter2"',
        b'a 5" screen of "ann", "password" : "hunter2"',
        b'{"user": "ann", "\\"": 1, "password": "hunter2"',
    ],
)
def test_secrets_cannot_be_found(raw: bytes) -> None:
    text = of_json(raw)
    assert "hunter2" not in text
    assert "ann" in text
    assert MASK in text


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe\x00{[", b"plain text", b"NaN", b'{"a":' * 5000, b"9" * 50_000, b'"\\ud800"']
)
def test_any_bytes_make_a_short_printable_text(raw: bytes) -> None:
    text = of_json(raw)
    text.encode("utf-8")
    assert 0 < len(text) <= LIMIT + 1


def test_payload_and_error_are_cut_one_by_one() -> None:
    text = joined("p" * 20_000, "e" * 20_000)
    assert text.count("p") == text.count("e") == LIMIT
    assert joined("payload", None) == "payload"
    assert joined("", "https://u:hunter2@host is down") == f"https://{MASK}@host is down"


TOKEN = "github_pat_" + "x1y2" * 10


def cut_in(at: int, before: str = "") -> str:
    """A long text whose token begins at a place."""
    return f"{before}{'a ' * at}"[: at - 1] + f" {TOKEN} {'b ' * 10_000}"


def test_no_part_of_a_secret_is_left_where_a_text_is_cut() -> None:
    """Half a token no longer has its shape, and masking what is before it makes the text shorter."""
    masked = "sk_live_0123456789abcdefghij " * 20
    wrong = []
    for n in (1, 12, 16, 24, 30, 40, 50):
        places = {
            "printable": printable(cut_in(1000 - n), 1000),
            "printable, masked before": printable(cut_in(1256 - n, masked), 1000),
            "printable, cut before": printable(cut_in(1000 - n)[:1000], 1000, cut=True),
            "payload": json_payload(cut_in(1000 - n)[:1000].encode(), 5000).text,
            "search, payload": of_json(cut_in(LIMIT - n, masked).encode()),
            "search, error": joined("", cut_in(LIMIT - n, masked)),
            "search, stack": ends(cut_in(LIMIT - n)) or "",
            "search, end of a stack": ends(f"{'b ' * 10_000} {TOKEN}{' a' * LIMIT}"[: 20_052 + LIMIT - n]) or "",
            "pickle": str(describe(cut_in(TEXT_LIMIT - n))),
            "pickled bytes": str(describe(cut_in(TEXT_LIMIT - n).encode())),
        }
        wrong += [(n, name) for name, text in places.items() if "x1y2" in mask_text(text)]
    assert wrong == []
