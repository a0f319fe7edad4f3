"""`queuedeck audit verify` on a real log: what it prints, and the status with which it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from dashboard.actions.audit_chain import AUDIT, AuditChain
from dashboard.actions.audit_log import Actor, AuditLog, build_event
from dashboard.cli import main
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.source import Source

SECRET = "s" * 40


@pytest.fixture
def config(tmp_path: Path, server: EmbeddedRedis, redis_client: redis.Redis) -> str:
    """The path of a settings file for an empty server."""
    file = tmp_path / "queuedeck.toml"
    file.write_text(f'redis_url = "{server.url}"\nsecret_key = "{SECRET}"\nstore_prefix = "{{team}}"\n')
    return str(file)


@pytest.fixture
def log(server: EmbeddedRedis, config: str) -> Any:
    source = Source("main", server.url, "{team}")
    yield AuditLog(source, AuditChain(SECRET, prefix="{team}"))
    source.close()


def test_the_result_of_a_whole_a_broken_and_an_unreadable_log(
    log: AuditLog, config: str, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify(*more: str) -> tuple[int, str]:
        return main(["audit", "verify", "--config", config, *more]), capsys.readouterr().out

    assert verify() == (0, "The audit log is whole: 0 events.\n")
    for number in range(3):
        log.record_event(build_event(Actor(name="anna", role="operator"), "retry", detail=str(number)))
    key = AUDIT.replace("{queuedeck}", "{team}")
    status, printed = verify()
    assert status == 0
    assert printed.startswith("The audit log is whole: 3 events.\nEvents 1 to 3; the hash of the last one is ")
    assert printed.endswith("\nAll signatures are correct.\n")
    second = redis_client.xrange(key)[1][0].decode()  # type: ignore[index,union-attr]
    redis_client.xdel(key, second)
    status, printed = verify()
    third = redis_client.xrange(key)[1][0].decode()  # type: ignore[index,union-attr]
    assert status == 1
    assert printed.splitlines()[:2] == [
        "The audit log is BROKEN: 1 fault in 2 events.",
        f"  event 3 ({third}): removed: 1 event before it is missing",
    ]
    status, printed = verify("--json")
    found = json.loads(printed)
    assert (status, found["status"], found["fault_count"]) == (1, "broken", 1)
    assert found["faults"] == [{"kind": "removed", "number": 3, "entry": third, "text": "1 event before it is missing"}]
    redis_client.execute_command("ACL", "SETUSER", "default", "-xrange")
    status, printed = verify()
    assert (status, printed.startswith("The audit log cannot be read: ")) == (2, True)
    status, printed = verify("--json")
    assert (status, json.loads(printed)["status"]) == (2, "unreadable")
