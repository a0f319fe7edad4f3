"""Behind the plainest reverse proxy there is: everybody comes from 127.0.0.1, with its name, and no header tells."""

from __future__ import annotations

import http.cookiejar
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from tests.processes import child
from tests.serving import Served, serving
from tests.waiting import wait_until

# What an administrator writes who wants it to work today.
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass {behind}; }}
  }}
}}
"""
PATHS = (
    *("/", "/_overview", "/queues/main/rq/mail", "/dead", "/workers", "/schedules", "/search?q=a", "/alerts"),
    *("/alerts/rules", "/bulk", "/audit", "/metrics", "/api/v1/overview", "/api/v1/queues", "/api/v1/audit"),
    *("/api/v1/queues/main/rq/mail/jobs?state=waiting", "/api/v1/openapi.json"),
)
CHANGES = ("/api/v1/queues/main/rq/mail/pause", "/api/v1/bulk", "/alerts/rules")


@pytest.fixture
def mail(server: EmbeddedRedis, redis_client: redis.Redis) -> str:
    """URL of a Redis with a job that nobody else shall see."""
    Queue("mail", connection=redis_client).enqueue("app.send", "user@example.com")
    return server.url


@pytest.fixture
def nginx(kept_port: int, tmp_path: Path) -> Iterator[object]:
    """Starts nginx in front of a server; answers its URL."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.fail("nginx is missing: run the tests with `make test`, which installs it")
    url = f"http://127.0.0.1:{kept_port}"

    def in_front_of(served: Served) -> object:
        config = tmp_path / "nginx.conf"
        config.write_text(NGINX.format(folder=tmp_path, port=kept_port, behind=served.url))
        return child([binary, "-e", "stderr", "-c", config, "-p", tmp_path], name="nginx")

    yield url, in_front_of


def status(url: str, *, post: bool = False, opener: urllib.request.OpenerDirector | None = None) -> int:
    """The status of an answer, asked for as a browser does through the proxy's own name."""
    asked = urllib.request.Request(url, data=b"{}" if post else None, headers={"Sec-Fetch-Site": "same-origin"})
    try:
        with (opener.open(asked) if opener else urllib.request.urlopen(asked)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code


@pytest.mark.parametrize("auth", ["auto", "none"])
def test_nobody_is_let_in_through_a_proxy(mail: str, nginx: tuple, auth: str) -> None:
    url, in_front_of = nginx
    with serving("--redis", mail, QUEUEDECK_AUTH=auth) as served, in_front_of(served):
        wait_until(lambda: status(f"{url}/healthz") == 200, what="nginx")
        assert {path: status(url + path) for path in PATHS if status(url + path) not in (401, 403)} == {}
        assert {path: status(url + path, post=True) for path in CHANGES if status(url + path, post=True) != 403} == {}


def test_who_has_the_address_that_was_printed_is_let_in(mail: str, nginx: tuple) -> None:
    url, in_front_of = nginx
    with serving("--redis", mail, QUEUEDECK_AUTH="auto") as served, in_front_of(served):
        wait_until(lambda: status(f"{url}/healthz") == 200, what="nginx")
        token = re.search(r"\?token=([\w-]{43})\s", served.process.read_log())
        assert token is not None
        jar = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        assert status(f"{url}/?token={token[1]}", opener=browser) == 200
        assert [cookie.name for cookie in jar] == ["queuedeck"]
        assert status(f"{url}/workers", opener=browser) == 200
        assert status(f"{url}/workers") == 403
        assert status(f"{url}/?token={token[1][:-1]}", opener=urllib.request.build_opener()) == 403
