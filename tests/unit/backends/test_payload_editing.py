"""A payload that was shown masked and comes back changed: what is still masked keeps its value, or all is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dashboard.backends.payloads.decoding import json_payload, loads, written
from dashboard.backends.payloads.editing import InvalidPayload, decoded_edit, with_originals
from dashboard.redact import MASK

STORED: dict[str, Any] = {
    "user": "ann",
    "password": "opensesame",
    "pin": 1234,
    "db": "postgres://app:hunter2@db/x",
    "secret": {"a": ["s1", {"b": "s2"}]},
    "logins": [{"user": "ann", "password": "p1"}, {"user": "bob", "password": "p2"}],
    "headers": [["Accept", "*/*"], ["Authorization", "Bearer x"]],
    "fields": [{"name": "token", "value": "t1"}, {"name": "color", "value": "red"}],
    "ftp://u:p@h/": 1,
    "twice": [{"token": "a"}, {"token": "b"}],
}


def shown(stored: Any = STORED) -> Any:
    return json.loads(json_payload(json.dumps(stored).encode()).text)


def run(edited: Any, stored: Any = STORED) -> Any:
    text = edited if isinstance(edited, str) else json.dumps(edited)
    original = stored if isinstance(stored, bytes) else json.dumps(stored).encode()
    return json.loads(written(with_originals(decoded_edit(text), original, "data")))


def test_what_was_not_changed_is_as_it_is_stored() -> None:
    text = json_payload(json.dumps(STORED).encode()).text
    assert text.count(MASK) == 11
    assert run(text) == STORED


@pytest.mark.parametrize("path", [("user",), ("password",), ("logins", 0, "user"), ("fields", 1, "value")])
def test_changes_stay_and_the_rest_keeps_its_secrets(path: tuple[str | int, ...]) -> None:
    edited, wanted = shown(), json.loads(json.dumps(STORED))
    for value in (edited, wanted):
        for part in path[:-1]:
            value = value[part]
        value[path[-1]] = "new"
    edited["more"] = wanted["more"] = [1, {"token": "mine"}]
    assert run(edited) == wanted


def test_lists_may_grow_and_shrink_at_their_ends_where_it_is_clear_what_is_meant() -> None:
    edited = shown()
    edited["logins"].append({"user": "eve", "password": "p3"})
    assert run(edited)["logins"] == [*STORED["logins"], {"user": "eve", "password": "p3"}]
    edited["logins"] = shown()["logins"][:1]
    assert run(edited)["logins"] == STORED["logins"][:1]


@pytest.mark.parametrize(
    ("change", "path", "why"),
    [
        (lambda it: it.update(user=MASK), "data.user", "no masked value here"),
        (lambda it: it.update(new={"a": [MASK]}), "data.new.a[0]", "no masked value here"),
        (lambda it: it.update(password={"a": MASK}), "data.password.a", "no masked value here"),
        (lambda it: it.update(db=f"postgres://{MASK}@evil/x"), "data.db", "text around"),
        (lambda it: it.update(password=f" {MASK}"), "data.password", "text around"),
        (lambda it: it.update(pass_word=it.pop("password")), "data.pass_word", "no masked value here"),
        (lambda it: it["logins"].pop(0), "data.logins[0]", "moved or removed"),
        (lambda it: it["logins"].reverse(), "data.logins[0]", "moved or removed"),
        (lambda it: it["logins"].insert(0, {"user": "eve"}), "data.logins[1]", "moved or removed"),
        (lambda it: it["twice"].pop(0), "data.twice[0]", "moved or removed"),
        (lambda it: it["twice"].append({"token": MASK}), "data.twice[2].token", "no masked value here"),
        (lambda it: it.update({f"http://{MASK}@h/": 1}), f'data["http://{MASK}@h/"]', "no such key"),
    ],
)
def test_an_ambiguous_mask_is_rejected(change: Any, path: str, why: str) -> None:
    edited = shown()
    change(edited)
    with pytest.raises(InvalidPayload) as caught:
        run(edited)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)
    assert "Enter the full" in str(caught.value)


def test_what_is_stored_now_counts() -> None:
    edited = shown()
    with pytest.raises(InvalidPayload, match=r"data\.pin: the current job has no masked value here"):
        run(edited, {**STORED, "pin": None})
    assert run(edited, {**STORED, "pin": 98765})["pin"] == 98765


@pytest.mark.parametrize(
    "stored", [b"{broken", b'{"password": NaN}', json.dumps({"a": [[]] * 30_000, "password": "x"}).encode()]
)
def test_nothing_is_restored_into_a_truncated_payload(stored: bytes) -> None:
    with pytest.raises(InvalidPayload, match=r"data\.password: .* too large to show in full, or not JSON"):
        run({"password": MASK}, stored)
    assert run({"password": "new"}, stored) == {"password": "new"}


def test_a_part_that_was_cut_is_not_run_as_it_was_shown() -> None:
    stored: Any = {"a": "…"}
    for _ in range(80):
        stored = {"deep": stored}
    with pytest.raises(InvalidPayload, match="too large to show here"):
        run(shown(stored), stored)
    assert run({"a": "…"}, {"a": "…"}) == {"a": "…"}


@pytest.mark.parametrize("text", ["", "{", "[NaN]", '"\\ud800', "[" * 100_000, "[" * 500 + "]" * 500])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidPayload, match="The payload is"):
        decoded_edit(text)


EXACT = (
    *("1.50", "1e400", "-0", "0.1000000000000000055511151231257827", "12345678901234567890123", "9" * 5000, "1E+2"),
    *(
        '"\\udb40\\udc67"',
        '"a\\u00adb"',
        '"\\ud800"',
        '"\\u0000\\u001f"',
        '"\\u202e"',
        '"ü€😀"',
        '"\\\\u00ad"',
        "[]",
        "{}",
    ),
)


@pytest.mark.parametrize("raw", EXACT)
def test_the_text_of_a_form_leads_back_to_the_same_json(raw: str) -> None:
    stored = f'{{"a": [{raw}], "password": {raw}}}'.encode()
    text = json_payload(stored).text
    text.encode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in text)
    back = with_originals(decoded_edit(text), stored, "data")
    assert back == loads(stored, exact=True)
    assert loads(written(back).encode(), exact=True) == back


def test_masks_are_merged_in_linear_time() -> None:
    nested: Any = [{"token": f"t{n}"} for n in range(3000)]
    for _ in range(50):
        nested = [nested]
    assert run(shown(nested), nested) == nested
