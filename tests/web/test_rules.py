"""The pages of rules: what they see now, and the forms that make, change, switch and remove them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any, get_args

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

from dashboard.alerts import keys
from dashboard.alerts.evaluation import rule_history
from dashboard.alerts.rules.metrics import METRICS, Subject
from dashboard.web.context import EXTENSION
from tests.cases import failures_of
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

SAME = {"Sec-Fetch-Site": "same-origin"}
FILE = {"id": "from-file", "name": "From <the> file", "metric": "queue.depth", "warning": 2}
CHANNEL = {"id": "ops", "kind": "webhook", "url": "https://hooks.example.com/T0K3N"}
# No job has finished, there is no limit of memory, nothing is wasted, and nothing replicates.
UNKNOWN_HERE = {"queue-errors", "redis-memory", "redis-memory-full"}
UNKNOWN_HERE |= {
    "redis-fragmentation",
    "redis-replica-lag",
    "redis-replica-link",
    "redis-sentinels",
    "queue-slower",
    "class-slower",
}
UNKNOWN_HERE |= {"queue-quiet", "class-quiet", "queue-fewer-workers"}
# Error groups are read only for enabled rules.
UNKNOWN_HERE |= {"error-new", "error-regressed"}
UNKNOWN_HERE |= {"schedule-late"}  # RQ has none here
# There are no objectives.
UNKNOWN_HERE |= {"slo-burn-fast", "slo-burn", "slo-burn-slow"}
FORM = {"id": "mine", "name": "Mine", "metric": "queue.depth", "op": "gt", "warning": "2", "for_s": "1 min"}
FORM |= {"reducer": "last", "scope": "each", "no_data": "keep", "min_samples": "2", "enabled": "1", "do": "store"}


@pytest.fixture
def client(make_app: MakeApp, jobs: list[str]) -> FlaskClient:
    """A browser on this machine: three jobs wait in `mail`, one rule comes from the file, one channel is there."""
    return make_app(rules=[FILE], channels=[CHANNEL]).test_client()


def rule(client: FlaskClient, rule_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/rules/{rule_id}").get_json()
    return found


def text(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def post(client: FlaskClient, path: str, **form: str) -> Any:
    return client.post(path, data=form, headers=SAME)


def audit(client: FlaskClient) -> list[tuple[str, str | None]]:
    events = client.get("/api/v1/audit").get_json()["events"]
    return [(event["action"], event["detail"]) for event in events]


def test_all_rules_are_listed_with_their_current_values(client: FlaskClient) -> None:
    page = client.get("/alerts/rules").text
    assert "From &lt;the&gt; file" in page
    rows = {
        re.search(r'href="/alerts/rule/([\w.-]+)"', row)[1]: text(row)  # type: ignore[index]
        for row in re.findall(r"<tr id=.*?</tr>", page, re.DOTALL)
    }
    assert len(rows) == len(client.get("/api/v1/rules").get_json()["rules"])
    assert re.search(r"breaching 1 3 mail RQ on main > 2 .* settings file$", rows["from-file"])
    assert "built-in" in rows["queue-dead"]
    assert "OK" in rows["queue-dead"]
    assert re.search(r"\bdisabled\b", rows["queue-depth"])


def test_a_rule_shows_whether_it_is_breached_now(client: FlaskClient, redis_client: redis.Redis) -> None:
    before = sorted(redis_client.keys())
    page = text(client.get("/alerts/rule/from-file").text)
    assert "Breaching: 1 of 1. Fires once a breach lasts 1 m." in page
    assert "warning 3 mail RQ on main" in page
    assert "Defined in the settings file" in page
    now = rule(client, "from-file")["now"]
    assert now["beyond"] == [
        {"labels": {"source": "main", "backend": "rq", "queue": "mail"}, "value": 3, "severity": "warning"}
    ]
    assert sorted(redis_client.keys()) == before  # looking writes nothing
    page = text(client.get("/alerts/rule/queue-latency").text)
    # Not one sentence: "Redis is not responding" and "OK" are two.
    assert "<h1>Redis is not responding</h1>" in client.get("/alerts/rule/redis-unreachable").text
    assert re.search(r"OK\. Worst of 1: [\d.]+ (m?s|min) \( ?mail", page)
    assert "No data for the last hour yet: the checker records it from its next evaluation on." in page
    assert "Unknown: its value is unknown right now" in text(client.get("/alerts/rule/redis-evictions").text)


def test_the_last_hour_is_drawn_against_the_thresholds(make_app: MakeApp, jobs: list[str]) -> None:
    app = make_app(checker="auto", sample_interval_s=0.5, rules=[{**FILE, "critical": 100}])
    app.extensions[EXTENSION].start()
    client = app.test_client()

    def drawn() -> str | None:
        found = re.search(r'<svg class="levels large".*?</svg>', client.get("/alerts/rule/from-file").text, re.DOTALL)
        return found[0] if found else None

    picture = wait_until(drawn, what="the graph")
    levels = dict(re.findall(r'class="(\w+)" d="M0 (\d+)H640"', picture))
    assert 0 < int(levels["critical"]) < int(levels["warning"]) < 200
    assert re.search(r'class="trace" d="M640 \d+h0"', picture)  # one point so far, at the right edge


def test_a_rule_is_created_edited_disabled_and_deleted(client: FlaskClient) -> None:
    assert client.get("/alerts/rules/new").status_code == 200
    made = post(client, "/alerts/rules", **FORM, queues="mail\nvideo-*", critical="12,000", channels="ops")
    assert (made.status_code, made.location) == (303, "/alerts/rule/mine?said=made")
    found = rule(client, "mine")
    assert (found["warning"], found["critical"], found["for_s"]) == (2, 12_000, 60)
    assert (found["queues"], found["channels"], found["origin"]) == (["mail", "video-*"], ["ops"], "page")
    page = client.get("/alerts/rule/mine/edit").text
    assert 'name="for_s" value="1 m"' in page
    assert 'name="critical" value="12000"' in page
    changed = post(client, "/alerts/rule/mine/edit", **FORM | {"warning": "20"}, version="1")
    assert changed.status_code == 303
    assert (rule(client, "mine")["warning"], rule(client, "mine")["version"]) == (20, 2)
    assert post(client, "/alerts/rule/mine/switch", on="0", version="2").status_code == 303
    assert rule(client, "mine")["enabled"] is False
    assert post(client, "/alerts/rule/mine/remove", version="3").status_code == 303
    assert client.get("/alerts/rule/mine").status_code == 404
    acts = audit(client)
    assert [action for action, _ in acts] == ["delete rule", "disable rule", "edit rule", "create rule"]
    assert "Warning: 2 → 20" in (acts[2][1] or "")


def test_a_conflicting_edit_names_the_user_and_the_changes(client: FlaskClient) -> None:
    post(client, "/alerts/rules", **FORM)
    assert post(client, "/alerts/rule/mine/edit", **FORM | {"warning": "20"}, version="1").status_code == 303
    late = post(client, "/alerts/rule/mine/edit", **FORM | {"warning": "30"}, version="1")
    assert late.status_code == 409
    assert "changed by local while you were editing it" in late.text
    assert "Warning: 20 → 30" in unescape(late.text)
    assert 'name="warning" value="30"' in late.text  # what was typed is not lost
    assert rule(client, "mine")["warning"] == 20
    version = re.search(r'name="version" value="(\d+)"', late.text)
    assert version
    assert post(client, "/alerts/rule/mine/edit", **FORM | {"warning": "30"}, version=version[1]).status_code == 303
    assert post(client, "/alerts/rules", **FORM).status_code == 409  # the id is taken
    assert post(client, "/alerts/rule/mine/switch", on="0", version="1").status_code == 409
    assert post(client, "/alerts/rule/mine/switch", on="0", version="x").status_code == 422


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"warning": "5 min"}, "warning", "expected a number"),
    ({"warning": ""}, "warning", "expected at least one threshold"),
    ({"critical": "1"}, "critical", "expected a value above warning"),
    ({"for_s": "soon"}, "for_s", "expected a duration"),
    ({"for_s": "400 d"}, "for_s", "expected a number from 0 to"),
    ({"id": "a b"}, "id", "letters, digits"),
    ({"id": "from-file"}, "id", "settings file"),
    ({"id": "queue-dead"}, "id", "built-in rule"),
    ({"metric": "<b>"}, "metric", "choose a metric"),
    ({"queues": "a\n[b]"}, "queues", "globs"),
    ({"metric": "queue.error_ratio", "warning": "5"}, "warning", "as 0.05 for 5%"),
    ({"channels": "unknown"}, "channels", "unknown channel"),
    ({"runbook_url": "javascript:alert(1)"}, "runbook_url", "https://"),
    ({"min_samples": "two"}, "min_samples", "a whole number"),
    ({"warning_recover": "50"}, "warning_recover", "healthy side"),
    ({"inhibited_by": "mine"}, "inhibited_by", "mutes itself"),
    ({"inhibited_by": "queue-ded"}, "inhibited_by", "unknown rule 'queue-ded'"),
    ({"source": "mian"}, "source", "one of main; unknown source 'mian'"),
    ({"backend": "sidekick"}, "backend", "unknown backend 'sidekick'"),
    ({"name": "x" * 121}, "name", "120"),
]


def test_errors_are_shown_at_their_fields(client: FlaskClient) -> None:
    def check(wrong: dict[str, str], field: str, told: str) -> None:
        answer = post(client, "/alerts/rules", **FORM | wrong)
        assert answer.status_code == 422
        said = re.search(rf'<em class="wrong" id="wrong-{field}">(.*?)</em>', answer.text)
        assert said
        assert told in unescape(said[1])
        assert "<b>" not in answer.text
        assert all(each["id"] != "mine" for each in client.get("/api/v1/rules").get_json()["rules"])

    assert failures_of(check, WRONG) == {}


def test_a_form_is_previewed_before_it_is_saved(client: FlaskClient) -> None:
    answer = post(client, "/alerts/rules", **FORM | {"do": "preview", "critical": "3"})
    assert answer.status_code == 200
    assert "Breaching: 1 of 1." in text(answer.text)
    assert 'name="critical" value="3"' in answer.text
    assert client.get("/api/v1/rules/mine").status_code == 404


def test_a_built_in_rule_is_disabled_and_duplicated_but_not_edited(client: FlaskClient) -> None:
    assert client.get("/alerts/rule/queue-dead/edit").status_code == 422
    assert post(client, "/alerts/rule/queue-dead/edit", **FORM, version="1").status_code == 422
    page = client.get("/alerts/rules/new?from=queue-dead").text
    assert 'name="id" value="queue-dead-copy"' in page
    form = FORM | {"id": "queue-dead-copy", "metric": "queue.dead", "from": "queue-dead", "off": "1", "warning": "5"}
    assert post(client, "/alerts/rules", **form).status_code == 303
    assert rule(client, "queue-dead-copy")["warning"] == 5
    shipped = rule(client, "queue-dead")
    assert (shipped["enabled"], shipped["ships"], shipped["warning"]) == (False, True, 100)
    assert "Reset to default" in client.get("/alerts/rule/queue-dead").text
    assert post(client, "/alerts/rule/queue-dead/remove", version=str(shipped["version"])).status_code == 303
    assert (rule(client, "queue-dead")["enabled"], rule(client, "queue-dead")["origin"]) == (True, "shipped")


def test_a_rule_of_the_settings_file_is_only_duplicated(client: FlaskClient) -> None:
    for path in ("edit", "switch", "remove"):
        answer = post(client, f"/alerts/rule/from-file/{path}", **FORM, version="1", on="0")
        assert answer.status_code == 422
    page = client.get("/alerts/rule/from-file").text
    assert "/alerts/rule/from-file/switch" not in page
    assert "/alerts/rules/new?from=from-file" in page


def test_the_api_saves_rules_too(client: FlaskClient) -> None:
    path = "/api/v1/rules"
    body = {"id": "api", "metric": "queue.depth", "warning": 7}
    made = client.post(path, json=body, headers=SAME)
    assert (made.status_code, made.get_json()["version"]) == (201, 1)
    assert client.post(path, json=body, headers=SAME).status_code == 409
    changed = client.post(path, json=body | {"warning": 8, "version": 1}, headers=SAME)
    assert (changed.status_code, changed.get_json()["warning"]) == (200, 8)
    for wrong, message in (
        ({"id": "api"}, "metric: required."),
        (body | {"warnings": 8}, "Unknown field 'warnings'. Did you mean warning?"),
        (body | {"warning": "8"}, "warning: expected a number or null, got text."),
        (body | {"version": "1"}, "version: expected a whole number or null, got text."),
        (body | {"op": "!="}, "op: '!=' is not one of gt, ge, lt, le."),
        (body | {"no_data": "maybe"}, "no_data: 'maybe' is not one of keep, ok, breach."),
        (body | {"version": 2, "inhibited_by": ["api"]}, "rule 'api': inhibited_by: expected ids of other rules"),
        (body | {"version": 2, "inhibited_by": ["gone"]}, "rule 'api': inhibited_by: unknown rule 'gone'"),
    ):
        answer = client.post(path, json=wrong, headers=SAME)
        assert (answer.status_code, answer.get_json()["error"]["message"][: len(message)]) == (422, message)
    assert client.post(f"{path}/api/disable", json={"version": 2}, headers=SAME).get_json()["enabled"] is False
    assert client.post(f"{path}/api/delete", json={"version": 2}, headers=SAME).status_code == 409
    assert client.post(f"{path}/api/delete", json={"version": 3}, headers=SAME).status_code == 200
    assert client.get(f"{path}/api").status_code == 404


def test_a_rule_can_be_disabled_after_its_source_was_removed(client: FlaskClient, redis_client: redis.Redis) -> None:
    rule = {"id": "elsewhere", "metric": "queue.depth", "warning": 7, "source": "gone-*"}
    assert client.post("/api/v1/rules", json=rule, headers=SAME).status_code == 201
    redis_client.set(keys.RULES, redis_client.get(keys.RULES).replace(b"gone-*", b"gone"))
    off = client.post("/api/v1/rules/elsewhere/disable", json={"version": 1}, headers=SAME)
    assert (off.status_code, off.get_json()["enabled"], off.get_json()["source"]) == (200, False, "gone")
    moved = client.post("/api/v1/rules", json=rule | {"version": 2, "source": "lost"}, headers=SAME)
    assert (moved.status_code, "unknown source 'lost'" in moved.text) == (422, True)


def test_a_rule_can_be_disabled_after_its_inhibiting_rule_was_deleted(client: FlaskClient) -> None:
    path = "/api/v1/rules"
    for rule in ({"id": "cause"}, {"id": "effect", "inhibited_by": ["cause"]}):
        made = client.post(path, json={"metric": "queue.depth", "warning": 7, **rule}, headers=SAME)
        assert made.status_code == 201
    assert client.post(f"{path}/cause/delete", json={"version": 1}, headers=SAME).status_code == 200
    assert client.post(f"{path}/effect/disable", json={"version": 1}, headers=SAME).get_json()["enabled"] is False


@pytest.fixture
def app_with_roles(make_app: MakeApp, jobs: list[str]) -> Flask:
    """An app with one person of each role."""
    digest = generate_password_hash("a long password", method="scrypt:1024:8:1")
    users = [{"name": role, "role": role, "password_hash": digest} for role in ("viewer", "operator", "admin")]
    return make_app(users=users, secret_key="k" * 40, rules=[FILE])


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_who_sees_which_button(app_with_roles: Flask, role: str) -> None:
    client = app_with_roles.test_client()
    signed = client.post("/login", data={"name": role, "password": "a long password"}, headers=SAME)
    assert signed.status_code == 303
    page = client.get("/alerts/rule/queue-dead").text
    assert ("/alerts/rule/queue-dead/switch" in page) == (role == "admin")
    assert ("/silences/new?rule=queue-dead" in page) == (role != "viewer")
    assert ("/alerts/rules/new" in client.get("/alerts/rules").text) == (role == "admin")
    assert client.get("/alerts/rules/new").status_code == (200 if role == "admin" else 403)


def test_each_rule_shows_the_values_evaluated_in_the_last_hour(
    make_app: MakeApp, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_history, "STEP_S", 1.0)
    waits = {"id": "waits", "metric": "queue.latency_s", "warning": 3600, "critical": 7200}
    rules = [waits, {**waits, "id": "off", "enabled": False}]
    rules += [{"id": "longest", "metric": "queue.depth", "warning": 2, "reducer": "max", "window_s": 600}]
    settings: dict[str, Any] = {"sample_interval_s": 0.5, "rules": rules, "channels": [CHANNEL]}
    app = make_app(checker="auto", **settings)
    app.extensions[EXTENSION].start()
    client = app.test_client()

    def drawn(name: str, client: FlaskClient = client) -> str | None:
        page = client.get(f"/alerts/rule/{name}").text
        # A late tick leaves a gap, after which the path starts a new segment.
        return page if re.search(r'class="trace" d="[^"]*M\d+ \d+h0l\d+ -?\d+l', page) else None

    for name in ("waits", "off", "longest"):
        page = wait_until(lambda name=name: drawn(name), what=f"the graph of {name}")
        assert 'evaluated since <time datetime="' in page
        assert "last hour" in text(page)
    page = text(client.get("/alerts/rule/longest").text)
    assert "Breaching: 1 of 1. Fires once a breach lasts 1 m." in page
    assert "Evaluates the maximum over the last 10 m, as reported by the checker." in page
    assert rule(client, "longest")["now"]["judged"] is True
    listed = client.get("/alerts/rules").text
    bare = {
        re.search(r'href="/alerts/rule/([\w.-]+)"', row)[1]  # type: ignore[index]
        for row in re.findall(r"<tr id=.*?</tr>", listed, re.DOTALL)
        if 'class="trace"' not in row
    }
    assert bare - {"queue-no-new-jobs"} == UNKNOWN_HERE  # that one is known once a minute has ended
    page = text(client.get("/alerts/rule/redis-memory").text)
    assert "the value was unknown or not applicable; evaluated since" in page

    copy = FORM | {"id": "copy", "metric": "queue.latency_s", "warning": "1 s", "do": "preview"}
    assert "evaluated since" in post(client, "/alerts/rules", **copy).text  # it looks at what a rule in force looks at
    assert "evaluated since" not in post(client, "/alerts/rules", **copy | {"queues": "ma*"}).text

    app.extensions[EXTENSION].stop()  # the leader ends, another process goes on with what it knew
    heir = make_app(checker="auto", **settings)
    heir.extensions[EXTENSION].start()
    since = re.search(
        r"evaluated since <time datetime=\"([^\"]+)", wait_until(lambda: drawn("waits"), what="the graph")
    )
    later = wait_until(lambda: drawn("waits", heir.test_client()), what="the graph after the change of leader")
    assert since
    assert since[1] in later


def test_a_draft_says_when_its_metric_has_no_history(client: FlaskClient) -> None:
    draft = FORM | {"do": "preview", "warning": "2 h", "metric": "queue.latency_s"}
    page = text(post(client, "/alerts/rules", **draft).text)
    assert "History of this metric starts when a rule that evaluates it for the same queues is saved." in page
    page = text(post(client, "/alerts/rules", **draft | {"reducer": "max", "window_s": "5 min"}).text)
    assert "Unknown until the rule is saved: it evaluates the maximum over the last 5 m" in page


def test_a_flag_is_yes_or_no_and_has_no_number_or_threshold(client: FlaskClient, jobs: list[str]) -> None:
    listed = re.sub(r"\s+", " ", client.get("/alerts/rules").text)
    row = listed[listed.index(">Redis persistence is failing<") :].partition("</tr>")[0]
    assert '<td data-label="worst now">no</td>' in row
    shown = re.sub(r"\s+", " ", client.get("/alerts/rule/redis-persistence").text)
    assert "<strong>OK.</strong> 1 checked." in shown
    assert "<dt>Critical</dt> <dd>yes</dd>" in shown


def test_the_rules_about_each_kind_of_subject_have_a_page(client: FlaskClient) -> None:
    rules = {METRICS[each["metric"]].subject: each["id"] for each in client.get("/api/v1/rules").get_json()["rules"]}
    assert set(rules) == set(get_args(Subject))
    for rule_id in rules.values():
        for path in (f"/alerts/rule/{rule_id}", f"/alerts/rule/{rule_id}/_one", f"/alerts/rules/new?from={rule_id}"):
            assert client.get(path).status_code == 200, path
    assert "Applies to job classes of all queues" in text(client.get("/alerts/rule/class-slower").text)
