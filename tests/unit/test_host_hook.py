"""The function of the host application that hides more: what it can do, and what happens when it fails."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from dashboard import create_app, mount
from dashboard.backends.payloads.decoding import written
from dashboard.backends.payloads.editing import InvalidPayload, decoded_edit, with_originals
from dashboard.backends.payloads.masking import mask_payload
from dashboard.errors import ConfigurationError
from dashboard.redact import (
    MASK,
    load_hook,
    mask_text,
    masked_logger,
    masks_lifted,
    name_hook,
    without_cut_line,
    without_cut_word,
)
from dashboard.redact.host_hook import FAILED, MAX_PARTS, MAX_PLACES, RedactHook
from dashboard.settings import load
from dashboard.settings.redaction import rules_of
from tests.redaction import any_redaction, masking_by

NO_REDIS = "redis://127.0.0.1:1/0"


def names_of(text: str) -> list[str]:
    """The customers that a text names."""
    names = ("Ann", "Ann Smith", "Zoë", "🦊", "4711", "aba", 'O"Neil', "a/b", "line\nnext", "it's")
    return [name for name in names if name in text]


@pytest.fixture
def by_name() -> Iterator[None]:
    with masking_by(hook=names_of):
        yield


@pytest.mark.usefixtures("by_name")
@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail to Ann, then Ann", f"mail to {MASK}, then {MASK}"),
        ("mail to Ann Smith", f"mail to {MASK}"),  # parts that overlap
        ("mail to ababa", f"mail to {MASK}"),  # a part that overlaps itself
        ("mail to Bob", "mail to Bob"),
        ("password=x for Ann", f"password={MASK} for {MASK}"),
        ("password=Ann", f"password={MASK}"),
        ('{"a": "Zo\\u00eb", "b": 1}', f'{{"a": "{MASK}", "b": 1}}'),
        ('{"a": "\\ud83e\\udd8a"}', f'{{"a": "{MASK}"}}'),
        ('{"a": "\\u00e9t\\u00e9"}', '{"a": "\\u00e9t\\u00e9"}'),
        ("\\u0041\\u006e\\u006e\\u000a", f"{MASK}\n"),  # beside a letter that cannot be printed
        ("\\ud800\\u0041nn", f"\\ud800{MASK}"),
        (r'{"a": "O\"Neil"}', f'{{"a": "{MASK}"}}'),
        (r"a\/b, line\nnext, it\'s", f"{MASK}, {MASK}, {MASK}"),
        (r'{"a": "{\"b\": \"O\\\"Neil\"}"}', f'{{"a": "{{"b": "{MASK}"}}"}}'),  # JSON in JSON
        (r"C:\new\table", r"C:\new\table"),
        ("", ""),
    ],
)
def test_parts_that_it_names_are_hidden(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.usefixtures("by_name")
def test_keys_values_and_numbers_of_payloads_are_hidden() -> None:
    payload = {"Ann": [1, 4711, {"deep": ["to Zoë"]}], "ok": True, "none": None}
    masked = {MASK: [1, MASK, {"deep": [f"to {MASK}"]}], "ok": True, "none": None}
    assert mask_payload(payload) == (masked, False)


def test_where_a_text_is_cut_nothing_is_left_of_a_word() -> None:
    with masking_by(hook=names_of):
        assert without_cut_word("customer Müller-Lüdensch") == "customer "
        assert without_cut_word("customer") == ""
        assert without_cut_line("ller-Lüdenscheid paid") == " paid"
        assert without_cut_line("ller-Lüdenscheid") == ""
        assert without_cut_line("half\nwhole") == "whole"


@pytest.mark.usefixtures("by_name")
def test_what_it_hides_cannot_be_revealed() -> None:
    with masks_lifted():
        assert mask_text("password=x for Ann") == f"password=x for {MASK}"
        assert mask_payload({"password": "x", "Ann": 4711}) == ({"password": "x", MASK: MASK}, False)


@pytest.mark.usefixtures("by_name")
def test_an_edited_payload_keeps_what_it_hides() -> None:
    stored = {"to": "Ann Smith", "number": 4711, "n": 1}
    shown = mask_payload(stored, exact=True)[0]
    assert shown == {"to": MASK, "number": MASK, "n": 1}
    edited = decoded_edit(json.dumps({**shown, "n": 2}))
    kept = written(with_originals(edited, json.dumps(stored).encode(), "payload"))
    assert json.loads(kept) == {"to": "Ann Smith", "number": 4711, "n": 2}
    with pytest.raises(InvalidPayload, match="payload"):
        with_originals(decoded_edit(json.dumps({**shown, "new": MASK})), json.dumps(stored).encode(), "payload")


@pytest.mark.usefixtures("by_name")
def test_log_lines_hide_it_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        masked_logger("dashboard.tests.hook").info("no mail for %s", "Ann")
    assert caplog.messages == [f"no mail for {MASK}"]


def raises(text: str) -> Iterable[str]:
    raise ValueError(text)


def exits(text: str) -> Iterable[str]:
    raise SystemExit(text)


def raises_later(text: str) -> Iterable[str]:
    yield "a"
    raise ValueError(text)


@pytest.mark.parametrize(
    "hook", [raises, exits, raises_later, lambda text: text, lambda text: None, lambda text: [text, 1]]
)
def test_a_text_that_it_fails_for_is_hidden_as_a_whole(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    with masking_by(hook=hook), caplog.at_level(logging.DEBUG):
        assert mask_text("open sesame") == FAILED
        assert mask_payload({"open": ["sesame", 7]}) == ({FAILED: [FAILED, MASK]}, False)
        with masks_lifted():
            assert mask_text("open sesame") == FAILED
    (line,) = caplog.messages  # once, and without the text
    assert "the redact hook tests:hook failed: " in line
    assert "sesame" not in caplog.text


def test_more_parts_than_there_can_be_hide_the_text() -> None:
    with masking_by(hook=lambda text: (f"{n}" for n in range(MAX_PARTS + 1))):
        assert mask_text("1 of many") == MASK
    with masking_by(hook=lambda text: ["a"]):
        assert mask_text("a" * MAX_PLACES) == MASK
        assert mask_text("ab" * MAX_PLACES) == f"{MASK}b" * MAX_PLACES
        assert mask_text("ab" * (MAX_PLACES + 1)) == MASK


def test_it_is_not_called_for_what_it_logs_itself(caplog: pytest.LogCaptureFixture) -> None:
    log = masked_logger("dashboard.tests.hook")

    def logs(text: str) -> list[str]:
        log.info("looking at %s", text)
        return ["Ann"]

    with masking_by(hook=logs), caplog.at_level(logging.INFO):
        assert mask_text("to Ann") == f"to {MASK}"
    assert caplog.messages == [MASK]


def test_threads_call_it_at_the_same_time() -> None:
    inside = threading.Barrier(2, timeout=60)

    def waits(text: str) -> list[str]:
        inside.wait()
        return ["Ann"]

    found: list[str] = []
    with masking_by(hook=waits):
        threads = [threading.Thread(target=lambda: found.append(mask_text("to Ann"))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [f"to {MASK}"] * 2


class Customers:
    """A hook with a state of its own."""

    def __call__(self, text: str) -> list[str]:
        """All of it."""
        return [text]

    @staticmethod
    def find(text: str) -> list[str]:
        """All of it."""
        return [text]


def test_a_setting_names_it() -> None:
    for name in ("tests.unit.test_host_hook:names_of", "tests.unit.test_host_hook:Customers.find"):
        with any_redaction():
            rules = rules_of(load(environ={"QUEUEDECK_REDACTION": json.dumps({"hook": name})}).redaction)
            assert rules.hook is not None
            assert rules.hook.mask("Ann") == MASK
            assert rules == rules_of(load(keywords={"redaction": {"hook": name}}).redaction)


@pytest.mark.parametrize("hook", [names_of, Customers(), Customers.find, Customers().__call__, lambda text: [text]])
def test_a_function_has_a_name_by_which_it_is_found(hook: RedactHook) -> None:
    name = name_hook(hook)
    load(keywords={"redaction": {"hook": name}})
    assert load_hook(name).function == hook


@pytest.mark.parametrize("name", ["names_of", "tests:", ":names_of", "tests names:x", "tests:x()", "../tests:x", ""])
def test_a_setting_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="hook: expected module:function"):
        load(keywords={"redaction": {"hook": name}})


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tests.no_such:find", "cannot be imported: ModuleNotFoundError"),
        ("tests.unit.test_host_hook:no_such", "cannot be imported: AttributeError"),
        ("tests.unit.test_host_hook:FAILED", "expected a function"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        load_hook(name)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="redact: expected a function"):
        name_hook("tests.unit.test_host_hook:names_of")


def test_an_application_passes_it() -> None:
    with any_redaction():
        create_app(redis_url=NO_REDIS, redact=names_of)
        assert mask_text("to Ann") == f"to {MASK}"
    with any_redaction():
        mount(lambda environ, respond: [], "/queues", redis_url=NO_REDIS, redact=names_of)
        assert mask_text("to Ann") == f"to {MASK}"


def test_an_application_that_passes_another_one_than_the_settings_is_refused() -> None:
    with any_redaction():
        with pytest.raises(ConfigurationError, match="redact=…, not both"):
            create_app(redis_url=NO_REDIS, redaction={"hook": "json:dumps"}, redact=names_of)
        create_app(redis_url=NO_REDIS, redaction={"hook": "tests.unit.test_host_hook:names_of"}, redact=names_of)
        with pytest.raises(ConfigurationError, match="the same in all dashboards"):
            create_app(redis_url=NO_REDIS, redact=Customers.find)
