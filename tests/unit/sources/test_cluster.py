"""A cluster as one Redis, without one: the slot map, where commands go, and one reply from those of several nodes."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from dashboard.model import RedisHealth
from dashboard.sources.cluster.commands import Reach, keys_of, reach_of
from dashboard.sources.cluster.health import merge_health
from dashboard.sources.cluster.merging import merge_replies
from dashboard.sources.cluster.orders import choose_nodes, group_by_node, plan_batch
from dashboard.sources.cluster.slot_map import (
    SLOTS,
    SlotMap,
    has_hash_tag,
    next_scan_cursor,
    parse_slots,
    scan_place,
    slot_of,
)
from dashboard.sources.info import info_fields

A, B, C = ("a", 1), ("b", 2), ("c", 3)
THREE = [
    [0, 5460, [b"a", 1, b"id-a"], [b"d", 4, b"id-d"]],
    [5461, 10922, [b"b", 2, b"id-b"]],
    [10923, 16383, [b"c", 3, b"id-c"], [b"e", 5, b"id-e"]],
]


def slot_map(reply: Any = THREE) -> SlotMap:
    found = parse_slots(reply, ("asked", 9))
    assert found is not None
    return found


def test_the_slot_map_names_the_node_of_each_slot() -> None:
    found = slot_map()
    assert (found.primaries, found.replicas, found.uncovered) == ((A, B, C), {A: 1, B: 0, C: 1}, 0)
    assert [found.owner(slot) for slot in (0, 5460, 5461, 16383)] == [A, A, B, C]
    moved = found.after({0: C, 7: ("f", 6), 99_999: A})
    assert [moved.owner(slot) for slot in (0, 1, 7, 8)] == [C, A, ("f", 6), A]
    assert set(moved.primaries) == {A, B, C, ("f", 6)}
    assert found.owner(0) == A


@pytest.mark.parametrize(
    "reply", [None, b"", [], [[]], [[0, 5]], [[0, 99_999, [b"a", 1]]], [[5, 0, [b"a", 1]]], [[0, 1, 2]]]
)
def test_an_answer_without_a_readable_node_is_none(reply: Any) -> None:
    assert parse_slots(reply, A) is None


@pytest.mark.parametrize("host", [b"", b"x" * 256, b"a b", b"a\n", b"a/b", b"u@h", b"[::1]", 5, [b"a"]])
@pytest.mark.parametrize("port", [1, 0, 70_000, b"1", None])
def test_an_odd_row_leaves_its_slots_without_a_node(host: Any, port: Any) -> None:
    found = slot_map([*THREE[:2], [10923, 16383, [host, port]]])
    if host == b"" and port == 1:  # a node that does not know its own address
        assert found.owner(16383) == ("asked", 1)
        return
    assert (found.owner(16383), found.uncovered, found.primaries) == (None, 5461, (A, B))


def test_a_scan_goes_through_all_nodes_and_starts_a_node_anew_if_another_one_took_its_place() -> None:
    found = slot_map()
    assert scan_place(0, found) == (A, 0)
    within = next_scan_cursor(2**48 + 5, A, found)
    assert scan_place(within, found) == (A, 2**48 + 5)
    seconds = next_scan_cursor(0, A, found)
    assert scan_place(seconds, found) == (B, 0)
    assert scan_place(next_scan_cursor(0, B, found), found) == (C, 0)
    assert next_scan_cursor(0, C, found) == 0
    after_failover = slot_map([[0, 5460, [b"d", 4]], *THREE[1:]])
    assert scan_place(within, after_failover) == (("d", 4), 0)
    assert next_scan_cursor(0, A, after_failover) == 0  # the next pass finds what this one did not


@pytest.mark.parametrize(
    ("command", "reach", "keys"),
    [
        (("GET", "k"), None, (b"k",)),
        (("HMGET", b"\xff", "f"), None, (b"\xff",)),
        (("MEMORY", "USAGE", "k", "SAMPLES", 0), None, (b"k",)),
        (("EVAL", "return 1", 2, "k", "l", "a"), None, (b"k", b"l")),
        (("EVAL_RO", "return 1", 0), Reach.ANY, ()),
        (("EXISTS", "k", "l"), None, (b"k", b"l")),
        (("MGET", "k", "l"), None, (b"k", b"l")),
        (("INFO", "memory"), Reach.EACH, None),
        (("CLIENT", "LIST"), Reach.EACH, None),
        (("CLIENT", "ID"), Reach.ANY, None),
        (("TIME",), Reach.ANY, None),
        (("SCAN", 0, "COUNT", 1), Reach.SCAN, None),
    ],
)
def test_commands_have_keys_or_a_reach(command: Any, reach: Reach | None, keys: tuple[bytes, ...] | None) -> None:
    assert reach_of(command) is reach
    assert keys is None or keys_of(command) == keys


def test_a_batch_is_split_by_nodes_and_pieces() -> None:
    found = slot_map()
    in_a, in_b, in_c = "b", "c", "a"
    assert [found.owner(slot_of(key.encode())) for key in (in_a, in_b, in_c)] == [A, B, C]
    batch = plan_batch([[("TIME",), ("GET", in_b), ("TIME",)], [("INFO",), ("EXISTS", in_a, in_c)], [("TIME",)]])
    choose_nodes(batch.orders, found, "{queuedeck}")
    targets = [order.targets for order in batch.orders]
    assert targets == [[B], [B], [A], [A, B, C], [A], [C], [C]]
    by_node = group_by_node(batch.orders)
    numbers = {node: [[step.number for step in piece] for piece in pieces] for node, pieces in by_node.items()}
    assert numbers == {B: [[0, 1], [3]], A: [[2], [3, 4]], C: [[3, 5], [6]]}
    assert batch.replies(["t", "v", "t", b"info", 1, 0, "t"]) == ["t", "v", "t", b"info", 1, "t"]


def test_commands_without_keys_alone_go_to_the_node_with_the_own_keys() -> None:
    found = slot_map()
    batch = plan_batch([[("TIME",)]])
    choose_nodes(batch.orders, found, "{queuedeck}")
    assert batch.orders[0].targets == [found.owner(slot_of(b"{queuedeck}"))]


@pytest.mark.parametrize(
    ("command", "replies", "merged"),
    [
        (("DBSIZE",), [1, 2, 3], 6),
        (("SLOWLOG", "LEN"), [1, 2], 3),
        (("SLOWLOG", "GET", 2), [[[1, 50, 9, []]], [[1, 60, 9, []], [2, 40, 9, []]]], [[1, 60, 9, []], [1, 50, 9, []]]),
        (("CONFIG", "GET", "maxmemory"), [[b"maxmemory", b"0"]] * 2, [b"maxmemory", b"0"]),
        (("CONFIG", "GET", "maxmemory"), [[b"maxmemory", b"0"], [b"maxmemory", b"1"]], []),
        (("LATENCY", "LATEST"), [[[b"fork", 10, 5, 9]], [[b"fork", 20, 4, 7]]], [[b"fork", 20, 4, 9]]),
        (
            ("CLIENT", "LIST"),
            [b"id=1 name=w cmd=a\nid=2 name= cmd=b\n", b"id=3 name=w cmd=c\nid=4 name=w cmd=d\nid=5 name=x cmd=e\n"],
            b"id=2 name= cmd=b\nid=3 name=w cmd=c\nid=4 name=w cmd=d\nid=5 name=x cmd=e\n",
        ),
    ],
)
def test_replies_of_several_nodes_become_one(command: Any, replies: list[Any], merged: Any) -> None:
    assert merge_replies(command, replies) == merged
    refused = NoPermissionError("no")
    assert merge_replies(command, [*replies, refused]) is refused
    assert merge_replies(command, replies[:1]) == replies[0]


def test_info_has_sums_and_what_all_nodes_share() -> None:
    shared = "redis_mode:cluster\r\n"
    one = f"redis_version:7.0.15\r\nused_memory:10\r\nuptime_in_seconds:5\r\nrun_id:a\r\nused_memory_rss:?\r\n{shared}"
    two = f"redis_version:7.0.9\r\nused_memory:20\r\nuptime_in_seconds:3\r\nrun_id:b\r\nused_memory_rss:1\r\n{shared}"
    fields = info_fields(merge_replies(("INFO",), [one.encode(), two.encode()]))
    assert fields == {"redis_version": "7.0.9", "used_memory": "30", "uptime_in_seconds": "3", "redis_mode": "cluster"}


def test_the_health_of_a_cluster_is_that_of_its_worst_node() -> None:
    calm = RedisHealth(
        version="7.0.15",
        role="master",
        used_memory_bytes=10,
        maxmemory_bytes=100,
        memory_limited=True,
        memory_ratio=0.1,
        eviction_policy="noeviction",
        clients=1,
        persistence_ok=True,
        replicas=2,
        keys=1,
        uptime_s=9,
    )
    full = RedisHealth(
        version="7.0.9",
        role="master",
        used_memory_bytes=99,
        maxmemory_bytes=100,
        memory_limited=True,
        memory_ratio=0.99,
        eviction_policy="allkeys-lru",
        clients=2,
        persistence_ok=False,
        replicas=0,
        keys=None,
        uptime_s=4,
    )
    merged = merge_health([calm, full])
    assert (merged.used_memory_bytes, merged.maxmemory_bytes, merged.memory_ratio) == (109, 200, 0.99)
    assert (merged.eviction_policy, merged.persistence_ok, merged.replicas) == ("allkeys-lru", False, 0)
    assert (merged.version, merged.role, merged.clients, merged.uptime_s) == ("7.0.9", "cluster", 3, 4)
    assert merged.keys is None  # unknown of one node, so their sum is unknown
    unlimited = merge_health([calm, RedisHealth(memory_limited=False)])
    assert (unlimited.memory_limited, unlimited.maxmemory_bytes, unlimited.memory_ratio) == (True, None, 0.1)


@pytest.mark.parametrize(
    ("key", "tagged"),
    [("bull:q", False), ("{bull}:q", True), ("bull:{q}", True), ("{}bull", False), ("{bull", False), ("a}{b}", True)],
)
def test_a_hash_tag_decides_about_the_slot(key: str, tagged: bool) -> None:
    assert has_hash_tag(key.encode()) is tagged
    same = {slot_of(f"{key}{end}".encode()) for end in ("meta", "wait", "1", "22")}
    assert (len(same) == 1) is tagged
    assert all(0 <= slot < SLOTS for slot in same)
