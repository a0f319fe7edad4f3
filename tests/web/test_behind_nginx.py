"""The lines of docs/proxies.md: nginx in front of `queuedeck serve`, with the settings that belong to it."""

from __future__ import annotations

import base64
import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import pytest
import redis
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.settings import load
from tests.nginx import nginx
from tests.processes import ROOT
from tests.serving import Served, running, serving
from tests.waiting import CEILING_S, wait_until

GUIDE = (ROOT / "docs" / "proxies.md").read_text()
ODD = "mail/slow 50%"  # the name of a queue


class Answer(NamedTuple):
    status: int
    location: str | None
    cookies: str
    text: str


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "action", "hx-get", "hx-post") and value and not value.startswith("#"):
                self.found.add(value)


class Front:
    """nginx, and the server behind it."""

    def __init__(self, port: int, served: Served) -> None:
        self.port = port
        self.served = served

    def ask(
        self, path: str, headers: dict[str, str] | None = None, *, method: str = "GET", direct: bool = False
    ) -> Answer:
        """The answer to a browser that asks nginx, or `direct` the dashboard; no redirect is followed."""
        port = urlsplit(self.served.url).port if direct else self.port
        connection = http.client.HTTPConnection("127.0.0.1", port or 0, timeout=CEILING_S)
        try:
            connection.request(method, path, headers={"Sec-Fetch-Site": "same-origin", **(headers or {})})
            answer = connection.getresponse()
            cookies = answer.getheader("Set-Cookie") or ""
            return Answer(answer.status, answer.getheader("Location"), cookies, answer.read().decode())
        finally:
            connection.close()


def blocks(heading: str, language: str) -> list[str]:
    """The blocks in that language below a heading of the guide."""
    sections = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    [found] = [part for part in sections if part.startswith(f"{heading}\n")]
    return re.findall(rf"```{language}\n(.*?)```", found, re.DOTALL)


@contextmanager
def nginx_in_front(port: int, folder: Path, url: str, location: str, settings: str) -> Iterator[Front]:
    """A dashboard of the Redis at `url` with these settings, behind nginx with this location."""
    config = folder / "queuedeck.toml"
    config.write_text(f'redis_url = "{url}"\n{settings}')
    with (
        serving("--config", config, QUEUEDECK_AUTH="auto") as served,
        nginx(folder, port, location.replace("http://127.0.0.1:9181", served.url)),
    ):
        yield Front(port, served)


@pytest.fixture
def watched(server: EmbeddedRedis, redis_client: redis.Redis) -> str:
    """URL of a Redis with a queue whose name is hard to put into a URL."""
    Queue(ODD, connection=redis_client).enqueue("app.send")
    return server.url


def start_token(front: Front) -> str:
    token = re.search(r"\?token=([\w-]{43})\s", front.served.process.read_log())
    assert token is not None
    return token[1]


def test_the_lines_for_nginx(watched: str, kept_port: int, tmp_path: Path) -> None:
    (location,), (settings,) = blocks("nginx", "nginx"), blocks("nginx", "toml")
    with nginx_in_front(kept_port, tmp_path, watched, location, settings) as front:
        forged = {"X-Forwarded-Prefix": "/elsewhere", "X-Forwarded-Host": "evil.example"}
        answer = front.ask(f"/?token={start_token(front)}", forged)
        assert (answer.status, answer.location) == (303, "/")
        assert "Path=/;" in f"{answer.cookies};"


