"""Mounted under a path of another WSGI app."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from rq import Queue

from dashboard import mount
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import ConfigurationError
from dashboard.sampling import snapshot_store
from tests.waiting import wait_until


@pytest.fixture
def host(server: EmbeddedRedis, redis_client: redis.Redis) -> FlaskClient:
    """A client of a Flask app that has the dashboard under /ops/queues."""
    app = Flask("host")
    app.add_url_rule("/", "home", lambda: "the host")
    app.add_url_rule("/ops/queues-of-mine", "near", lambda: "a near miss")
    app.wsgi_app = mount(app.wsgi_app, "/ops/queues", redis_url=server.url, checker="off", auth="none")  # type: ignore[method-assign]
    return app.test_client()


def test_other_paths_are_served_by_the_host_application(host: FlaskClient) -> None:
    assert host.get("/").text == "the host"
    assert host.get("/ops/queues-of-mine").text == "a near miss"
    assert host.get("/nothing").status_code == 404


def test_the_bare_path_redirects_to_the_overview(host: FlaskClient) -> None:
    response = host.get("/ops/queues?q=mail")
    assert response.status_code == 308
    # Relative, as a proxy in front of the host application may have removed the beginning of the path.
    assert urljoin("https://example.com/app/ops/queues", response.headers["Location"]) == (
        "https://example.com/app/ops/queues/?q=mail"
    )


def test_every_link_asset_and_poll_stays_under_the_path(host: FlaskClient, jobs: list[str]) -> None:
    pages = ["/ops/queues/", "/ops/queues/queues/main/rq/mail", f"/ops/queues/queues/main/rq/mail/jobs/{jobs[0]}"]
    pages += [f"/ops/queues{path}" for path in ("/charts", "/classes", "/classes/main/rq/mail/send", "/redis/main")]
    seen = set()
    for page in pages:
        response = host.get(page)
        assert response.status_code == 200
        followed = re.findall(r'(?:href|src|hx-get|data-[a-z-]*url)="([^"#?][^"]*)"', response.text)
        targets = followed + re.findall(r'action="([^"#?][^"]*)"', response.text)  # what forms need is theirs to bring
        seen |= set(followed)
        assert targets
        for target in targets:
            assert target.startswith(("/ops/queues/", "data:")), (page, target)
    for target in seen:
        if not target.startswith("data:"):
            assert host.get(target.replace("&amp;", "&")).status_code == 200, target


def test_mounting_below_a_prefix_of_the_host_application(host: FlaskClient, jobs: list[str]) -> None:
    environ: dict[str, Any] = {"SCRIPT_NAME": "/outer"}
    response = host.get("/ops/queues/", environ_overrides=environ)
    assert 'href="/outer/ops/queues/queues/main/rq/mail' in response.text


@pytest.mark.parametrize("path", ["queues", "/queues/", "/", "", "/a//b"])
def test_an_invalid_mount_path_is_rejected(path: str) -> None:
    with pytest.raises(ConfigurationError, match="mount path"):
        mount(lambda environ, start: [b""], path, checker="off")


def test_cookies_of_the_host_application_are_not_changed(host: FlaskClient) -> None:
    response = host.get("/ops/queues/")
    assert "Set-Cookie" not in response.headers


def test_sampling_starts_with_any_page_of_the_host_application(
    server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    """Alerts must not wait until a user opens the dashboard."""
    app = Flask("host")
    app.add_url_rule("/", "home", lambda: "the host")
    mounted = mount(app.wsgi_app, "/queues", redis_url=server.url, auth="none")
    app.wsgi_app = mounted  # type: ignore[method-assign]
    Queue("mail", connection=redis_client).enqueue("app.send")
    assert app.test_client().get("/").text == "the host"
    try:
        wait_until(lambda: redis_client.exists(snapshot_store.SNAPSHOT), what="the first sample")
    finally:
        _stop(mounted)


def test_a_checker_that_fails_to_start_breaks_no_page_of_the_host_application(server: EmbeddedRedis) -> None:
    app = Flask("host")
    app.add_url_rule("/", "home", lambda: "the host")
    mounted = mount(app.wsgi_app, "/queues", redis_url="redis://127.0.0.1:1/0", auth="none")
    app.wsgi_app = mounted  # type: ignore[method-assign]
    try:
        for _ in range(3):
            assert app.test_client().get("/").text == "the host"
    finally:
        _stop(mounted)


def _stop(mounted: Any) -> None:
    """End the threads of a mounted dashboard."""
    (dashboard,) = (cell.cell_contents for cell in mounted.__closure__ if isinstance(cell.cell_contents, Flask))
    deck = dashboard.extensions["queuedeck"]
    wait_until(lambda: deck._process is not None, what="the start")
    deck.stop()


def test_a_mark_that_comes_from_no_page_leads_to_the_charts(host: FlaskClient, redis_client: redis.Redis) -> None:
    same = {"Sec-Fetch-Site": "same-origin"}
    for back in ({}, {"back": "//evil.example/"}, {"back": "/"}):
        answer = host.post("/ops/queues/marks", data={"text": "deploy"} | back, headers=same)
        assert answer.location.startswith("/ops/queues/charts?said=mark-")
    back_to = "/ops/queues/sources/main/charts?range=1h"
    answer = host.post("/ops/queues/marks", data={"text": "deploy", "back": back_to}, headers=same)
    assert answer.location == f"{back_to}&said=mark-known#marks"
