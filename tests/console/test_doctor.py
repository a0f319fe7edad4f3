"""The doctor in front of real servers: healthy, risky, refusing, and no Redis at all."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import bullmq
import celery
import pytest
import redis
import rq

from dashboard import cli
from dashboard.backends.monitored_sources import open_sources
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.doctor import acl, main, print_acl
from dashboard.model import JobQuery, State
from dashboard.sampling.sampler import Sampler
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.settings import Settings, load
from tests.certificates import make_certificate
from tests.conftest import SERVERS, start_server
from tests.contract.celery_live import Shop
from tests.readme_users import CELERY_GRANTS, PUBLISHER, READER
from tests.waiting import wait_until

HEALTHY = ("--maxmemory", "64mb", "--appendonly", "yes")
PASSWORD = "pass-" + "word"


def doctor(capsys: pytest.CaptureFixture[str], url: str, **more: Any) -> tuple[int, str]:
    """(exit status, what was printed)."""
    where = {} if "sources" in more else {"redis_url": url}
    code = main(load(environ={}, keywords=where | more))
    return code, capsys.readouterr().out


def line_with(text: str, output: str) -> str:
    """The one line that says `text`."""
    lines = [line.strip() for line in output.splitlines() if text in line]
    assert len(lines) == 1, output
    return lines[0]


@pytest.fixture
def own_server() -> Iterator[Any]:
    """Starts a server with options of the test's own."""
    started: list[EmbeddedRedis] = []

    def start(*options: str, name: str = "redis-7") -> EmbeddedRedis:
        started.append(start_server(name, *options))
        return started[-1]

    yield start
    for server in started:
        server.close()


async def _add_bullmq_jobs(url: str) -> None:
    queue = bullmq.Queue("orders", {"connection": url, "prefix": "shop"})
    for number in range(3):
        await queue.add("fulfil", {"number": number})
    await queue.close()


def add_jobs(url: str) -> None:
    """Jobs of both libraries, made by themselves."""
    # In a thread of its own: a browser that other tests drive keeps an event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(_add_bullmq_jobs(url))).result()
    with redis.Redis.from_url(url) as client:
        rq.Queue("mails", connection=client).enqueue("shop.send", "anna@example.com")