def test_the_lines_for_a_path(watched: str, kept_port: int, tmp_path: Path) -> None:
    """Every link of a page stays below it, and the page of a queue with a slash in its name is found."""
    (location,), (settings, _) = blocks("Under a path", "nginx"), blocks("Under a path", "toml")
    with nginx_in_front(kept_port, tmp_path, watched, location, settings) as front:
        assert "/ops/jobs/?token=" in front.served.process.read_log()
        answer = front.ask(f"/ops/jobs/?token={start_token(front)}")
        assert (answer.status, answer.location) == (303, "/ops/jobs/")
        assert "Path=/ops/jobs;" in f"{answer.cookies};"
        cookie = {"Cookie": answer.cookies.partition(";")[0]}
        page = f"/ops/jobs/queues/main/rq/{quote(ODD, safe='')}"
        wait_until(lambda: front.ask(page, cookie).status == 200, what="the queue")
        links = _Links()
        links.feed(front.ask(page, cookie).text)
        assert len(links.found) > 10
        assert {link for link in links.found if not link.startswith(("/ops/jobs/", "https://"))} == set()
        for link in sorted(links.found):
            if "logout" not in link and "/static/" in link:
                assert front.ask(link, cookie).status == 200, link
        for path in ("/healthz", "/readyz", "/ops/jobs/healthz"):
            assert front.ask(path, direct=True).status == 200, path
        outside = front.ask("/ops/jobs-elsewhere", direct=True)
        assert (outside.status, "This dashboard is under /ops/jobs/ (root_path)." in outside.text) == (404, True)
        assert front.ask("/ops/jobs", direct=True).location == "jobs/"


def test_the_lines_for_a_sign_in_of_nginx(watched: str, kept_port: int, tmp_path: Path) -> None:
    (_, location), settings = blocks("Sign-in at the proxy", "nginx"), blocks("Sign-in at the proxy", "toml")[-1]
    passwords = tmp_path / "htpasswd"
    passwords.write_text("".join(f"{name}:{{PLAIN}}secret\n" for name in ("anna", "ben", "carl")))
    location = location.replace("/etc/nginx/queuedeck.htpasswd", str(passwords))

    def signed_in(name: str, **headers: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"{name}:secret".encode()).decode(), **headers}

    with nginx_in_front(kept_port, tmp_path, watched, location, settings) as front:
        said = front.served.process.read_log()
        assert f"Listening at: {front.served.url}/\nOpen the address of the proxy where users sign in." in said
        assert "?token=" not in said
        assert front.ask("/").status == 401
        assert front.ask("/audit", signed_in("anna")).status == 200
        answer = front.ask("/workers", signed_in("ben"))
        assert (answer.status, ">ben</span>" in answer.text) == (200, True)
        assert front.ask("/audit", signed_in("ben")).status == 403
        assert front.ask("/audit", signed_in("ben", **{"X-Forwarded-User": "anna"})).status == 403
        answer = front.ask("/", signed_in("carl"))
        assert (answer.status, "carl has no role in Queuedeck." in answer.text) == (403, True)
        # From this machine without nginx: the address is a listed one, so the guide warns of that.
        assert front.ask("/audit", {"X-Forwarded-User": "anna"}, direct=True).status == 200
        assert front.ask("/audit", {"X-Forwarded-For": "127.0.0.1"}, direct=True).status == 403


def test_the_lines_for_a_unix_socket(watched: str, kept_port: int, tmp_path: Path) -> None:
    """Only nginx can connect to it. Here, nginx takes the user from the header X-Asks instead of a sign-in."""
    (command,), (location,), (settings,) = (blocks("A unix socket", kind) for kind in ("sh", "nginx", "toml"))
    path, config = tmp_path / "queuedeck.sock", tmp_path / "queuedeck.toml"
    config.write_text(f'redis_url = "{watched}"\n{settings}')
    arguments = command.replace("/run/queuedeck/queuedeck.sock", str(path)).split()[1:]
    location = location.replace("/run/queuedeck/queuedeck.sock", str(path)).replace("$remote_user", "$http_x_asks")
    with (
        running(
            ["-m", "gunicorn", "--bind", "127.0.0.1:0", *arguments],
            QUEUEDECK_CONFIG=str(config),
            QUEUEDECK_AUTH="auto",
        ) as served,
        nginx(tmp_path, kept_port, location),
    ):
        assert path.stat().st_mode & 0o777 == 0o770
        front = Front(kept_port, served)
        assert front.ask("/workers", {"X-Asks": "anna"}).status == 200
        assert front.ask("/workers").status == 403
        assert front.ask("/workers", {"X-Forwarded-User": "anna"}).status == 403
        assert front.ask("/workers", {"X-Forwarded-User": "anna"}, direct=True).status == 403


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL))
def test_an_example_of_the_guide_can_be_read(example: str, tmp_path: Path) -> None:
    config = tmp_path / "queuedeck.toml"
    config.write_text(example)
    load(config=config, environ={})
