"""Edit and re-run: what the form shows of a job and what submitting it does, in each library that offers it."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.redact import MASK
from dashboard.web.urls import quote_segment
from tests.redaction import any_redaction
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_api import SAME

NOW = 1_900_000_000
# An England flag, a soft hyphen and a mark that turns the text; numbers that no float holds.
DATA = (
    '{"to": "ann", "password": "opensesame", "db": "postgres://app:hunter2@db/x", '
    '"odd": "\\ud83c\\udff4\\udb40\\udc67 a\\u00adb \\u202e", "n": [12345678901234567890, 1e400, 1.50], '
    '"logins": [{"user": "a", "token": "token of a"}, {"user": "b", "token": "token of b"}]}'
)


class Case(NamedTuple):
    """A job of one library with DATA, and how to read what was made of it."""

    library: str
    queue: str
    fill: Callable[..., None]
    made: Callable[[redis.Redis], list[str]]  # DATA of the jobs that were made, as JSON
    wrap: Callable[[str], str]  # DATA as the form has it
    path: str  # where DATA is, in messages


def fill_bullmq(client: redis.Redis, data: str = DATA) -> None:
    client.hset("bull:mails:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
    client.zadd("bull:mails:failed", {"j7": NOW})
    client.hset("bull:mails:j7", mapping={"name": "send", "data": data, "opts": "{}", "timestamp": NOW, "atm": 1})


def made_by_bullmq(client: redis.Redis) -> list[str]:
    names = [name for name in client.lrange("bull:mails:wait", 0, -1) if not name.startswith(b"0:")]
    return [(client.hget(b"bull:mails:" + name, "data") or b"").decode() for name in names]


def fill_sidekiq(client: redis.Redis, data: str = DATA) -> None:
    client.sadd("queues", "work")
    job = f'{{"class": "Mail", "args": [{data}], "jid": "{"0" * 24}", "queue": "work", "error_class": "E"}}'
    client.zadd("dead", {job: NOW})


def made_by_sidekiq(client: redis.Redis) -> list[str]:
    found = [raw.decode() for raw in client.lrange("queue:work", 0, -1)]
    return [re.sub(r'^.*"args":\[(.*?)\],"jid".*\Z', r"\1", raw, flags=re.DOTALL) for raw in found]


def fill_celery_dead(client: redis.Redis, data: str = DATA) -> None:
    client.sadd("_kombu.binding.alpha", "alpha\x06\x16\x06\x16alpha")
    client.set(
        "celery-task-meta-c1",
        '{"status": "FAILURE", "result": {"exc_type": "E", "exc_message": ["x"]}, "date_done": "2031-01-01T00:00:00", '
        f'"name": "pay", "args": [{data}], "kwargs": {{}}, "queue": "alpha", "task_id": "c1", "retries": 0}}',
    )
    client.zadd("{queuedeck}:celery:main:dead", {"c1": NOW})
    client.set("{queuedeck}:celery:main:filled", 1)


def fill_celery_waiting(client: redis.Redis, data: str = DATA) -> None:
    client.sadd("_kombu.binding.alpha", "alpha\x06\x16\x06\x16alpha")
    body = f'[[{data}], {{}}, {{"chord": null, "chain": null}}]'.encode()
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "pay", "id": "c1", "eta": None, "retries": 0},
        "properties": {"body_encoding": "base64", "delivery_tag": "t", "priority": 0},
    }
    client.lpush("alpha", json.dumps(message))


def made_by_celery(client: redis.Redis) -> list[str]:
    found = [json.loads(raw) for raw in client.lrange("alpha", 0, -1)]
    bodies = [base64.b64decode(each["body"]).decode() for each in found if each["headers"]["id"] != "c1"]
    return [re.sub(r"^\[\[(.*)\], \{.*?\}, \{[^{}]*\}\]\Z", r"\1", body, flags=re.DOTALL) for body in bodies]


CASES = (
    Case("bullmq", "mails", fill_bullmq, made_by_bullmq, lambda data: data, "data"),
    Case("sidekiq", "*", fill_sidekiq, made_by_sidekiq, lambda data: f"[{data}]", "arguments[0]"),
    *(
        Case("celery", queue, fill, made_by_celery, lambda data: f'{{"args": [{data}], "kwargs": {{}}}}', "args[0]")
        for queue, fill in (("*", fill_celery_dead), ("alpha", fill_celery_waiting))
    ),
)


class Form:
    """The form of the job, as a browser has it."""

    def __init__(self, client: FlaskClient, case: Case) -> None:
        self.client = client
        state = "waiting" if case.queue == "alpha" else "dead"
        jobs = f"/api/v1/queues/main/{case.library}/{quote_segment(case.queue)}/jobs"
        wait_until(lambda: client.get(f"{jobs}?state={state}").status_code == 200, what="the queue")
        (job,) = client.get(f"{jobs}?state={state}").get_json()["jobs"]
        self.url = f"/queues/main/{case.library}/{quote_segment(case.queue)}/jobs/{quote_segment(job['id'])}"
        self.page = client.get(f"{self.url}/edit").text
        self.fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', self.page))
        self.text = self.text_of(self.page)

    @staticmethod
    def text_of(page: str) -> str:
        found = re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)
        assert found
        return html.unescape(found[1])

    def post(self, text: str) -> Any:
        sent = text.replace("\n", "\r\n")  # as browsers send lines
        return self.client.post(f"{self.url}/act", data={**self.fields, "payload": sent}, headers=SAME)

    def post_json(self, text: str) -> Any:
        return self.client.post(f"/api/v1{self.url}/edit", json={"payload": text}, headers=SAME)


@pytest.fixture(params=CASES, ids=[f"{case.library} {case.queue}" for case in CASES])
def case(request: pytest.FixtureRequest, redis_client: redis.Redis) -> Case:
    found: Case = request.param
    found.fill(redis_client)
    return found


@pytest.fixture
def form(make_app: MakeApp, case: Case) -> Form:
    return Form(make_app().test_client(), case)


def same(made: str, wanted: str = DATA) -> bool:
    """Whether both are the same JSON, each number digit by digit."""

    def decoded(text: str) -> Any:
        return json.loads(text, parse_int=lambda digits: ("n", digits), parse_float=lambda digits: ("n", digits))

    return bool(decoded(made) == decoded(wanted))


def test_an_unchanged_form_creates_the_same_job(form: Form, case: Case, redis_client: redis.Redis) -> None:
    assert form.text.count(MASK) == 4
    assert not re.search("opensesame|hunter2|token of", form.page)
    assert all(char.isprintable() or char == "\n" for char in form.text)
    answer = form.post(form.text)
    assert answer.status_code == 303, answer.text
    (made,) = case.made(redis_client)
    assert same(made)


def test_a_change_stays_and_the_rest_keeps_its_secrets(form: Form, case: Case, redis_client: redis.Redis) -> None:
    assert form.post(form.text.replace('"ann"', '"eve"')).status_code == 303
    (made,) = case.made(redis_client)
    assert same(made, DATA.replace('"ann"', '"eve"'))


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"ann"', f'"{MASK}"', ".to: "),
        ("@db/x", "@evil/x", ".db: "),
        ('"password"', '"passwort"', ".passwort: "),
    ],
)
def test_a_mask_in_the_wrong_place_is_rejected(
    form: Form, case: Case, redis_client: redis.Redis, old: str, new: str, place: str
) -> None:
    text = form.text.replace(old, new)
    answer = form.post(text)
    assert answer.status_code == 422
    assert f"{case.path}{place}" in html.unescape(answer.text)
    assert "Enter the full" in answer.text
    assert Form.text_of(answer.text).split() == text.split()
    asked = form.post_json(text)
    assert (asked.status_code, asked.get_json()["outcome"], asked.get_json()["new_id"]) == (422, "invalid", None)
    assert asked.get_json()["detail"].startswith(f"{case.path}{place}")
    assert case.made(redis_client) == []


def test_the_json_api_keeps_values_too(form: Form, case: Case, redis_client: redis.Redis) -> None:
    text = case.wrap(f'{{"password": "{MASK}", "n": 1}}')
    answer = form.post_json(text)
    assert (answer.status_code, answer.get_json()["outcome"]) == (200, "done"), answer.text
    (made,) = case.made(redis_client)
    assert same(made, '{"password": "opensesame", "n": 1}')


def test_invalid_json_is_rejected(form: Form, case: Case, redis_client: redis.Redis) -> None:
    answer = form.post("{broken")
    assert answer.status_code == 422
    assert "is not valid JSON" in answer.text
    assert Form.text_of(answer.text) == "{broken"
    assert case.made(redis_client) == []


def test_a_truncated_payload_is_not_in_the_form(client: FlaskClient, redis_client: redis.Redis) -> None:
    fill_bullmq(redis_client)
    redis_client.hset("bull:mails:j7", "data", json.dumps({"password": "x", "long": "y" * 300_000}))
    form = Form(client, CASES[0])
    assert form.text == ""
    assert "Enter the complete new payload" in form.page
    answer = form.post(f'{{"password": "{MASK}"}}')
    assert answer.status_code == 422
    assert "data.password: the stored payload is too large" in html.unescape(answer.text)
    assert form.post('{"password": "new"}').status_code == 303
    assert made_by_bullmq(redis_client) == ['{"password": "new"}']


def test_the_current_value_of_a_changed_secret_is_used(client: FlaskClient, redis_client: redis.Redis) -> None:
    fill_bullmq(redis_client)
    form = Form(client, CASES[0])
    redis_client.hset("bull:mails:j7", "data", DATA.replace("opensesame", "another"))
    assert form.post(form.text).status_code == 303
    (made,) = made_by_bullmq(redis_client)
    assert same(made, DATA.replace("opensesame", "another"))


OWN_DATA = (
    '{"to": "ann", "customer_id": 4711, "born": {"birth_date": ["1999", 1]}, "n": 4020123456, "email": true, '
    '"note": "for CUST-12345678, then CUST-87654321", "CUST-11112222": {"x": 1}, "CUST-33334444": 2, '
    '"all": [4020999999, "CUST-55556666"]}'
)
OWN_RULES = {"names": ["customer_id", "*birth*", "email"], "patterns": ["CUST-[0-9]{8}", "4020[0-9]{6}"]}
OWN_SECRETS = ("4711", "1999", "12345678", "87654321", "4020", "11112222", "33334444", "55556666", "true")


@pytest.fixture
def own_form(make_app: MakeApp, case: Case, redis_client: redis.Redis) -> Iterator[Form]:
    """The form of a job with OWN_DATA, which the settings mask."""
    redis_client.flushdb()
    case.fill(redis_client, OWN_DATA)
    with any_redaction():
        yield Form(make_app(redaction=OWN_RULES).test_client(), case)


def test_what_only_the_settings_mask_is_kept(own_form: Form, case: Case, redis_client: redis.Redis) -> None:
    assert own_form.text.count(MASK) >= 9
    assert not [secret for secret in OWN_SECRETS if secret in own_form.text]
    assert own_form.post(own_form.text.replace('"ann"', '"eve"')).status_code == 303
    (made,) = case.made(redis_client)
    assert same(made, OWN_DATA.replace('"ann"', '"eve"'))


def test_a_mask_of_the_settings_is_not_stored_elsewhere(own_form: Form, case: Case, redis_client: redis.Redis) -> None:
    for old, new in (
        ('"ann"', f'"{MASK}"'),
        ('"note": "for ', '"note": "not for '),
        ('"customer_id"', '"customer"'),
        (f'"{MASK} 2": 2', f'"{MASK} 3": 2'),
    ):
        text = own_form.text.replace(old, new)
        assert text != own_form.text
        assert own_form.post(text).status_code == 422, (old, new)
    assert case.made(redis_client) == []
