"""What a payload contains is shown with its secrets masked, and only as much as a page can hold."""

from __future__ import annotations

import json

import pytest

from dashboard.backends.payloads.decoding import json_payload
from dashboard.backends.payloads.masking import MAX_DEPTH, mask_payload
from dashboard.redact import MASK, is_secret_name


def test_depth_and_size_are_bounded() -> None:
    deep: object = "bottom"
    for _ in range(MAX_DEPTH + 10):
        deep = [deep]
    value, cut = mask_payload({"deep": deep, "wide": list(range(100_000))})
    assert cut
    assert "bottom" not in json.dumps(value)
    assert len(json.dumps(value)) < 500_000


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "db_password",
        "passwd",
        "apiKey",
        "api-key",
        "X-Api-Key",
        "client_secret",
        "accessToken",
        "Authorization",
        "cookie",
        "set-cookie",
        "card_number",
        "credit_card",
        "IBAN",
        "private_key",
    ],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret_name(name)
    assert mask_payload({"a": [{name: "hunter2"}]})[0] == {"a": [{name: MASK}]}


def test_pairs_and_names_are_masked_and_counts_are_not() -> None:
    stored = {
        "counts": {"pass": 12, "fail": 3, "max_tokens": 400, "pin": 1234},
        "fields": [{"name": "token", "value": "t"}, {"name": "color", "value": "red"}],
        "headers": [["Accept", "a"], ["Cookie", "b"]],
        "redis://u:p@h": 1,
        "redis://v:q@h": 2,
    }
    shown = {
        "counts": {"pass": 12, "fail": 3, "max_tokens": 400, "pin": MASK},
        "fields": [{"name": "token", "value": MASK}, {"name": "color", "value": "red"}],
        "headers": [["Accept", "a"], ["Cookie", MASK]],
        f"redis://{MASK}@h": 1,
        f"redis://{MASK}@h 2": 2,
    }
    assert mask_payload(stored)[0] == shown
    assert json_payload(json.dumps(stored).encode()).value == shown


@pytest.mark.parametrize("name", ["name", "to", "subject", "discard", "cardinality", "pass_count", "key", "author"])
def test_an_ordinary_field_is_shown(name: str) -> None:
    assert mask_payload({name: "value"})[0] == {name: "value"}
