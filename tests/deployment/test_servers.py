"""The settings in docs/connecting.md: with each example, the dashboard retries a job and sends an alert.

The jobs are RQ's, and in a cluster BullMQ's, because RQ does not run there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
from rq import Queue

from dashboard.demo.embedded import reserved_port
from dashboard.settings import load
from tests.alerts.channels.fake_providers import HttpSink
from tests.certificates import make_certificate
from tests.conftest import start_server
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.rq_library import run_waiting_jobs
from tests.deployment.cluster_set import cluster_set
from tests.deployment.sentinel_set import make_protection, sentinel_set
from tests.processes import ROOT
from tests.serving import get_json, post_json, serving
from tests.waiting import wait_until
from tests.workloads import rq_jobs

GUIDE = (ROOT / "docs" / "connecting.md").read_text()
PASSWORD = "p@ss/word"
ALERTS = """
sample_interval_s = 0.5
allow_private_webhooks = true
[[channels]]
id = "ops"
kind = "webhook"
url = "{webhook}"
[[rules]]
id = "dead"
metric = "queue.dead"
warning = 0
for_s = 0
min_samples = 1
group_wait_s = 0
new_instance_grace_s = 0
"""


def example(heading: str, **replaced: str) -> str:
    """The settings below a heading of the guide, the last ones if there are several, with the test's own values."""
    section = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    [found] = [part for part in section if part.startswith(f"{heading}\n")]
    lines = str(re.findall(r"```toml\n(.*?)```", found, re.DOTALL)[-1])
    for old, new in replaced.items():
        assert old in lines, (heading, old)
        lines = lines.replace(old, new)
    return lines


class Jobs(Protocol):
    """The jobs of a real library: one fails at first, and runs when it is retried."""

    queue: str  # library and name, as in URLs

    def fail_one(self) -> str:
        """Add a job that fails; its id."""

    def run_waiting(self) -> None:
        """Run all jobs that wait with the real worker."""

    def has_completed(self, job_id: str) -> bool:
        """Whether a job has run to its end."""


class RQJobs:
    """Jobs on one server."""

    queue = "rq/mail"

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._queue = Queue("mail", connection=client)

    def fail_one(self) -> str:
        job = self._queue.enqueue(rq_jobs.mark, 2)
        self.run_waiting()
        return job.id

    def run_waiting(self) -> None:
        run_waiting_jobs(self._queue)

    def has_completed(self, job_id: str) -> bool:
        return self._client.zscore("rq:finished:mail", job_id) is not None


class BullMQJobs:
    """Jobs in a cluster."""

    queue = "bullmq/mail"

    def __init__(self, url: str, client: redis.RedisCluster) -> None:
        self._url = url
        self._client = client

    def fail_one(self) -> str:
        self._drive("run", good=0, bad=1)
        [job_id] = self._client.zrange("{bull}:mail:failed", 0, -1)
        return str(job_id.decode())

    def run_waiting(self) -> None:
        worker = self._drive("consume")["worker"]
        try:
            wait_until(lambda: self._client.zcard("{bull}:mail:completed"), what="the run of the job")
        finally:
            self._drive("stop", worker=worker)

    def has_completed(self, job_id: str) -> bool:
        return self._client.zscore("{bull}:mail:completed", job_id) is not None

    def _drive(self, command: str, **options: Any) -> Any:
        return BullMQLibrary().drive(command, self._url, "mail", prefix="{bull}", **options)


class Deployment:
    """A server that runs, the settings for it, and jobs there, added and run by a user with all rights."""

    def __init__(
        self,
        lines: str,
        client: Callable[[], redis.Redis] | None = None,
        environ: dict[str, str] | None = None,
        *,
        jobs: Callable[[], AbstractContextManager[Jobs]] | None = None,
    ) -> None:
        self.lines = lines
        self.environ = environ or {}
        self._client = client
        self._jobs = jobs

    @contextmanager
    def jobs(self) -> Iterator[Jobs]:
        if self._jobs is not None:
            with self._jobs() as jobs:
                yield jobs
        else:
            assert self._client is not None
            with self._client() as client:
                yield RQJobs(client)


@contextmanager
def one_server(_folder: Path) -> Iterator[Deployment]:
    with start_server("redis-7") as server:
        lines = example("One server", **{"127.0.0.1:6379": f"127.0.0.1:{server.port}"})
        yield Deployment(lines, lambda: redis.Redis(port=server.port))


@contextmanager
def second_database(_folder: Path) -> Iterator[Deployment]:
    with start_server("redis-7") as server:
        lines = example("One server", **{"127.0.0.1:6379/0": f"127.0.0.1:{server.port}/2"})
        yield Deployment(lines, lambda: redis.Redis(port=server.port, db=2))


@contextmanager
def unix_socket(folder: Path) -> Iterator[Deployment]:
    path = folder / "redis.sock"
    with start_server("redis-7", "--unixsocket", str(path)):
        lines = example("A unix socket", **{"/run/redis/redis.sock": str(path)})
        yield Deployment(lines, lambda: redis.Redis(unix_socket_path=str(path)))


