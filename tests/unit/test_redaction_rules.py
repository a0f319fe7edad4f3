"""`[redaction]`: names and patterns that the settings add, names that they show, and what they refuse."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from dashboard import create_app
from dashboard.backends.monitored_sources import digest_settings, open_sources
from dashboard.backends.payloads import search_text
from dashboard.backends.payloads.decoding import json_payload, loads, written
from dashboard.backends.payloads.editing import InvalidPayload, decoded_edit, with_originals
from dashboard.backends.payloads.masking import mask_payload
from dashboard.errors import ConfigurationError
from dashboard.redact import MASK, RedactionRules, configure, is_hidden, mask_text
from dashboard.redact.value_patterns import MOST_IN_PIECE, PIECE, ValuePatterns
from dashboard.settings import RedactionSettings, load
from dashboard.settings.display import describe
from dashboard.settings.redaction import rules_of
from tests.processes import ROOT
from tests.redaction import any_redaction, masking_by

NAMES = ("customer_id", "email", "*birth*", "full name", "hiv")

MASKED = (
    ("{'customer_id': 'x', 'n': 1}", f"{{'customer_id': '{MASK}', 'n': 1}}"),
    ('{"customerId": 4711, "n": 1}', f'{{"customerId": {MASK}, "n": 1}}'),
    ('{"Customer-ID": ["x", {"a": 1}], "n": 1}', f'{{"Customer-ID": [{MASK}], "n": 1}}'),
    ('{"customer id": "x", "n": 1}', f'{{"customer id": "{MASK}", "n": 1}}'),
    ('{"hiv": true, "n": 1}', f'{{"hiv": {MASK}, "n": 1}}'),
    ('{"hiv": "no", "n": "no"}', f'{{"hiv": "{MASK}", "n": "no"}}'),
    ('{"body": "{\\"email\\": \\"x\\", \\"n\\": 1}"}', f'{{"body": "{{\\"email\\": \\"{MASK}\\", \\"n\\": 1}}"}}'),
    ('{"name": "email", "value": "x"}', f'{{"name": "email", "value": "{MASK}"}}'),
    ('[["Accept", "a"], ["Customer-Id", "x"]]', f'[["Accept", "a"], ["Customer-Id", "{MASK}"]]'),
    (
        "pay(user.email='x', date_of_birth=datetime(1990, 1, 2), n=3)",
        f"pay(user.email='{MASK}', date_of_birth={MASK}(1990, 1, 2), n=3)",
    ),
    ("no customer with email=ann@example.com, try again", f"no customer with email={MASK}, try again"),
    ("Full Name: Ann Smith order=5", f"Full Name: {MASK} order=5"),
    ("GET /?email=a%40b.c&page=2", f"GET /?email={MASK}&page=2"),
    ("next=%2F%3Femail%3Dx%26page%3D2", f"next=%2F%3Femail%3D{MASK}%26page%3D2"),
    ("Customer-Id: x\nHost: y", f"Customer-Id: {MASK}\nHost: y"),
    ("notify --customer-id x --dry-run", f"notify --customer-id {MASK} --dry-run"),
    ("<Email>x</Email>", f"<Email>{MASK}</Email>"),
    ("('customer_id', 'x')", f"('customer_id', '{MASK}')"),
    ("{&quot;email&quot;: &quot;x&quot;}", f"{{&quot;email&quot;: &quot;{MASK}&quot;}}"),
    # built in, as ever
    ("password=x token_count=3", f"password={MASK} token_count=3"),
)
SHOWN = (
    "customer=x",
    "email sent",
    "customer_id: None",
    '{"email": null, "emails": "x"}',
    "the full name of it",
    "archive=7",
)


def test_names_of_the_settings_are_hidden_wherever_built_in_ones_are() -> None:
    with masking_by(names=NAMES):
        assert {text: mask_text(text) for text, _ in MASKED} == dict(MASKED)
        assert {shown: mask_text(shown) for _, shown in MASKED} == {shown: shown for _, shown in MASKED}
        assert {text: mask_text(text) for text in SHOWN} == {text: text for text in SHOWN}
    assert mask_text("email=x") == "email=x"


def test_names_of_the_settings_hide_all_values_but_nothing() -> None:
    values = ("x", "true", 0, 7, True, False, ["a"], {"a": 1})
    with masking_by(names=NAMES):
        assert [value for value in values if not is_hidden("user.customerID", value)] == []
        assert [value for value in (None, "", [], {}) if is_hidden("email", value)] == []
        assert mask_payload({"a": [{"E-Mail": 1, "emails": 2}]}) == ({"a": [{"E-Mail": MASK, "emails": 2}]}, False)


PAYLOADS: tuple[dict[str, Any], ...] = (
    {"Full Name": "x1x", "n": 1},
    {"date of birth (old)": "x1x", "n": 1},
    {"2nd birthday": "x1x"},
    {"api key!": "x1x"},
    {"2fa_secret": "x1x"},
    {"user password (old)": "x1x"},
    {"a": [["email", "x1x"]], "b": {"email": {"c": ["x1x"]}}},
)


def test_a_search_sees_no_more_than_the_page() -> None:
    """The text of a search is masked without decoding it, the payload of the page after that."""
    with masking_by(names=NAMES):
        texts = [search_text.of_json(json.dumps(payload).encode()) for payload in PAYLOADS]
        pages = [json_payload(json.dumps(payload).encode()).text for payload in PAYLOADS]
    assert [text for text in (*texts, *pages) if "x1x" in text or MASK not in text] == []


def test_allowed_names_are_shown_but_no_shape_of_a_secret() -> None:
    token = f"ghp_{'a1B2c3D4e5' * 4}"
    with masking_by(names=("session_token",), allow=("session_id", "Signature", "session token", "authorization")):
        assert not is_hidden("sessionId", "x")
        assert not is_hidden("web.signature", "x")
        assert is_hidden("session_id_2_token", "x")
        shown = "session_id=x {'signature': 'y'} session id: z"
        assert mask_text(shown) == shown
        assert mask_text(f"signature={token} session_token=x") == f"signature={MASK} session_token={MASK}"
        assert mask_text("Authorization: Bearer zyxwvuzyxw") == f"Authorization: Bearer {MASK}"


def test_patterns_hide_values_in_texts_names_and_numbers() -> None:
    stored = {
        "id": "CUST-12345678",
        "n": 40212345678,
        "m": 5,
        "CUST-1": [1.5],
        "CUST-22345678": {"a": "at CUST-32345678!"},
    }
    with masking_by(patterns=("CUST-[0-9]{8}", "402[0-9]{8}", "Ähre[0-9]")):
        shown = json.loads(json_payload(json.dumps(stored).encode()).text)
        assert shown == {"id": MASK, "n": MASK, "m": 5, "CUST-1": [1.5], MASK: {"a": f"at {MASK}!"}}
        assert mask_text("éé CUST-12345678Ähre5 \udce9 \ud83c.CUST-12345678") == f"éé {MASK}{MASK} \udce9 \ud83c.{MASK}"
        shown["m"] = 6
        kept = json.loads(written(with_originals(decoded_edit(json.dumps(shown)), json.dumps(stored).encode(), "data")))
        assert kept == {**stored, "m": 6}
        shown["id"] = f"x{MASK}"
        with pytest.raises(InvalidPayload, match="id"):
            with_originals(decoded_edit(json.dumps(shown)), loads(json.dumps(stored).encode(), exact=True), "data")


def test_values_are_found_in_every_piece_of_a_long_text() -> None:
    value = "CUST-12345678"
    patterns = ValuePatterns(("CUST-[0-9]{8}", "[a-z]{3}é+", "x[0-9]+x"))
    for before in range(PIECE - 30, PIECE + 5):
        masked = patterns.mask("é" * (before // 2) + " " * (before % 2) + value + " tail")
        assert masked.endswith(f"{MASK} tail"), before
        assert "CUST" not in masked
    # One that is longer than a piece is hidden with the rest of the word, and so is what follows too many.
    assert patterns.mask(f"a abc{'é' * PIECE}-rest end") == f"a {MASK} end"
    many = patterns.mask(f"{value}," * (PIECE // 14))
    assert many.count(MASK) <= MOST_IN_PIECE + 1
    assert "CUST" not in many


@pytest.mark.parametrize("pattern", ["a|a.*b", "(a*)*b|a", "(?:a|aa|a.*)c|a", "[ab]*a[ab]{14}c|a"])
def test_no_pattern_takes_more_than_linear_time(pattern: str) -> None:
    """Counted, not timed: each search reads at most one piece, and no piece is searched more often than the limit."""
    searched = 0
    patterns = ValuePatterns((pattern,))
    (compiled,) = patterns._patterns

    class Counting:
        def search(self, raw: bytes, at: int, end: int) -> Any:
            nonlocal searched
            searched += end - at
            return compiled.search(raw, at, end)

    patterns._patterns = (Counting(),)
    for size in (20_000, 80_000):
        searched = 0
        assert "a" not in patterns.mask("a" * size)
        assert searched <= (MOST_IN_PIECE + 1) * 2 * (size + PIECE)


REFUSED = (
    ({"names": ["x"]}, "names: 'x': expected a name of 2 to 64 characters"),
    ({"names": ["*"]}, "names: '*': expected a name"),
    ({"names": ["*-*"]}, "names: '*-*': expected a name"),
    ({"names": ["a" * 65]}, "expected a name of 2 to 64 characters"),
    ({"names": ["a[bc]"]}, "names: 'a[bc]': expected"),
    ({"names": ["ab"] * 201}, "names: expected at most 200"),
    ({"allow": ["session*"]}, "allow: 'session*': expected the whole name, without * and ?"),
    ({"patterns": ["("]}, "patterns: '(': expected a regular expression of RE2: missing ): ("),
    ({"patterns": [r"(a)\1"]}, "expected a regular expression of RE2: invalid escape sequence"),
    ({"patterns": ["(?=a)b"]}, "expected a regular expression of RE2"),
    ({"patterns": ["a*"]}, "expected a regular expression that matches only the values"),
    ({"patterns": [r"\b"]}, "expected a regular expression that matches only the values"),
    ({"patterns": ["."]}, "expected a regular expression that matches only the values"),
    ({"patterns": [r"\p{L}{9}"]}, "expected a simpler regular expression"),
    ({"patterns": ["x" * 201]}, "expected 1 to 200 printable characters"),
    ({"patterns": ["ab"] * 51}, "patterns: expected at most 50"),
    ({"name": ["ab"]}, "unknown field `name`"),
    ({"names": "email"}, "names`"),
)


def test_the_example_of_the_guide_hides_what_it_says(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/redaction.md").read_text(), re.DOTALL)
    (tmp_path / "q.toml").write_text(example)
    with any_redaction():
        configure(rules_of(load(config=tmp_path / "q.toml", environ={}).redaction))
        assert mask_text("CUST-12345678 session_id=x user.email=y") == f"{MASK} session_id=x user.email={MASK}"


def test_wrong_settings_are_refused_in_one_line() -> None:
    wrong = {}
    for given, expected in REFUSED:
        with pytest.raises(ConfigurationError) as caught:
            load(environ={}, keywords={"redaction": given})
        text = str(caught.value)
        if not text.startswith("keyword redaction: ") or expected not in text or "\n" in text:
            wrong[str(given)] = text
    assert wrong == {}
    with pytest.raises(ConfigurationError, match="QUEUEDECK_REDACTION: expected a JSON object"):
        load(environ={"QUEUEDECK_REDACTION": "email"})


def test_patterns_need_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    assert load(environ={}, keywords={"redaction": {"names": ["email"]}}).redaction.names == ("email",)
    with pytest.raises(ConfigurationError, match="google-re2") as caught:
        load(environ={}, keywords={"redaction": {"patterns": ["CUST-[0-9]"]}})
    assert caught.value.hint == "Install it with: pip install 'queuedeck[re2]'"


def test_the_settings_are_printed_as_they_are() -> None:
    settings = load(environ={}, keywords={"redaction": RedactionSettings(names=("email",), patterns=("C-[0-9]",))})
    assert '* redaction = {"names":["email"],"patterns":["C-[0-9]"],"allow":[],"hook":null}' in describe(settings)


def test_a_process_has_one_redaction() -> None:
    with masking_by(names=("email",)):
        configure(RedactionRules(names=("email",)))
        with pytest.raises(ConfigurationError, match="expected the same in all dashboards of one process"):
            configure(RedactionRules())
        assert mask_text("email=x") == f"email={MASK}"


def test_what_a_process_opens_decides_by_which_rules_it_masks() -> None:
    """Web processes, the checker and the commands all open their sources."""
    with any_redaction():
        open_sources(load(environ={}, keywords={"redaction": {"names": ["email"]}})).close()
        assert mask_text("email=x") == f"email={MASK}"
        with pytest.raises(ConfigurationError, match="redaction: expected the same"):
            create_app(auth="none", redaction={"names": ["phone"]})
    plain, other = (load(environ={}, keywords={"redaction": {"names": names}}) for names in ([], ["email"]))
    assert digest_settings(plain) == digest_settings(load(environ={})) != digest_settings(other)


def test_an_edit_keeps_what_names_of_the_settings_hide() -> None:
    stored = {"customerId": 4711, "hiv": True, "emails": [{"Email": ["a", "b"]}], "note": "full name: Ann Smith, 41"}
    with masking_by(names=NAMES):
        shown = json.loads(json_payload(json.dumps(stored).encode()).text)
        assert shown == {"customerId": MASK, "hiv": MASK, "emails": [{"Email": MASK}], "note": f"full name: {MASK}, 41"}
        shown["more"] = 1
        edited = with_originals(decoded_edit(json.dumps(shown)), json.dumps(stored).encode(), "data")
    assert json.loads(written(edited)) == {**stored, "more": 1}
