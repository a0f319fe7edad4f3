"""The dashboard under a path that a proxy passes on, or that it removes and sends in a header."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.web.app import mount
from tests.web.conftest import MakeApp

SLASHED = "mail/slow"


@pytest.fixture
def mail(redis_client: redis.Redis) -> None:
    """A queue with a slash in its name."""
    Queue(SLASHED, connection=redis_client).enqueue("app.send")


def asked(client: FlaskClient, path: str, *, peer: str = "127.0.0.1", **headers: str) -> Any:
    """The answer to a request as gunicorn passes it on: with the path as it was sent."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, headers=names, environ_overrides={"REMOTE_ADDR": peer, "RAW_URI": path})


@pytest.mark.usefixtures("mail")
def test_the_path_belongs_to_every_link(make_app: MakeApp) -> None:
    client = make_app(root_path="/ops/queues").test_client()
    page = asked(client, "/ops/queues/queues/main/rq/mail%2Fslow")
    assert page.status_code == 200
    assert 'href="/ops/queues/workers"' in page.text
    assert 'href="/queues/' not in page.text
    answer = asked(client, "/ops/queues?a=b")
    assert (answer.status_code, answer.headers["Location"]) == (308, "queues/?a=b")


@pytest.mark.parametrize("path", ["/", "/workers", "/ops", "/ops/queuesque", "/ops//queues/", "/queues/main/rq/mail"])
def test_other_paths_say_what_to_change(make_app: MakeApp, path: str) -> None:
    """A proxy that removes the path without telling must not get pages whose links lead out of it."""
    client = make_app(root_path="/ops/queues").test_client()
    answer = asked(client, path)
    assert answer.status_code == 404
    assert "This dashboard is under /ops/queues/ (root_path)." in answer.text
    assert "X-Forwarded-Prefix" in answer.text
    answer = asked(client, "/api/v1/overview")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/healthz/checker", "/metrics"])
def test_load_balancers_and_prometheus_need_no_path(make_app: MakeApp, path: str) -> None:
    client = make_app(root_path="/ops", metrics_public=True).test_client()
    direct, through = asked(client, path), asked(client, f"/ops{path}")
    assert direct.status_code == through.status_code != 404


def test_a_trusted_proxy_may_send_what_it_removed(make_app: MakeApp) -> None:
    app = make_app(auth="auto", trusted_proxies=["10.0.0.7"]).test_client()
    page = asked(app, "/workers", peer="10.0.0.7", X_Forwarded_Prefix="/ops")
    assert page.status_code == 403  # no one has access here; the page that says so has links
    assert 'href="/ops/static/' in page.text
    page = asked(app, "/workers", peer="10.0.0.8", X_Forwarded_Prefix="/ops")
    assert "/ops/" not in page.text


@pytest.mark.parametrize(
    ("prefix", "path", "link"),
    [
        ("/ops", "/ops/workers", "/ops/static/"),  # a proxy that passes the path on, and sends it too
        ("/outer", "/ops/workers", "/outer/ops/static/"),  # an outer proxy removed another part
        ("/outer/ops", "/ops/workers", "/outer/ops/static/"),
        ("/ops", "/workers", None),
    ],
)
def test_with_the_setting_the_path_has_to_arrive(make_app: MakeApp, prefix: str, path: str, link: str | None) -> None:
    app = make_app(auth="auto", trusted_proxies=1, root_path="/ops").test_client()
    page = asked(app, path, X_Forwarded_Prefix=prefix)
    if link is None:
        assert (page.status_code, "leave root_path out" in page.text) == (404, True)
    else:
        assert (page.status_code, f'href="{link}' in page.text) == (403, True)


@pytest.mark.usefixtures("mail")
def test_a_slash_in_a_name_survives_the_removal(make_app: MakeApp) -> None:
    digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"  # of foo
    app = make_app(auth="auto", trusted_proxies=1, api_tokens=[f"ci:viewer:{digest}"])
    headers = {"Authorization": "Bearer foo", "X_Forwarded_Prefix": "/client, /ops/"}
    page = asked(app.test_client(), "/queues/main/rq/mail%2Fslow", **headers)
    assert page.status_code == 200
    assert 'href="/ops/workers"' in page.text


@pytest.mark.usefixtures("mail")
@pytest.mark.parametrize("sent", ["/queues/queues/main/rq/mail%2Fslow", "/ops/queues/queues/main/rq/mail%2Fslow"])
def test_a_slash_in_a_name_survives_below_an_application(make_app: MakeApp, sent: str) -> None:
    """Mounted at /queues, behind a proxy that removed /ops, or one that did not."""
    environ = {"SCRIPT_NAME": "/ops/queues", "PATH_INFO": "/queues/main/rq/mail/slow", "RAW_URI": sent}
    page = make_app().test_client().get("/", environ_overrides={**environ, "REMOTE_ADDR": "127.0.0.1"})
    assert page.status_code == 200


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "https://evil.example", "/a b", '/a"b', "/a/../b", "/.", "/%2e", "a", "/" + "a" * 99]
)
def test_an_odd_prefix_is_ignored(make_app: MakeApp, prefix: str) -> None:
    app = make_app(auth="auto", trusted_proxies=1)
    page = asked(app.test_client(), "/", X_Forwarded_Prefix=prefix)
    assert 'href="/static/' in page.text


def test_a_prefix_that_the_host_application_applied_is_not_applied_twice(make_app: MakeApp) -> None:
    app = make_app(auth="auto", trusted_proxies=1)
    environ = {"SCRIPT_NAME": "/ops/queues", "REMOTE_ADDR": "127.0.0.1"}
    page = app.test_client().get("/", headers={"X-Forwarded-Prefix": "/ops"}, environ_overrides=environ)
    assert 'href="/ops/queues/static/' in page.text
    environ["SCRIPT_NAME"] = "/queues"
    page = app.test_client().get("/", headers={"X-Forwarded-Prefix": "/ops"}, environ_overrides=environ)
    assert 'href="/ops/queues/static/' in page.text


@pytest.mark.parametrize("path", ["queues", "/", "/queues/", "", "//a", "/a//b", "/a b", "/../a", "/queues?x", "/ä"])
def test_an_invalid_path_stops_the_start(path: str) -> None:
    with pytest.raises(
        ConfigurationError, match="ROOT_PATH: expected a path such as /queues, without a slash at its end"
    ):
        load(environ={"QUEUEDECK_ROOT_PATH": path})


def test_a_mounted_dashboard_has_the_path_of_mount() -> None:
    with pytest.raises(ConfigurationError, match="root_path: expected only without mount"):
        mount(lambda environ, start: [b""], "/queues", checker="off", root_path="/ops")


def test_links_in_notifications_have_the_path() -> None:
    load(environ={}, keywords={"root_path": "/ops", "public_url": "https://example.com/outer/ops/"})
    with pytest.raises(ConfigurationError, match="public_url: expected a URL that ends in /ops, the root_path"):
        load(environ={}, keywords={"root_path": "/ops", "public_url": "https://example.com"})