@contextmanager
def user_and_password(_folder: Path) -> Iterator[Deployment]:
    with start_server("redis-7") as server:
        with redis.Redis(port=server.port) as client:
            client.acl_setuser("queuedeck", enabled=True, passwords=[f"+{PASSWORD}"], keys="*", commands=["+@all"])
        lines = example("User and password", **{"redis.example.com:6379": f"127.0.0.1:{server.port}"})
        yield Deployment(lines, lambda: redis.Redis(port=server.port), {"REDIS_PASSWORD": "p%40ss%2Fword"})


@contextmanager
def tls_with_client_certificates(folder: Path) -> Iterator[Deployment]:
    certificate, key = make_certificate(folder)
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    # The port without TLS is the test's own.
    with reserved_port() as tls_port, start_server("redis-7", "--tls-port", str(tls_port), *files) as server:
        lines = example(
            "TLS",
            **{
                "redis.example.com:6380": f"127.0.0.1:{tls_port}",
                "/etc/ssl/ca.pem": str(certificate),
                "/etc/ssl/client.pem": str(certificate),
                "/etc/ssl/client.key": str(key),
            },
        )
        yield Deployment(lines, lambda: redis.Redis(port=server.port))


@contextmanager
def behind_sentinels(folder: Path) -> Iterator[Deployment]:
    with sentinel_set(folder) as servers:
        hosts = dict(zip(("10.0.0.1:26379", "10.0.0.2:26379", "10.0.0.3:26379"), servers.hosts, strict=True))
        yield Deployment(example("Sentinel", **hosts), lambda: redis.Redis(port=servers.primary().port))


@contextmanager
def in_a_cluster(folder: Path) -> Iterator[Deployment]:
    protection = make_protection(folder)
    with cluster_set(folder, protection, replicas=False) as nodes:
        one, two = nodes.hosts
        lines = example(
            "Redis Cluster",
            **{
                "10.0.0.1:6379": one,
                "10.0.0.2:6379": two,
                '"queuedeck"': '"default"',
                "/etc/ssl/private-ca.pem": str(protection.certificate),
            },
        )

        @contextmanager
        def jobs() -> Iterator[Jobs]:
            with nodes.client() as client:
                yield BullMQJobs(nodes.driver_url, client)

        yield Deployment(lines, environ={"REDIS_PASSWORD": protection.password}, jobs=jobs)


# What the providers of managed servers do not permit, each some of them. RQ's own worker requires CLIENT, so only the
# user of the dashboard is refused it.
NOT_MANAGED = (
    *("ACL", "BGREWRITEAOF", "BGSAVE", "CONFIG", "DEBUG", "LATENCY", "MEMORY", "MIGRATE", "MODULE", "MONITOR"),
    *("PSYNC", "REPLICAOF", "SAVE", "SHUTDOWN", "SLAVEOF", "SLOWLOG", "SWAPDB", "SYNC"),
)


@contextmanager
def managed(folder: Path) -> Iterator[Deployment]:
    certificate, key = make_certificate(folder)
    tls = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    users = folder / "users.acl"
    users.write_text(f"user default on nopass ~* &* +@all\nuser queuedeck on >{PASSWORD} ~* &* +@all -client\n")
    forbidden = [part for name in NOT_MANAGED for part in ("--rename-command", name, "")]
    with (
        reserved_port() as tls_port,
        start_server("redis-7", "--tls-port", str(tls_port), *tls, "--aclfile", str(users), *forbidden) as server,
    ):
        lines = example("Managed servers", **{"queues.example.com:6379": f"127.0.0.1:{tls_port}"})
        environ = {"REDIS_PASSWORD": "p%40ss%2Fword", "SSL_CERT_FILE": str(certificate)}
        yield Deployment(lines, lambda: redis.Redis(port=server.port), environ)


FORMS = (
    *(one_server, second_database, unix_socket, user_and_password, tls_with_client_certificates, behind_sentinels),
    *(in_a_cluster, managed),
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_job_is_retried_and_an_alert_is_sent(form: Any, tmp_path: Path, sink: HttpSink) -> None:
    config = tmp_path / "queuedeck.toml"
    with form(tmp_path) as running, running.jobs() as jobs:
        config.write_text(ALERTS.format(webhook=sink.url).lstrip() + running.lines)
        assert load(config=config, environ=running.environ).sources[0].name == "main"
        job_id = jobs.fail_one()
        with serving("--config", config, **running.environ) as served:
            listed = f"{served.url}/api/v1/queues/main/{jobs.queue}/jobs?state=dead"
            wait_until(lambda: [found["id"] for found in get_json(listed).get("jobs", ())] == [job_id], what="the job")
            wait_until(lambda: sink.kinds_received("dead") == ["firing"], what="the alert")
            post_json(f"{served.url}/api/v1/queues/main/{jobs.queue}/jobs/{job_id}/retry", {})
            jobs.run_waiting()
            assert jobs.has_completed(job_id)
            wait_until(lambda: not get_json(listed)["jobs"], what="no dead job")
