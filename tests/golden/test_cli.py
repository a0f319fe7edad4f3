"""Every command and option of `queuedeck`, and the statuses with which it ends."""

from __future__ import annotations

import argparse
import io
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue

from dashboard.cli import main
from tests.golden.apps import SHIPPED_OFF
from tests.golden.files import same_as_committed
from tests.golden.shapes import shape_of
from tests.processes import ROOT

NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """What reads the arguments, as `main` made it."""
    seen: list[argparse.ArgumentParser] = []

    def stop(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        seen.append(self)
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(SystemExit):
            main([])
    return seen[0]


def _options(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The arguments of one command; of each what a script sees of it."""
    return {
        ", ".join(action.option_strings) or str(action.dest): {
            "default": None if action.default == argparse.SUPPRESS else action.default,
            "metavar": action.metavar,
            "required": action.required,
            "takes": "nothing" if action.nargs == 0 else getattr(action.type, "__name__", "str"),
        }
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
    }


def _commands(parser: argparse.ArgumentParser, name: str) -> dict[str, Any]:
    """The options of a command and of all commands in it, by their names."""
    found = {name: _options(parser)}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, command in action.choices.items():
                found |= _commands(command, f"{name} {word}")
    return found


def test_commands(parser: argparse.ArgumentParser) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    found = {"script": scripts, **_commands(parser, "queuedeck")}
    assert len(found) > 8
    same_as_committed("cli", found)


def _status(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as exc:
        return int(exc.code or 0)


def test_statuses(
    redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 done or ok; 2 a wrong setting or argument; of `check` the four of Nagios; of `doctor` what it found."""
    port = redis_client.connection_pool.connection_kwargs["port"]
    url = f"redis://127.0.0.1:{port}/0"
    Queue("mail", connection=redis_client).enqueue("app.send")
    monkeypatch.setenv("QUEUEDECK_SPOOL_DIR", str(tmp_path / "spool"))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("no_such = 1")
    found = {
        "--version": _status("--version"),
        "--help": _status("--help"),
        "(nothing)": _status(),
        "no-such-command": _status("no-such-command"),
        "serve --no-such-option": _status("serve", "--no-such-option"),
        "serve, wrong setting": _status("serve", "--config", str(wrong)),
        "checker, wrong setting": _status("checker", "--config", str(wrong)),
        "config": _status("config"),
        "config --check": _status("config", "--check"),
        "config --check, wrong setting": _status("config", "--check", "--config", str(wrong)),
        "doctor": _status("doctor", "--redis", url),
        "doctor, Redis down": _status("doctor", "--redis", NOBODY),
        "doctor, wrong setting": _status("doctor", "--config", str(wrong)),
        "doctor --acl": _status("doctor", "--acl", "--redis", url),
        "doctor --acl, Redis down": _status("doctor", "--acl", "--redis", NOBODY),
        "check, Redis down": _status("check", "--redis", NOBODY),
        "check, wrong setting": _status("check", "--config", str(wrong)),
    }
    for typed, told in (("a long password", "long enough"), ("short", "too short")):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{typed}\n"))
        found[f"hash-password, {told}"] = _status("hash-password")
    capsys.readouterr()
    assert _status("check", "--json", "--redis", NOBODY) == found["check, Redis down"]
    answers = [json.loads(capsys.readouterr().out)]
    for severity in ("warning", "critical", "none"):
        rules = [{"id": "deep", "metric": "queue.depth", severity: 0}] if severity != "none" else []
        monkeypatch.setenv("QUEUEDECK_RULES", json.dumps([*SHIPPED_OFF, *rules]))
        found[f"check, {severity}"] = _status("check", "--redis", url)
        assert capsys.readouterr().out.startswith("QUEUEDECK ")
        assert _status("check", "--json", "--redis", url) == found[f"check, {severity}"]
        answers.append(json.loads(capsys.readouterr().out))
    found["check, Redis down and no rule about it"] = _status("check", "--redis", NOBODY)
    same_as_committed("statuses", found)
    same_as_committed("check", shape_of(answers))
