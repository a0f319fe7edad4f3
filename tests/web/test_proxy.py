"""Behind the simplest reverse proxy: all requests come from 127.0.0.1 with its host name, and no header reveals it."""

from __future__ import annotations

import hashlib
import http.cookiejar
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import redis
from rq import Queue
from werkzeug.security import generate_password_hash

from dashboard.demo.embedded import EmbeddedRedis
from tests.nginx import nginx
from tests.processes import Child
from tests.serving import Served, running, serving

PATHS = (
    *("/", "/_overview", "/queues/main/rq/mail", "/dead", "/workers", "/schedules", "/search?q=a", "/alerts"),
    *("/alerts/rules", "/bulk", "/audit", "/metrics", "/api/v1/overview", "/api/v1/queues", "/api/v1/audit"),
    *("/api/v1/queues/main/rq/mail/jobs?state=waiting", "/api/v1/openapi.json"),
)
InFrontOf = Callable[[Served], AbstractContextManager[Child]]
CHANGES = ("/api/v1/queues/main/rq/mail/pause", "/api/v1/bulk", "/alerts/rules")


@pytest.fixture
def mail(server: EmbeddedRedis, redis_client: redis.Redis) -> str:
    """URL of a Redis with a job that strangers must not see."""
    Queue("mail", connection=redis_client).enqueue("app.send", "user@example.com")
    return server.url


@pytest.fixture
def proxied(kept_port: int, tmp_path: Path) -> tuple[str, InFrontOf]:
    """The URL of an nginx with the shortest possible settings, and a function that starts it in front of a server."""

    def in_front_of(served: Served) -> AbstractContextManager[Child]:
        return nginx(tmp_path, kept_port, f"location / {{ proxy_pass {served.url}; }}")

    return f"http://127.0.0.1:{kept_port}", in_front_of


def status(
    url: str,
    *,
    data: bytes | None = None,
    opener: urllib.request.OpenerDirector | None = None,
    headers: Mapping[str, str] | None = None,
) -> int:
    """The status of an answer, asked for as a browser does through the proxy's own name; a POST where there is data."""
    asked = urllib.request.Request(url, data=data, headers={"Sec-Fetch-Site": "same-origin", **(headers or {})})
    try:
        with opener.open(asked) if opener else urllib.request.urlopen(asked) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code


def let_in(url: str, opener: urllib.request.OpenerDirector | None = None) -> set[str]:
    """The paths that are not refused."""
    read = {path for path in PATHS if status(url + path, opener=opener) not in (401, 403)}
    changed = {path for path in CHANGES if status(url + path, data=b"{}", opener=opener) not in (401, 403)}
    return read | changed


@pytest.mark.parametrize("auth", ["auto", "none"])
def test_requests_through_a_proxy_are_rejected(mail: str, proxied: tuple[str, InFrontOf], auth: str) -> None:
    url, in_front_of = proxied
    with serving("--redis", mail, QUEUEDECK_AUTH=auth) as served, in_front_of(served):
        assert let_in(url) == set()


def test_the_printed_url_gives_access(mail: str, proxied: tuple[str, InFrontOf]) -> None:
    url, in_front_of = proxied
    with serving("--redis", mail, QUEUEDECK_AUTH="auto") as served, in_front_of(served):
        token = re.search(r"\?token=([\w-]{43})\s", served.process.read_log())
        assert token is not None
        jar = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        assert status(f"{url}/?token={token[1]}", opener=browser) == 200
        assert [cookie.name for cookie in jar] == [f"queuedeck-{served.url.rpartition(':')[2]}"]
        assert status(f"{url}/workers", opener=browser) == 200
        assert status(f"{url}/workers") == 403
        assert status(f"{url}/?token={token[1][:-1]}", opener=urllib.request.build_opener()) == 403


def test_only_users_and_tokens_have_access(mail: str, proxied: tuple[str, InFrontOf], tmp_path: Path) -> None:
    url, in_front_of = proxied
    config = tmp_path / "queuedeck.toml"
    digest = hashlib.sha256(b"let me in").hexdigest()
    config.write_text(
        f"""redis_url = "{mail}"
auth = "auto"
secret_key = "{"k" * 40}"
api_tokens = ["ci:viewer:{digest}"]
trusted_proxies = 1
[[users]]
name = "ada"
password_hash = "{generate_password_hash("password", "scrypt:1024:8:1")}"
role = "admin"
"""
    )
    with serving("--config", config, QUEUEDECK_AUTH="auto") as served, in_front_of(served):
        assert "?token=" not in served.process.read_log()
        stranger = urllib.request.build_opener(_NoRedirect)
        assert let_in(url, stranger) == {path for path in PATHS if not path.startswith(("/api/", "/metrics"))}
        assert status(f"{url}/workers", opener=stranger) == 303  # to the form, and nowhere else
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert status(f"{url}/login", data=b"name=ada&password=wrong", opener=browser) == 403
        assert status(f"{url}/login", data=b"name=ada&password=password", opener=browser) == 200
        assert status(f"{url}/audit", opener=browser) == 200
        for token, answer in (("let me in", 200), ("let me out", 401)):
            assert status(f"{url}/api/v1/overview", headers={"Authorization": f"Bearer {token}"}) == answer
            assert status(f"{url}/metrics", headers={"Authorization": f"Bearer {token}"}) == answer


def test_the_host_application_decides_who_has_access(mail: str, proxied: tuple[str, InFrontOf]) -> None:
    url, in_front_of = proxied
    command = ["-m", "gunicorn", "tests.e2e.host:app", "--threads", "4", "--bind", "127.0.0.1:0"]
    with running([*command, "--no-control-socket"], HOST_REDIS_URL=mail) as served, in_front_of(served):
        assert let_in(f"{url}/ops/queues") == set()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert status(f"{url}/", opener=browser) == 200
        assert status(f"{url}/ops/queues/workers", opener=browser) == 200
        assert status(f"{url}/ops/queues/audit", opener=browser) == 403  # an operator


def test_request_headers_do_not_set_the_mount_path(mail: str) -> None:
    """gunicorn trusts SCRIPT_NAME from this machine, unless configured otherwise."""
    with serving("--redis", mail, QUEUEDECK_AUTH="none") as served:
        assert status(f"{served.url}/workers") == 200
        assert status(f"{served.url}/evil/workers", headers={"SCRIPT_NAME": "/evil"}) == 404


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: object, **_keywords: object) -> None:
        return None
