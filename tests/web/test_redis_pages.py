"""The pages of Redis servers: figures, checks, slow log and latency, with and without permissions."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
import redis

from dashboard.demo.embedded import EmbeddedRedis
from tests.web.conftest import MakeApp

SLOWLOG, LATENCY = "slowlog-log-slower-than", "latency-monitor-threshold"
SCRIPT = "local secret = 'in-the-script' for n = 1, 3000000 do end return KEYS[1]"


@pytest.fixture
def logged(redis_client: redis.Redis, jobs: list[str]) -> Iterator[list[str]]:
    """A Redis with jobs, a slow log in which arguments are secrets, and a latency event. Settings are restored."""
    before = {name: redis_client.config_get(name)[name] for name in (SLOWLOG, LATENCY)}
    redis_client.config_set(SLOWLOG, 0)
    redis_client.config_set(LATENCY, 1)
    redis_client.slowlog_reset()
    redis_client.execute_command("SET", "user<b>:token", "in-a-value")
    redis_client.execute_command("EVAL", SCRIPT, 1, "queue:slow", "in-an-argument")
    redis_client.config_set(SLOWLOG, 10_000_000)
    yield jobs
    for name, value in before.items():
        redis_client.config_set(name, value)
    redis_client.slowlog_reset()
    redis_client.execute_command("LATENCY", "RESET")


def plain(page: str) -> str:
    """The text of a page, in one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def test_the_page_has_figures_checks_and_slow_commands(make_app: MakeApp, logged: list[str]) -> None:
    client = make_app().test_client()
    page = client.get("/redis").text
    assert page.count('class="figure ') == 5
    text = plain(page)
    for words in ("Memory used", "Last snapshot", "Append-only file", "Role primary", "Fragmentation", "Replicas 0"):
        assert words in text
    assert "maxmemory is not set A growing queue can use all memory of the machine. Set maxmemory" in text
    assert re.search(r"CONFIG SET maxmemory [1-9]\d*mb", text)
    assert "SET 1" not in page
    assert "<code>SET</code>" in page
    assert "user&lt;b&gt;:token" in page
    assert "queue:slow" in page
    assert "<code>EVAL</code>" in page
    assert not re.search("in-the-script|in-a-value|in-an-argument", page)
    assert "Latency events" in text
    assert "<code>command</code>" in page
    assert client.get("/redis/main").status_code == 200
    charts = client.get("/sources/main/charts").text
    for path in ("/redis/main", "/sources/main/charts", "/redis/main/memory", "/redis/main/leftovers"):
        assert f'href="{path}"' in page
        assert f'href="{path}"' in charts
    assert client.get("/redis/none").status_code == 404


def test_a_refresh_costs_no_command_and_a_report_is_shared(
    make_app: MakeApp, redis_client: redis.Redis, jobs: list[str]
) -> None:
    client = make_app().test_client()
    client.get("/redis")

    def calls(name: str) -> int:
        return int(redis_client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"])

    before = {name: calls(name) for name in ("slowlog|get", "latency|latest", "zcard")}
    for _ in range(3):
        assert client.get("/redis").status_code == 200
        refreshed = client.get("/redis/main/_figures", headers={"HX-Request": "true"})
        assert refreshed.headers["Queuedeck-Cost"].startswith("0 commands")
    assert {name: calls(name) for name in before} == before
    assert before["slowlog|get"] > 0


def test_the_api_has_what_the_page_has(make_app: MakeApp, logged: list[str]) -> None:
    answer = make_app().test_client().get("/api/v1/redis/main").json
    assert answer["figures"]["redis"]["used_memory_peak_bytes"] > 0
    assert answer["figures"]["redis"]["aof_enabled"] is False
    assert answer["error"] is None
    (finding,) = [each for each in answer["findings"] if each["text"] == "maxmemory is not set"]
    assert finding["level"] == "warning"
    assert finding["why"] == "a growing queue can use all memory of the machine"
    assert finding["command"].startswith("CONFIG SET maxmemory ")
    commands = {command["name"]: command for command in answer["slow_log"]["commands"]}
    assert (commands["EVAL"]["key"], commands["EVAL"]["arguments"]) == ("queue:slow", 4)
    assert commands["SET"]["key"] == "user<b>:token"
    assert [event["name"] for event in answer["latency"]["events"]] == ["command"]
    assert make_app().test_client().get("/api/v1/redis/none").status_code == 404


def test_without_permission_figures_are_unknown_and_say_why(
    make_app: MakeApp, redis_client: redis.Redis, server: EmbeddedRedis, jobs: list[str]
) -> None:
    rights = ("+@all", "-info", "-slowlog", "-latency", "-config", "-llen")
    redis_client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", *rights)
    try:
        address = server.url.replace("redis://", "redis://reader:secret@")
        client = make_app(redis_url=address).test_client()
        page = client.get("/redis").text
        text = plain(page)
        assert page.count('<abbr title="the Redis user is not permitted to run INFO">–</abbr>') >= 15
        assert "INFO is not permitted Version, memory and risks are unknown. Grant +info to this user." in text
        assert "ACL SETUSER queuedeck +llen" in text
        assert "Unknown: the Redis user is not permitted to run SLOWLOG GET." in text
        assert "Unknown: the Redis user is not permitted to run LATENCY LATEST." in text
        answer = client.get("/api/v1/redis/main").json
        assert answer["slow_log"]["commands"] is answer["latency"]["events"] is None
        assert answer["slow_log"]["error"] == "the Redis user is not permitted to run SLOWLOG GET"
    finally:
        redis_client.execute_command("ACL", "DELUSER", "reader")


def test_a_redis_that_is_down_keeps_its_page(make_app: MakeApp, server: EmbeddedRedis, jobs: list[str]) -> None:
    sources = [{"name": "main", "url": server.url}, {"name": "gone", "url": "redis://127.0.0.1:1/0"}]
    client = make_app(sources=sources).test_client()
    text = plain(client.get("/redis").text)
    assert "gone not reachable" in text
    page = plain(client.get("/redis/gone").text)
    assert "Connection refused by redis://127.0.0.1:1/0. Start Redis" in " ".join(page.split())
    memory = plain(client.get("/redis/gone/memory").text)
    assert "Connection refused by redis://127.0.0.1:1/0" in memory
    assert "It needs MEMORY USAGE" not in memory
    assert "Not all checks could be run" in page
    assert "Unknown: it was not read." in page
    answer = client.get("/api/v1/redis/gone").json
    assert answer["figures"]["reachable"] is False
    assert answer["error"]["code"] == "unavailable"
