"""Secrets of the settings that stand in the environment or in files of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.settings.secret_references import MAX_FILE_BYTES

KEY = "k" * 40


def test_texts_of_the_file_are_filled_in_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("https://hooks.example/T0/B0\n")
    (tmp_path / "q.toml").write_text(
        f"""
        secret_key = "${{KEY}}"
        dlq_queues = ["${{TEAM}}-dead", "cost-$5", "plain"]
        [[sources]]
        name = "a"
        url = "redis://:${{PASSWORD}}@a:6379/0"
        [[channels]]
        id = "ops"
        kind = "slack"
        url = "${{file:{tmp_path}/hook}}"
        """
    )
    environ = {"KEY": KEY, "TEAM": "shop", "PASSWORD": "${KEY}"}
    settings = load(config=tmp_path / "q.toml", environ=environ)
    assert settings.secret_key == KEY
    assert settings.dlq_queues == ("shop-dead", "cost-$5", "plain")
    assert settings.sources[0].url == "redis://:${KEY}@a:6379/0"  # what is put in is not looked through again
    assert settings.channels[0]["url"] == "https://hooks.example/T0/B0"


def test_two_dollar_signs_are_an_escape(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text('dlq_queues = ["$${dead}", "$$", "${"]')
    assert load(config=tmp_path / "q.toml", environ={}).dlq_queues == ("${dead}", "$$", "${")


def test_a_variable_may_name_the_file_of_a_setting(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\r\n")
    assert load(environ={"QUEUEDECK_SECRET_KEY_FILE": f"{tmp_path}/key"}).secret_key == KEY
    (tmp_path / "tokens").write_text(f"ci:viewer:{'0' * 64},cd:admin:{'1' * 64}\n")
    assert len(load(environ={"QUEUEDECK_API_TOKENS_FILE": f"{tmp_path}/tokens"}).api_tokens) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${NOPE}", "the environment has no variable NOPE"),
        ("${}", "expected ${NAME} or ${file:/path}; write $${ for the characters ${"),
        ("${a b}", "expected ${NAME} or ${file:/path}; write $${ for the characters ${"),
        ("${KEY:-default}", "expected ${NAME} or ${file:/path}; write $${ for the characters ${"),
        ("${file:/nowhere/key}", "/nowhere/key cannot be read: No such file or directory"),
        ("${file:/}", "/ cannot be read: Is a directory"),
        ("${file:/proc/self/\\u0000}", "'/proc/self/\\x00': expected a UTF-8 text file"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "q.toml"
    path.write_text(f'[[channels]]\nid = "ops"\nurl = "{text}"')
    with pytest.raises(ConfigurationError) as caught:
        load(config=path, environ={"KEY": KEY})
    assert str(caught.value) == f"{path}: channels: {expected}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\xff\xfe", "expected a UTF-8 text file"),
        (b"x" * (MAX_FILE_BYTES + 1), f"expected at most {MAX_FILE_BYTES} bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, body: bytes, expected: str) -> None:
    (tmp_path / "key").write_bytes(body)
    with pytest.raises(ConfigurationError, match=expected):
        load(environ={"QUEUEDECK_SECRET_KEY_FILE": f"{tmp_path}/key"})


def test_a_setting_together_with_its_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    environ = {"QUEUEDECK_SECRET_KEY": KEY, "QUEUEDECK_SECRET_KEY_FILE": f"{tmp_path}/key"}
    with pytest.raises(ConfigurationError, match="expected either this or QUEUEDECK_SECRET_KEY, not both"):
        load(environ=environ)


def test_a_file_of_no_setting_is_refused_as_that_setting_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    with pytest.raises(ConfigurationError, match="unknown setting"):
        load(environ={"QUEUEDECK_SECRETKEY_FILE": f"{tmp_path}/key"})
