"""Payloads as trees: complete when small, bounded when not."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.web.views.jobs.payload_tree import MAX_NODES, MAX_TEXT, PayloadNode, build_tree


def count(node: PayloadNode) -> int:
    return 1 + sum(count(child) for child in node.children)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        ("a", "string", "a"),
        ("", "string", ""),
        (3, "number", "3"),
        (1.5, "number", "1.5"),
        (None, "word", "null"),
        (True, "word", "true"),
        (False, "word", "false"),
        ("a\x00b", "string", "a\\x00b"),
    ],
)
def test_plain_values(value: Any, kind: str, text: str) -> None:
    node = build_tree(value)
    assert (node.kind, node.text, node.children) == (kind, text, ())


def test_objects_and_arrays_keep_their_order() -> None:
    node = build_tree({"b": [1, "x"], "a": {}})
    assert (node.kind, node.size, node.open) == ("object", 2, True)
    assert [(child.key, child.kind, child.size) for child in node.children] == [("b", "array", 2), ("a", "object", 0)]
    assert [child.key for child in node.children[0].children] == ["0", "1"]


def test_only_what_can_be_taken_in_at_a_glance_is_open() -> None:
    deep = build_tree({"a": {"b": {"c": 1}}})
    assert deep.children[0].open
    assert not deep.children[0].children[0].open
    assert not build_tree(list(range(100))).open


def test_a_huge_value_is_cut_and_says_so() -> None:
    node = build_tree(list(range(100_000)))
    assert count(node) <= MAX_NODES + 1
    last = node.children[-1]
    assert last.kind == "cut"
    assert f"{100_000 - len(node.children) + 1} more" in last.text
    assert node.size == 100_000
    assert len(build_tree("x" * 1_000_000).text) == MAX_TEXT + 1


def test_the_budget_is_shared_by_all_branches() -> None:
    assert count(build_tree({str(n): list(range(100)) for n in range(1000)})) < 2 * MAX_NODES
