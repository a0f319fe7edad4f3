"""The pages that show what someone may do, and why."""

from __future__ import annotations

import pytest
import redis
from flask import Flask

from tests.web.conftest import MakeApp
from tests.web.granted import GRANTS, as_user, fill, identify


@pytest.fixture
def app(make_app: MakeApp, redis_client: redis.Redis) -> Flask:
    fill(redis_client)
    return make_app(identify=identify, grants=GRANTS, api_tokens=[f"ci:operator:{'0' * 64}"])


def page(app: Flask, user: str, query: str, status: int = 200) -> str:
    found = app.test_client().get(f"/rights{query}", headers=as_user(user))
    assert found.status_code == status, found.text
    return " ".join(found.text.split())


def test_administrators_see_why_someone_may_do_what(app: Flask) -> None:
    shown = page(app, "root", "?name=mona&groups=mail-team,x&queue=main/rq/mail-out")
    assert "Grant 2 of the settings: gives alerts, bulk, delete, pause, retry, view, on mail-*" in shown
    assert '<td data-label="asked queue">yes</td> <td data-label="because of">grant 2 of the settings</td>' in shown
    assert ">mail-out</a>" in shown
    assert ">payroll-run</a>" not in shown
    denied = page(app, "root", "?name=den&role=operator&queue=main/rq/payroll-run")
    assert "Has the operator role." in denied
    assert '<td data-label="asked queue">no</td> <td data-label="because of">grant 3 of the settings</td>' in denied
    nothing = page(app, "root", "?name=stranger")
    assert "Has no access" in nothing
    token = page(app, "root", "?name=ci&kind=token")
    assert "Has the operator role." in token


def test_the_grants_are_listed(app: Flask) -> None:
    shown = page(app, "root", "")
    assert "user mia, token mia-token" in shown
    assert "denies view" in shown


def test_everyone_sees_their_own_rights_and_no_others(app: Flask) -> None:
    own = page(app, "mia", "/me")
    assert "You are mia." in own
    assert ">mail-out</a>" in own
    assert "payroll" not in own
    assert page(app, "den", "/me").count("payroll") == 0
    for user in ("mia", "mona", "den"):
        page(app, user, "", 403)


@pytest.mark.parametrize("query", ["?name=x&queue=mail", "?name=x&kind=robot", "?name=x&role=owner"])
def test_a_query_of_another_form_is_refused(app: Flask, query: str) -> None:
    assert "expected" in page(app, "root", query, 422)