def test_a_healthy_server_is_reported_healthy(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    add_jobs(server.url)
    code, output = doctor(capsys, server.url)
    assert code == 0, output
    assert output.startswith(f"main · redis://127.0.0.1:{server.port}/0\n")
    assert re.search(r"ok +Redis 7\.\d+\.\d+: up \d+ s, \d+ clients?, \d+ keys?, [\d.]+ MiB used", output)
    assert "BullMQ: 1 queue under shop" in output
    assert "RQ: 1 queue" in output
    assert "This user can find, count and show jobs." in output
    assert "Snapshots can be published" in output
    assert output.endswith("0 problems, 0 warnings\n")


def test_the_doctor_writes_nothing(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server()
    add_jobs(server.url)
    with redis.Redis.from_url(server.url) as client:
        before = {key: client.dump(key) for key in client.scan_iter()}
        writes = client.info("persistence")["rdb_changes_since_last_save"]
        doctor(capsys, server.url)
        assert {key: client.dump(key) for key in client.scan_iter()} == before
        assert client.info("persistence")["rdb_changes_since_last_save"] == writes


def test_an_empty_server_is_reported_but_is_not_an_error(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = doctor(capsys, own_server(*HEALTHY).url)
    assert code == 0
    assert line_with("No queues found", output).startswith("note")


def test_versions_are_reported(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    with redis.Redis.from_url(server.url) as client:
        client.hset("bull:a:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
        client.hset("bull:b:meta", mapping={"version": "bullmq:5.81.5", "opts.maxLenEvents": 10000})
    line = line_with("BullMQ: 2 queues", doctor(capsys, server.url)[1])
    assert "6.7.0" in line
    assert "5.81.5" in line


def test_an_ambiguous_colon_in_a_queue_name_is_reported(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    with redis.Redis.from_url(server.url) as client:
        client.set("shop:mail:new:id", 3)
        client.lpush("shop:mail:new:wait", "1")
        client.hset("app:jobs:video:meta", mapping={"version": "bullmq:5.81.5", "opts.maxLenEvents": 10000})
    output = doctor(capsys, server.url)[1]
    line = line_with("Bull allows colons in both", output)
    assert line.startswith("note  ")
    assert "shop:mail:new:*" in line
    assert "app:jobs" not in line
    assert 'prefixes = ["shop"]' in output
    sources = [{"name": "main", "url": server.url, "prefixes": ["shop", "app:jobs"]}]
    output = doctor(capsys, server.url, sources=sources)[1]
    assert "colon" not in output
    assert "BullMQ: 2 queues under app:jobs, shop" in output


def test_a_name_cannot_play_with_the_terminal(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    with redis.Redis.from_url(server.url) as client:
        client.hset("ev\x1b[2Jil\n  ok all is well:queue:meta", mapping={"opts.maxLenEvents": 10000})
    output = doctor(capsys, server.url)[1]
    assert "\x1b" not in output
    assert "\n  ok all is well" not in output


@pytest.mark.parametrize(
    ("options", "settings", "code", "said"),
    [
        ((), {}, 1, "warning  maxmemory is not set"),
        ((), {}, 1, "warning  Persistence is off"),
        (HEALTHY, {"maxmemory-policy": "allkeys-lru"}, 2, "problem  Eviction policy allkeys-lru"),
        (HEALTHY, {"maxmemory-policy": "volatile-ttl"}, 1, "warning  Eviction policy volatile-ttl"),
        (HEALTHY, {"maxmemory": "1mb"}, 2, "of maxmemory (1 MiB) is used"),
    ],
)
def test_risky_settings_are_reported(
    own_server: Any,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    settings: dict[str, str],
    code: int,
    said: str,
) -> None:
    server = own_server(*options)
    with redis.Redis.from_url(server.url) as client:
        for name, value in settings.items():
            client.config_set(name, value)
    status, output = doctor(capsys, server.url)
    assert status == code, output
    line_with(said, output)


def test_a_replica_and_its_broken_link_are_reported(
    own_server: Any, capsys: pytest.CaptureFixture[str], kept_port: int
) -> None:
    server = own_server(*HEALTHY, "--replicaof", "127.0.0.1", str(kept_port))
    code, output = doctor(capsys, server.url)
    assert code == 2
    line_with("This server is a slave", output)
    line_with("link to the primary is down", output)
    line_with("snapshots cannot be published", output)


def test_a_failed_write_to_disk_is_a_problem(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server("--maxmemory", "64mb", "--dbfilename", "folder.rdb")
    with redis.Redis.from_url(server.url) as client:
        Path(client.config_get("dir")["dir"], "folder.rdb").mkdir()
        with pytest.raises(redis.ResponseError):
            client.save()
        client.bgsave()
        wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], what="the end of the save")
    code, output = doctor(capsys, server.url)
    assert code == 2
    line_with("The last write to disk failed", output)


def test_a_queue_that_cannot_be_read_is_named(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    add_jobs(server.url)
    with redis.Redis.from_url(server.url) as client:
        client.delete("shop:orders:wait")
        client.set("shop:orders:wait", "no list")
    code, output = doctor(capsys, server.url)
    assert code == 1
    assert line_with("cannot be read", output).startswith("warning  BullMQ queue 'orders'")


# One clear line each for a server that cannot be asked.


def test_queues_that_cannot_be_found_are_reported(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    with redis.Redis.from_url(server.url) as client:
        client.set("rq:queues", "x")
    status, output = doctor(capsys, server.url)
    assert status == 1, output
    assert line_with("rq:queues is not a set", output).startswith("warning  RQ: ")


def only_line(output: str) -> str:
    _, line, count = output.splitlines()
    assert count == "1 problem, 0 warnings"
    return line.strip()


def test_redis_down(capsys: pytest.CaptureFixture[str], kept_port: int) -> None:
    code, output = doctor(capsys, f"redis://127.0.0.1:{kept_port}/0")
    assert code == 2
    assert "Connection refused by redis://127.0.0.1" in only_line(output)


def test_a_password_is_asked_for_or_wrong_and_never_printed(
    own_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = own_server("--requirepass", PASSWORD)
    address = f"127.0.0.1:{server.port}/0"
    code, output = doctor(capsys, f"redis://{address}")
    assert (code, "requires a password" in only_line(output)) == (2, True)
    code, output = doctor(capsys, f"redis://somebody:not-{PASSWORD}@{address}")
    assert (code, "rejected the user name or password" in only_line(output)) == (2, True)
    assert PASSWORD not in output
    code, output = doctor(capsys, f"redis://:{PASSWORD}@{address}")
    assert code == 1
    assert PASSWORD not in output


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def http_port() -> Iterator[int]:
    """Port of a web server."""
    with HTTPServer(("127.0.0.1", 0), _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_port_that_is_no_redis(http_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = doctor(capsys, f"redis://127.0.0.1:{http_port}/0")
    assert code == 2
    assert "is not a Redis server" in only_line(output)


@pytest.mark.usefixtures("own_timeouts")
def test_tls_asked_of_a_server_without_it(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = doctor(capsys, f"rediss://127.0.0.1:{own_server().port}/0")
    assert code == 2
    assert "use redis://" in only_line(output)


@pytest.fixture
def tls_port(tmp_path: Path, kept_port: int) -> Iterator[int]:
    """Port of a Redis that speaks TLS only, with a certificate that nobody signed."""
    certificate, key = make_certificate(tmp_path)
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    server = start_server("redis-7", "--tls-port", str(kept_port), "--tls-auth-clients", "no", *files)
    yield kept_port
    server.close()


def test_a_server_that_wants_tls(tls_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = doctor(capsys, f"redis://127.0.0.1:{tls_port}/0")
    assert code == 2
    assert "use rediss://" in only_line(output)


def test_a_self_signed_certificate(tls_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = doctor(capsys, f"rediss://127.0.0.1:{tls_port}/0")
    assert code == 2
    assert "TLS failed" in only_line(output)
    assert ".." not in output
    assert "certificate" in only_line(output)
    for option in ("ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", f"ssl_ca_certs={tmp_path}/certificate.pem"):
        code, output = doctor(capsys, f"rediss://127.0.0.1:{tls_port}/0?{option}")
        assert "Redis 7" in output, option


def test_one_server_down_does_not_hide_the_other(
    own_server: Any, capsys: pytest.CaptureFixture[str], kept_port: int
) -> None:
    up, down = own_server(*HEALTHY).url, f"redis://127.0.0.1:{kept_port}/0"
    sources = [{"name": "away", "url": down}, {"name": "here", "url": up}]
    code = main(load(environ={}, keywords={"sources": sources}))
    output = capsys.readouterr().out
    assert code == 2
    line_with("Connection refused", output)
    assert "here · " in output
    assert "can find, count and show" in output


def test_a_store_of_its_own_is_looked_at_too(
    own_server: Any, capsys: pytest.CaptureFixture[str], kept_port: int
) -> None:
    down = f"redis://127.0.0.1:{kept_port}/1"
    code, output = doctor(capsys, own_server(*HEALTHY).url, store_url=down)
    assert code == 2
    assert f"store · {down}" in output
    assert "Snapshots can be published" not in output


# What the user of the URL may do.


def add_celery(client: redis.Redis) -> None:
    """A queue of Celery as a producer declares it."""
    client.sadd("_kombu.binding.mails", b"mails\x06\x16\x06\x16mails")


def test_it_reports_whether_celery_events_can_be_received(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    with redis.Redis.from_url(server.url) as client:
        add_celery(client)
    line = line_with("Celery: this user can subscribe", doctor(capsys, server.url)[1])
    assert line.startswith(
        "ok       Celery: this user can subscribe to *celery-task-meta-*, */0.celeryev/worker.heartbeat"
    )
    user = f"ACL SETUSER queuedeck on >{PASSWORD} ~* -@all +@read +info +client|list +eval_ro resetchannels"
    set_user(server, f"{user} +psubscribe &*/0.celeryev/worker.heartbeat")
    code, output = doctor(capsys, as_user(server))
    line = line_with("Celery: this user cannot PSUBSCRIBE", output)
    assert (code, line.startswith("note     Celery: this user cannot PSUBSCRIBE to *celery-task-meta-*")) == (0, True)
    assert line.endswith(
        "Grant +psubscribe &*celery-task-meta-* &*/0.celeryev/task.multi &*/0.celeryev/task.succeeded."
    )
    grants = line.partition("Grant ")[2].rstrip(".")
    set_user(server, f"ACL SETUSER queuedeck {grants}")
    assert line_with("Celery: this user can subscribe", doctor(capsys, as_user(server))[1]).startswith("ok ")
    set_user(server, "ACL SETUSER queuedeck -psubscribe")
    assert "+psubscribe &*celery-task-meta-*" in line_with(
        "Celery: this user cannot PSUBSCRIBE", doctor(capsys, as_user(server))[1]
    )


def test_the_celery_version_is_reported_by_a_worker(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    with redis.Redis.from_url(server.url) as client:
        add_celery(client)
    assert line_with("Celery: 1 queue", doctor(capsys, server.url)[1]).endswith("; version unknown")
    shop = Shop(server.url)
    with shop.worker("mails"):
        # A heartbeat of the worker is waited for, which may come late on a busy machine.
        told = f"written by version {celery.__version__}"
        wait_until(
            lambda: line_with("Celery: 1 queue", doctor(capsys, server.url)[1]).endswith(told), what="the version"
        )
    shop.close()


def test_the_readme_grants_what_celery_needs(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    set_user(server, on_version(PUBLISHER, "redis-7"))
    set_user(server, f"ACL SETUSER queuedeck {CELERY_GRANTS}")
    with redis.Redis.from_url(server.url) as client:
        add_celery(client)
        client.set("celery-task-meta-1", '{"status": "FAILURE", "result": null, "task_id": "1"}')
        watched = open_sources(load(environ={}, keywords={"redis_url": as_user(server)}))
        sampler = Sampler(watched, 2.0, "test")
        wait_until(lambda: sampler.sample(1) and client.exists("{queuedeck}:celery:main:filled"), what="the index")
        assert client.zrange("{queuedeck}:celery:main:dead", 0, -1) == [b"1"]
        assert client.ttl("{queuedeck}:celery:main:queues") > 0
        refused = client.execute_command("ACL", "LOG")
        assert refused == []
        watched.close()
    assert line_with("Celery: this user can subscribe", doctor(capsys, as_user(server))[1]).startswith("ok ")


def as_user(server: EmbeddedRedis, name: str = "queuedeck") -> str:
    return f"redis://{name}:{PASSWORD}@127.0.0.1:{server.port}/0"


def set_user(server: EmbeddedRedis, line: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(*line.split())


def test_a_refused_command_is_named_with_what_it_is_for(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    add_jobs(server.url)
    set_user(server, f"ACL SETUSER queuedeck on >{PASSWORD} ~* -@all +@read +info +eval -hmget -xrevrange")
    code, output = doctor(capsys, as_user(server))
    assert code == 2
    line = line_with("needed for showing jobs", output)
    assert "HMGET, XREVRANGE" in line
    assert "+hmget +xrevrange" in line
    line_with("cannot run CLIENT LIST: ", output)
    line_with("cannot run EVAL_RO: ", output)


def test_a_redis_user_limited_to_some_keys_is_reported(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    add_jobs(server.url)
    set_user(server, f"ACL SETUSER queuedeck on >{PASSWORD} ~rq:* -@all +@read +info +client|list +eval_ro")
    code, output = doctor(capsys, as_user(server))
    line_with("cannot read every key", output)
    line_with("RQ: 1 queue", output)
    assert code == 0


def test_a_user_who_may_nothing_is_one_problem_a_line(own_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = own_server(*HEALTHY)
    set_user(server, f"ACL SETUSER queuedeck on >{PASSWORD} -@all")
    code, output = doctor(capsys, as_user(server))
    assert code == 2
    assert "Traceback" not in output
    line_with("INFO is not permitted", output)
    line_with("needed for finding queues", output)


def on_version(line: str, server: str) -> str:
    """The README's line as the README says to change it for older servers."""
    line = line.replace(">PASSWORD", f">{PASSWORD}").replace(" +client|setinfo", "")
    return line.replace("%R~*", "~*").replace(" +eval_ro", "") if server == "redis-6" else line


def sample_everything(settings: Settings) -> None:
    """Do with Redis what the dashboard does: sample, and show lists and jobs. Raises where that is refused."""
    watched = open_sources(settings)
    snapshot = Sampler(watched, 2.0, "test").sample()
    assert [source.problems for source in snapshot.sources] == [()]
    assert [queue.error for queue in snapshot.queues] == [None, None]
    assert [queue.depth for queue in snapshot.queues] == [3, 1]
    for queue in snapshot.queues:
        backend = watched.backend(queue.source, queue.backend)
        for state in State:
            if state in backend.states:
                for job in backend.list_jobs(queue.ref, JobQuery(state=state)).jobs:
                    assert job.problem is None
                    assert backend.read_job(queue.ref, job.id).problem is None
    for source in watched.sources.values():
        source.close()


@pytest.mark.parametrize(
    ("line", "version"),
    [(READER, "redis-7"), (READER, "redis-6"), (READER, "valkey-9"), (PUBLISHER, "redis-7")],
    ids=["reader-7", "reader-6", "reader-valkey", "publisher-7"],
)
def test_the_users_of_the_readme_can_do_their_work(
    own_server: Any, capsys: pytest.CaptureFixture[str], line: str, version: str
) -> None:
    server = own_server(*HEALTHY, name=version)
    add_jobs(server.url)
    set_user(server, on_version(line, version))
    settings = load(environ={}, keywords={"redis_url": as_user(server)})
    sample_everything(settings)
    code, output = doctor(capsys, as_user(server))
    assert code == 0, output
    assert "This user can find, count and show jobs." in output
    publishes = line == PUBLISHER
    assert ("Snapshots can be published" in output) is publishes
    if publishes:
        store = SnapshotStore(open_sources(settings).sources["main"])
        assert store.acquire_lease("test", 15).epoch
        store.source.close()


@pytest.mark.parametrize("line", [READER, PUBLISHER], ids=["reader", "publisher"])
def test_the_users_of_the_readme_can_change_nothing_of_the_queues(own_server: Any, line: str) -> None:
    server = own_server(*HEALTHY)
    add_jobs(server.url)
    set_user(server, on_version(line, "redis-7"))
    with redis.Redis.from_url(as_user(server)) as client:
        for command in (
            ("SET", "rq:suspended", "1"),
            ("DEL", "shop:orders:wait"),
            ("LPUSH", "shop:orders:wait", "9"),
            ("EVAL", "return redis.call('DEL', KEYS[1])", 1, "shop:orders:wait"),
            ("EVAL_RO", "return redis.call('DEL', KEYS[1])", 1, "shop:orders:wait"),
            *(("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "SET", "maxmemory", "1"), ("MONITOR",), ("SHUTDOWN",)),
        ):
            with pytest.raises(redis.ResponseError):
                client.execute_command(*command)
    with redis.Redis.from_url(server.url) as client:
        assert client.llen("shop:orders:wait") == 3


def test_the_command_reads_the_settings_and_answers_the_status(
    own_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--redis", own_server(*HEALTHY).url]) == 0
    assert "0 problems" in capsys.readouterr().out
    assert cli.main(["doctor", "--redis", "http://127.0.0.1"]) == 2
    assert "expected redis://" in capsys.readouterr().err


@pytest.mark.usefixtures("own_timeouts")
def test_a_server_that_hangs_costs_a_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, output = doctor(capsys, f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
    assert code == 2
    assert "did not respond in time" in only_line(output)


def test_the_lines_for_acl_setuser_are_printed_for_each_server(
    own_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = own_server(*HEALTHY)
    with redis.Redis.from_url(server.url) as client:
        add_celery(client)
    assert print_acl(load(environ={}, keywords={"redis_url": server.url})) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert lines[:2] == [acl.reading_line(), acl.publishing_line()]
    assert [line.split()[3] for line in lines[2:]] == ["+psubscribe", "~*.reply.celery.pidbox"]
    for line in lines:
        set_user(server, line.replace(">PASSWORD", f">{PASSWORD}"))
    assert "Celery: this user can act on jobs." in doctor(capsys, as_user(server))[1]
    apart = {"redis_url": server.url, "store_url": server.url}
    assert print_acl(load(environ={}, keywords=apart)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert lines[0] == acl.reading_line()
    assert lines[-1] == acl.store_line()
    assert acl.publishing_line() not in lines
    assert print_acl(load(environ={}, keywords={"redis_url": "redis://127.0.0.1:1"})) == 2


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_accepts_the_lines_that_are_printed_for_it(
    own_server: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    server = own_server(*HEALTHY, name=name)
    add_jobs(server.url)
    with redis.Redis.from_url(server.url) as client:
        add_celery(client)
    assert print_acl(load(environ={}, keywords={"redis_url": server.url})) == 0
    for line in capsys.readouterr().out.splitlines():
        if not line.startswith("#"):
            set_user(server, line.replace(">PASSWORD", f">{PASSWORD}"))
    code, output = doctor(capsys, as_user(server))
    assert code == 0, output
    assert output.count("this user can act on jobs.") == 3, output


@pytest.mark.parametrize(
    ("version", "has", "lacks"),
    [
        ((6, 2), "resetkeys ~* resetchannels", "%R"),
        ((6, 2), "+client|list", "eval_ro"),
        ((7, 0), "%R~*", "setinfo"),
        ((7, 2), "+client|setinfo", " ~*"),
    ],
)
def test_the_lines_are_those_of_the_version(version: tuple[int, int], has: str, lacks: str) -> None:
    line = acl.reading_line(version)
    assert has in line
    assert lacks not in line
