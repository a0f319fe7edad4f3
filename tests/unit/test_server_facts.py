"""What is shown of a server: of slow commands only keys, the figures of INFO, reasons for unknown ones."""

from __future__ import annotations

import pytest

from dashboard.doctor.findings import FindingLevel, warning_finding
from dashboard.model import RedisHealth, SourceStats
from dashboard.sources.info import parse_info
from dashboard.sources.slow_commands import command_key, command_name
from dashboard.web.views.problems.problem import ProblemLevel
from dashboard.web.views.problems.thresholds import Thresholds
from dashboard.web.views.servers.server_figures import figure_groups, main_figures, unknown_reason


@pytest.mark.parametrize(
    ("sent", "name", "key"),
    [
        ("lrange jobs 0 -1", "LRANGE", b"jobs"),
        ("BITOP AND into from", "BITOP", b"into"),
        ("eval <script> 2 first second secret", "EVAL", b"first"),
        ("eval <script> 0 secret", "EVAL", None),
        ("eval <script> two secret", "EVAL", None),
        ("evalsha 0123 1 key", "EVALSHA", b"key"),
        ("zunion 1 set secret", "ZUNION", b"set"),
        ("XREADGROUP GROUP g c COUNT 5 STREAMS events >", "XREADGROUP", b"events"),
        ("XREAD COUNT 5", "XREAD", None),
        ("MEMORY USAGE key SAMPLES 5", "MEMORY USAGE", b"key"),
        ("AUTH user secret", "AUTH", None),
        ("CONFIG SET requirepass secret", "CONFIG", None),
        ("MIGRATE host 6379 key 0 5000 AUTH secret", "MIGRATE", None),
        ("KEYS *", "KEYS", None),
        ("GET", "GET", None),
        ("", "unknown", None),
    ],
)
def test_only_what_is_known_to_be_a_key_is_shown(sent: str, name: str, key: bytes | None) -> None:
    arguments = sent.encode().split()
    assert (command_name(arguments), command_key(arguments)) == (name, key)


def test_hostile_words_of_a_command_are_harmless() -> None:
    assert command_name([b"<b>\xff\n" + b"A" * 99]) == "?B???" + "A" * 25
    assert command_key([b"SET", b"k" * 1000, b"v"]) == b"k" * 128


INFO = (
    b"redis_version:7.0.15\r\nserver_time_usec:1700000100000000\r\nused_memory:100\r\nused_memory_peak:300\r\n"
    b"used_memory_rss:200\r\ntotal_system_memory:1000\r\nrdb_last_save_time:1700000040\r\n"
    b"rdb_changes_since_last_save:7\r\nrdb_last_bgsave_status:err\r\naof_enabled:1\r\naof_last_write_status:ok\r\n"
    b"aof_last_bgrewrite_status:err\r\nrole:slave\r\nmaster_host:db-1\r\nmaster_port:6380\r\nmaster_link_status:down\r\n"
)


def test_figures_of_info() -> None:
    health = parse_info(INFO, 5)
    assert (health.used_memory_peak_bytes, health.used_memory_rss_bytes, health.system_memory_bytes) == (300, 200, 1000)
    assert (health.last_save_age_s, health.last_save_ok, health.changes_since_save) == (60.0, False, 7)
    assert (health.aof_enabled, health.aof_ok, health.replica_of) == (True, False, "db-1:6380")
    bare = parse_info(b"redis_version:7.0.15\r\naof_enabled:no\r\nrdb_last_save_time:soon\r\n", None)
    assert (bare.last_save_age_s, bare.last_save_ok, bare.aof_enabled, bare.aof_ok) == (None,) * 4


def test_the_start_of_the_server_is_no_snapshot() -> None:
    started = b"server_time_usec:1700000100900000\r\nuptime_in_seconds:60\r\n"
    for head, saved_at, expected in (
        (started, b"1700000040", False),
        (started + b"rdb_saves:0\r\n", b"1700000090", True),  # after CONFIG RESETSTAT
        (started + b"rdb_saves:1\r\n", b"1700000040", False),  # it failed, or is being written
        (b"rdb_saves:0\r\n", b"1700000040", False),
        (b"", b"1700000040", None),
    ):
        health = parse_info(head + b"rdb_last_bgsave_status:ok\r\nrdb_last_save_time:" + saved_at + b"\r\n", None)
        assert health.saved_since_start is expected, head
    health = parse_info(started + b"rdb_last_save_time:1700000040\r\nrdb_last_bgsave_status:ok\r\n", None)
    assert (health.last_save_age_s, health.last_save_ok) == (None, None)
    figures = shown(source(health))
    assert figures["Last snapshot"][0] == "none since the server started"
    assert figures["Snapshots"][0] == "not tried yet"


def source(health: RedisHealth, *, reachable: bool = True) -> SourceStats:
    return SourceStats(name="main", address="redis://h", reachable=reachable, health=health)


def shown(stats: SourceStats) -> dict[str, tuple[str, ProblemLevel]]:
    scale = Thresholds().for_source(stats)
    figures = [
        *main_figures(stats, scale, "why"),
        *(figure for group in figure_groups(stats, scale, "why") for figure in group.figures),
    ]
    return {figure.label: (figure.text, figure.level) for figure in figures}


def test_what_is_wrong_has_a_level() -> None:
    figures = shown(source(parse_info(INFO, 5)))
    assert figures["Last snapshot"] == ("1\u202fm ago", ProblemLevel.OK)
    assert figures["Snapshots"][0] == figures["Append-only file"][0] == "failing"
    assert figures["Snapshots"][1] is figures["Append-only file"][1] is ProblemLevel.CRITICAL
    assert figures["Link to the primary"] == ("down", ProblemLevel.CRITICAL)
    assert figures["Role"] == ("replica", ProblemLevel.OK)
    full = shown(source(RedisHealth(used_memory_bytes=95, maxmemory_bytes=100, memory_limited=True, memory_ratio=0.95)))
    assert full["Memory used"][1] is ProblemLevel.CRITICAL


def test_unknown_figures_are_dashes_with_their_reason() -> None:
    empty = source(RedisHealth())
    figures = main_figures(empty, Thresholds().for_source(empty), "why")
    assert {(figure.text, figure.why) for figure in figures} == {("–", "why")}
    assert unknown_reason(empty, is_last_known=False) == "the Redis user is not permitted to run INFO"
    assert unknown_reason(source(RedisHealth(version="7")), is_last_known=False) == "this server does not report it"
    down = source(RedisHealth(version="7"), reachable=False)
    assert unknown_reason(down, is_last_known=False) == "this Redis cannot be read"


def test_a_finding_in_one_line_has_its_reason() -> None:
    finding = warning_finding(
        "maxmemory is not set", "Set it.", why="queues can use all memory", command="CONFIG SET x 1"
    )
    assert finding.level is FindingLevel.WARNING
    assert str(finding) == "warning  maxmemory is not set: queues can use all memory. Set it."
