"""What the API, /metrics and the channels say of jobs of the real libraries. One stage for the whole file."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.channels.fake_providers import HttpSink, status
from tests.alerts.channels.smtp import SmtpSink
from tests.conftest import start_server
from tests.golden import files
from tests.golden.apps import SHIPPED_OFF, running_app
from tests.golden.files import same_as_committed
from tests.golden.shapes import Names, fits, shape_of, unite
from tests.golden.stage import RULES, Stage, channels, lose, play

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # of Apprise

NAMES = Names(
    maps=("native_counts", "facts", "outcomes"),
    free=("payload", "options", "meta", "result", "progress", "priority"),
    words=(
        "state",
        "kind",
        "outcome",
        "severity",
        "backend",
        "flow_quality",
        "role",
        "action",
        "code",
        "origin",
        "unit",
    ),
)
MESSAGE = Names(free=("spark",), words=("type", "kind", "severity", "event_action", "style"))
_SAMPLE = re.compile(r"(?P<name>[a-z0-9_]+)(\{(?P<labels>.*)\})? ")
_LABEL = re.compile(r'(\w+)="')


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """All that was answered and sent."""
    with ExitStack() as stack:
        server = start_server("redis-7")
        stack.callback(server.close)
        http, smtp = HttpSink(), SmtpSink()
        stack.callback(http.close)
        stack.callback(smtp.close)
        http.answers = [status(200, b'{"ok": true}')]
        settings: dict[str, Any] = {
            "rules": [*SHIPPED_OFF, *RULES],
            "channels": channels(http, smtp),
            "sample_interval_s": 0.5,
            "allow_private_webhooks": True,
            "public_url": "https://queues.example.com",
        }
        app = stack.enter_context(running_app(server.url, tmp_path_factory.mktemp("stage"), **settings))
        stage = Stage(app, server.url, http, smtp)
        stack.callback(stage.redis.close)
        play(stage)
        server.close()
        lose(stage)
    return stage


def test_answers(stage: Stage) -> None:
    """Each answer of the API by route, method and status; one file for each first part of the path."""
    files: dict[str, dict[str, Any]] = defaultdict(dict)
    for where, by_status in stage.answers.items():
        part = where.removeprefix("/api/v1/").partition(" ")[0].partition("/")[0].strip("()")
        files[part][where] = {code: shape_of(answers, NAMES) for code, answers in by_status.items()}
    for part, found in files.items():
        same_as_committed(f"shapes/{part}", found, fits, unite)


def test_metrics(stage: Stage) -> None:
    found: dict[str, dict[str, Any]] = {}
    for line in stage.metrics.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            found[name] = {"type": kind, "labels": []}
        elif sample := _SAMPLE.match(line):
            labels = found[sample["name"]]["labels"]
            labels += [label for label in _LABEL.findall(sample["labels"] or "") if label not in labels]
    for metric in found.values():
        metric["labels"].sort()  # the samples have no order
    same_as_committed("metrics", found, lambda found, promised: _label_sets(found) == _label_sets(promised))


def _label_sets(metrics: dict[str, dict[str, Any]]) -> dict[str, tuple[str, set[str]]]:
    """The metrics without the order of their labels, which means nothing to Prometheus."""
    return {name: (metric["type"], set(metric["labels"])) for name, metric in metrics.items()}


def test_messages(stage: Stage) -> None:
    """What each channel is sent, by the kind of the message."""
    found = {
        channel: {kind: shape_of(sent, MESSAGE) for kind, sent in kinds.items()}
        for channel, kinds in stage.messages.items()
    }
    same_as_committed("alerts", found)


@pytest.mark.parametrize(
    ("found", "promised", "fit"),
    [
        ({"a": "null"}, {"a": "integer|null"}, True),
        ({"a": "string"}, {"a": "integer|null"}, False),
        ({"a": []}, {"a": [{"b": "integer"}]}, True),
        ({"a": [{"c": "integer"}]}, {"a": [{"b": "integer"}]}, False),
        ({}, {"a": "integer"}, False),
        ({}, {"a?": "integer"}, True),
        ({"a": "integer"}, {"a?": "integer"}, True),
        ({"a?": "integer"}, {"a": "integer"}, False),
        ({"a": "integer", "b": "integer"}, {"a": "integer"}, False),
        ({"a": {"*": "integer"}}, {"a": {"*": "integer"}}, True),
        ({"a": {}}, {"a": {"*": "integer"}}, True),
        ({"a": {"b": "null"}}, {"a": {"one of": ["null", {"b": "integer|null"}]}}, True),
        ({"a": "string"}, {"a": {"one of": ["null", {"b": "integer"}]}}, False),
    ],
)
def test_what_goes_beyond_a_promise_does_not_fit(found: Any, promised: Any, fit: bool) -> None:
    assert fits(found, promised) is fit


@pytest.mark.parametrize(
    ("found", "promised", "united"),
    [
        ({"a": "null"}, {"a": "integer|null"}, {"a": "integer|null"}),
        ({"a": "string"}, {"a": "integer|null"}, {"a": "integer|null|string"}),
        ({"a": []}, {"a": [{"b": "integer"}]}, {"a": [{"b": "integer"}]}),
        ({"a": [{"b": "null", "c": "null"}]}, {"a": [{"b": "integer"}]}, {"a": [{"b": "integer|null", "c": "null"}]}),
        ({"b": "null"}, {"a": "integer"}, {"a": "integer", "b": "null"}),
        ({"a?": "null"}, {"a": "integer"}, {"a": "integer|null"}),
        ({"a": "null"}, {"a?": "integer"}, {"a?": "integer|null"}),
        ({"*": "null"}, {"*": "integer"}, {"*": "integer|null"}),
        ({"a": "string"}, {"a": {"one of": ["null", ["integer"]]}}, {"a": {"one of": ["null|string", ["integer"]]}}),
        ({"a": ["null"]}, {"a": {"one of": ["null", ["integer"]]}}, {"a": {"one of": ["null", ["integer|null"]]}}),
        ("any", {"a": "integer"}, "any"),
        ("string", "any", "any"),
    ],
)
def test_writing_takes_no_promise_back(found: Any, promised: Any, united: Any) -> None:
    assert unite(found, promised) == united


def test_writing_leaves_a_file_that_fits_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    monkeypatch.setenv(files.WRITE, "1")
    written = tmp_path / "some.json"
    for found, text in (
        ({"a": "integer|null"}, '{\n "a": "integer|null"\n}\n'),
        ({"a": "null"}, '{\n "a": "integer|null"\n}\n'),
        ({"a": "string"}, '{\n "a": "integer|null|string"\n}\n'),
    ):
        same_as_committed("some", found, fits, unite)
        assert written.read_text() == text
