"""What is hidden, what is not, and that no text takes longer than its length."""

from __future__ import annotations

import time

import pytest

from dashboard.redact import MASK, is_secret_name, mask_text

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    "name",
    [
        *("password", "Passwort", "db_pass", "PASS", "pwd", "userPwd", "api_key", "apiKey", "X-Api-Key", "access token"),
        *("refresh_token", "client_secret", "AUTH", "authorization", "Set-Cookie", "otp", "pin", "pan", "dsn", "SENTRY_DSN"),
        *("connection_string", "webhook_url", "signature", "jwt", "iban", "card", "cvv", "db.password", "proxy-auth"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["author", "passenger", "compass", "pinned", "company", "spanner", "description", "cardinal", "key", "id", ""]
)
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("connect(password='opensesame', host='db')", f"connect(password='{MASK}', host='db')"),
        ('{"password": "a\\"b", "n": 1}', f'{{"password": "{MASK}", "n": 1}}'),
        ('{"body": "{\\"password\\": \\"x\\"}"}', f'{{"body": "{{\\"password\\": \\"{MASK}\\"}}"}}'),
        ("{'api_key': 'x', 'n': 1}", f"{{'api_key': '{MASK}', 'n': 1}}"),
        ("password=opensesame token=abcdefgh done", f"password={MASK} token={MASK} done"),
        ("GET /?token=abc&page=2", f"GET /?token={MASK}&page=2"),
        ("Authorization: Bearer zyxwvu", f"Authorization: {MASK}"),
        ("sent Bearer zyxwvuzyxwvu to", f"sent {MASK} to"),
        ("postgres://bob:hunter2@db:5432/x", f"postgres://{MASK}@db:5432/x"),
        (f"token is {JWT}.", f"token is {MASK}."),
        (":password => \"x\"", f':password => "{MASK}"'),
        ("error: password: None given", "error: password: None given"),
        ("author=ann page=2", "author=ann page=2"),
        ("Key 'a' not found: b", "Key 'a' not found: b"),
        ("https://hooks.slack.com/services/T000/B000/XXXX1234", f"https://hooks.slack.com/services/{MASK}"),
    ],
)
def test_what_stands_behind_a_name_or_has_the_shape(text: str, shown: str) -> None:
    assert mask_text(text) == shown


# Texts that a pattern with more than one way to read them would look at again and again.
PUMPS = (
    *("eyJ", "-eyJ", "eyJaaaaaaaa.", ".eyJaaaaaaaa", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "ghp_", "xoxb-", "sk-"),
    *("://", "://a:", "://a@", "a:b@", "password", "password=", "password='", 'password="', "password=\\", 'a="', "a='"),
    *("Bearer ", "bearer", "a.", "a-", "_", "a=b ", "a:", "password: ", '\\"', "AKIA", "SG.aaaaaaaaaaaaaaaa.", "token token "),
)


@pytest.mark.parametrize("pump", PUMPS)
def test_a_long_text_takes_as_long_as_it_is_long(pump: str) -> None:
    """By steps, not by a clock: twice the text may cost no more than about twice the time of the processor."""
    short, long = (pump * (size // len(pump)) for size in (100_000, 800_000))

    def cost(text: str) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.thread_time()
            mask_text(text)
            best = min(best, time.thread_time() - began)
        return best

    assert cost(long) < 8 * 4 * max(cost(short), 0.002)
