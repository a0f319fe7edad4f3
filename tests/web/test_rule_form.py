"""The form of a rule: metrics in words, ids from names, amounts with units, and the preview beside it."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from msgspec.structs import replace
from rq import Queue

from dashboard.alerts.rules.metrics import METRICS
from dashboard.alerts.rules.rule import Rule
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.web.forms.rule_form import LABELS, MAX_ID, RuleForm, describe_changes, suggest_id
from dashboard.web.pages.alerts import rules
from dashboard.web.pages.alerts.rule_preview import parse_draft
from tests.web.conftest import MakeApp
from tests.web.test_rules import FORM, SAME, audit, post, rule, text

HTMX = {**SAME, "HX-Request": "true"}


@pytest.fixture
def client(make_app: MakeApp, jobs: list[str]) -> FlaskClient:
    """A browser on this machine: three jobs wait in `mail`."""
    return make_app().test_client()


def draft(client: FlaskClient, path: str = "/alerts/rules", **form: str) -> str:
    """The preview that the page asks for while somebody types."""
    answer = client.post(path, data=FORM | {"do": "preview"} | form, headers=HTMX)
    assert answer.status_code == 200
    assert "<!doctype" not in answer.text
    assert "HX-PTag" not in answer.headers  # the page may not have taken the last one
    return answer.text


def field_notes(fragment: str, kind: str) -> dict[str, str]:
    """The texts of one kind in a preview, by field."""
    return {name: unescape(told) for name, told in re.findall(rf'data-field="(\w+)" data-{kind}="([^"]*)"', fragment)}


def test_every_metric_has_a_name_in_words_of_its_own() -> None:
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    assert METRICS["queue.latency_s"].label == "Queue: oldest waiting job"
    assert METRICS["redis.memory_ratio"].label == "Redis: memory used"
    assert {metric.group for metric in METRICS.values()} == {
        "Queue",
        "Workers",
        "Redis",
        "Errors",
        "Schedules",
        "SLOs",
        "Queuedeck",
    }
    for metric in METRICS.values():
        assert metric.measure
        assert "{" not in metric.measure
        assert "(" not in metric.measure


def test_metrics_are_chosen_by_words_in_groups(client: FlaskClient) -> None:
    page = client.get("/alerts/rules/new").text
    groups = re.findall(r'<optgroup label="(\w+)">(.*?)</optgroup>', page, re.DOTALL)
    assert [name for name, _ in groups] == ["Queue", "Workers", "Redis", "Errors", "Schedules", "SLOs", "Queuedeck"]
    assert [text(option) for option in re.findall(r">\s*([^<]+)</option>", groups[1][1])] == [
        "Workers: running workers"
    ]
    assert "jobs waiting now, without scheduled and active jobs" in text(page)
    shown = text(draft(client, metric="queue.latency_s", warning="5 min"))
    assert "oldest waiting job duration" in shown
    assert "Queue: waiting jobs" in text(client.get("/alerts/rules").text)
    assert rule(client, "queue-dead")["metric_label"] == "Queue: dead letters"
    assert "Queue: oldest waiting job (age of the oldest" in text(client.get("/alerts/rule/queue-latency").text)


@pytest.mark.parametrize(
    ("name", "taken", "made"),
    [
        ("Mail: too deep", (), "mail-too-deep"),
        ("Mail: too deep", ("mail-too-deep",), "mail-too-deep-2"),
        ("mail", ("mail", "mail-2"), "mail-3"),
        ("Grüße  an ALLE!", (), "grusse-an-alle"),
        ("待機中", (), "rule"),
        ("--", ("rule",), "rule-2"),
        ("  ", (), ""),
        ("x" * 120, (), "x" * (MAX_ID - 8)),
    ],
)
def test_an_id_is_made_from_the_name(name: str, taken: tuple[str, ...], made: str) -> None:
    assert suggest_id(name, taken) == made


def test_a_rule_without_an_id_gets_one_and_replaces_none(client: FlaskClient) -> None:
    for made in ("queue-dead-2", "queue-dead-3"):  # the id itself is that of a built-in rule
        assert 'data-suggested="' + made in draft(client, id="", name="Queue: dead")
        answer = post(client, "/alerts/rules", **FORM | {"id": "", "name": "Queue: dead"})
        assert (answer.status_code, answer.location) == (303, f"/alerts/rule/{made}?said=made")
    assert rule(client, "queue-dead")["origin"] == "shipped"
    assert rule(client, "queue-dead-2")["version"] == 1
    nameless = post(client, "/alerts/rules", **FORM | {"id": "", "name": ""})
    assert nameless.status_code == 422
    assert "enter a name" in nameless.text
    page = post(client, "/alerts/rules", **FORM | {"id": "", "name": "Deep", "do": "preview"}).text
    assert re.search(r'<input name="id" value="" maxlength="64"\s+placeholder="deep"', page)


def test_an_id_that_was_taken_in_the_meantime_is_made_again(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse_late(form: RuleForm) -> Any:
        monkeypatch.setattr(rules, "parse_draft", parse_draft)
        assert post(client, "/alerts/rules", **FORM | {"id": "deep", "warning": "7"}).status_code == 303
        return parse_draft(form)

    monkeypatch.setattr(rules, "parse_draft", parse_late)
    answer = client.post("/alerts/rules", data=FORM | {"id": "", "name": "Deep"}, headers=SAME)
    assert (answer.status_code, answer.location) == (303, "/alerts/rule/deep-2?said=made")
    assert rule(client, "deep")["warning"] == 7


def test_a_preview_stores_nothing(client: FlaskClient, redis_client: redis.Redis) -> None:
    before = sorted(redis_client.keys()), audit(client)
    draft(client)
    assert (sorted(redis_client.keys()), audit(client)) == before


def test_a_preview_says_what_matches_and_what_would_fire(client: FlaskClient, redis_client: redis.Redis) -> None:
    shown = text(draft(client))
    assert "Breaching: 1 of 1." in shown
    assert "warning 3 mail RQ on main" in shown
    assert "Matches now 1 queue: mail RQ on main ." in shown
    assert "Matches now No queue." in text(draft(client, queues="vido-*"))
    assert "OK. Worst of 1: 3" in text(draft(client, warning="20"))


def test_a_preview_shows_the_notification(client: FlaskClient) -> None:
    shown = text(draft(client, name="Mail is <deep>", critical="2.5"))
    assert "Text if sent now: [FIRING critical] Mail is <deep>: mail (rq, main)" in shown
    assert "mail (rq, main): 3 waiting jobs (fires above 2.5), since" in shown
    calm = text(draft(client, name="Mail", warning="2000"))
    assert "No breach right now. Example at the threshold: [FIRING warning] Mail: mail" in calm
    assert "2,000 waiting jobs (fires above 2,000)" in calm


def test_a_preview_says_when_it_would_have_fired(make_app: MakeApp, server: EmbeddedRedis, jobs: list[str]) -> None:
    client = make_app().test_client()
    assert "In the last hour Would have fired 1 time . warning" in text(draft(client, for_s="0"))
    shown = text(draft(client, for_s="10 min"))
    assert "Would not have fired. Estimated from one value per minute or less, of the last 15 s" in shown
    latency = text(draft(client, metric="queue.latency_s", warning="1 s"))
    assert "No history is stored for this metric and these queues." in latency


def test_a_form_without_thresholds_has_a_graph_to_set_them_on(client: FlaskClient) -> None:
    for page in (client.get("/alerts/rules/new").text, draft(client, warning="")):
        assert "No threshold yet. Worst of 1 now: 3 ( mail" in text(page)
        assert len(re.findall(r'role="slider"', page)) == 2
        assert "<h3>Notification</h3>" not in page
        assert 'id="wrong-' not in page
    assert field_notes(draft(client, warning=""), "error") == {}  # it is being filled in


def test_errors_come_with_the_preview(client: FlaskClient) -> None:
    crossed = draft(client, warning="10", critical="5")
    assert field_notes(crossed, "error") == {"critical": "expected a value above warning"}
    assert "Thresholds not valid yet. Worst of 1 now: 3" in text(crossed)
    assert set(re.findall(r'id="handle-(\w+)"', crossed)) == {"warning", "critical"}  # both where they were entered
    assert "expected a number" in field_notes(draft(client, warning="soon"), "error")["warning"]
    for wrong in ("nan", "inf", "soon"):
        endless = draft(client, for_s=wrong)
        assert "expected a duration" in field_notes(endless, "error")["for_s"]
        assert "Not all fields are valid yet. Worst of 1 now: 3" in text(endless)
        assert "Fires once a breach lasts" not in text(endless)
    assert "globs" in field_notes(draft(client, queues="[b]"), "error")["queues"]
    assert "Fix the highlighted fields" in draft(client, queues="[b]")
    late = draft(client, id="", name="<b>", metric="<b>")
    assert field_notes(late, "error") == {"metric": "choose a metric"}
    assert "<b>" not in late


@pytest.mark.parametrize(
    ("metric", "entered", "meaning"),
    [
        ("queue.latency_s", "5 min", "= 300 s"),
        ("queue.latency_s", "300", "= 5 m"),
        ("queue.latency_s", "1 h 30 m", "= 5,400 s"),
        ("queue.latency_s", "30 s", None),
        ("queue.error_ratio", "80%", "= 0.8"),
        ("queue.error_ratio", "0.05", "= 5%"),
        ("redis.replica_lag_bytes", "64 MiB", "= 67,108,864 bytes"),
        ("queue.depth", "1e4", "= 10,000"),
        ("queue.depth", "12,000", None),
        ("queue.depth", "soon", None),
        ("queue.depth", "", None),
    ],
)
def test_amounts_say_how_they_were_read(metric: str, entered: str, meaning: str | None) -> None:
    form = RuleForm.typed({"metric": metric, "warning": entered}, ())
    assert form.meanings().get("warning") == meaning


def test_the_unit_stands_at_the_threshold(client: FlaskClient) -> None:
    def unit(metric: str) -> str:
        page = post(client, "/alerts/rules", **FORM | {"metric": metric, "do": "preview"}).text
        found = re.search(r"<span>Warning <small data-measure>([^<]*)</small>", page)
        assert found
        return found[1]

    assert [unit("queue.depth"), unit("queue.latency_s"), unit("queue.error_ratio")] == [
        "waiting jobs",
        "duration",
        "%",
    ]
    assert unit("queue.dead_growth_per_h") == "dead letters per hour"


def test_thresholds_have_those_of_the_built_in_rule_as_examples(client: FlaskClient) -> None:
    page = client.get("/alerts/rules/new").text
    assert 'placeholder="such as 1000"' in page
    assert 'placeholder="such as 10000"' in page
    workers = re.search(r'<option value="queue.consumers"[^>]*>', page)
    assert workers
    assert 'data-op="lt" data-warning="" data-critical="1"' in workers[0]


def test_the_graph_has_axes(make_app: MakeApp, redis_client: redis.Redis, jobs: list[str]) -> None:
    other = Queue("video", connection=redis_client)
    other.enqueue("os.getpid")
    client = make_app().test_client()
    shown = draft(client, warning="2", critical="10")
    assert re.findall(r'<text x="50" y="\d+">([^<]*)</text>', shown) == ["0", "5", "10", "15"]
    assert "1 h ago 45 m 30 m 15 m now" in text(shown)
    assert shown.count('class="other"') == 2  # the line of video, and its key
    without_script = re.search(r'<svg class="handles scriptless".*?</svg>', shown, re.DOTALL)
    assert without_script
    assert "slider" not in without_script[0]
    assert text(without_script[0]) == "critical 10 warning 2"


def test_a_form_is_kept_while_the_store_refuses(make_app: MakeApp, jobs: list[str], redis_client: redis.Redis) -> None:
    client = make_app().test_client()
    client.get("/alerts/rules/new")
    redis_client.execute_command("ACL", "SETUSER", "default", "-@write", "-@scripting")
    answer: Any = post(client, "/alerts/rules", **FORM | {"name": "Kept text"})
    assert answer.status_code == 503
    assert 'value="Kept text"' in answer.text
    assert "Rules cannot be saved right now." in answer.text


def test_a_change_is_told_in_the_words_of_the_form() -> None:
    assert set(LABELS) == {*Rule.__struct_fields__} - {"version"}
    old = Rule(id="a", metric="queue.latency_s", warning=300.0, queues=("a", "b"), for_s=60.0)
    new = replace(old, metric="queue.depth", warning=None, op="le", queues=(), for_s=90.0, enabled=False, version=2)
    assert set(describe_changes(old, new).split("; ")) == {
        "Metric: Queue: oldest waiting job → Queue: waiting jobs",
        "Warning: 5 m → none",
        "Fires when: above → at or below",
        "Queues: a, b → all",
        "For: 1 m → 90 s",
        "Enabled: yes → no",
    }
    assert describe_changes(old, old) == ""
