"""Names and ids of any bytes travel through URLs unharmed."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.routing import Map

from dashboard.web.urls import SegmentConverter, encoded_path, quote_segment

NAMES = [
    "mail",
    "a/b",
    "a:b",
    "100%",
    "a b",
    "<script>",
    "äöü",
    "日本",
    "..x",
    "a%2Fb",
    "?x=1",
    "#",
    "a\\b",
    "\udcff\udcfe",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_survives_the_way_through_a_segment(name: str) -> None:
    converter = SegmentConverter(Map())
    segment = converter.to_url(name)
    assert "/" not in segment
    assert segment.isascii()
    assert converter.to_python(segment) == name


@pytest.mark.parametrize("script", ["", "/queues", "/a b/ü"])
def test_the_path_is_taken_as_it_was_sent(script: str) -> None:
    taken = {name: path_as_sent_and_taken(name, script) for name in NAMES}
    assert {name: paths for name, paths in taken.items() if paths[0] != paths[1]} == {}


def path_as_sent_and_taken(name: str, script: str) -> tuple[str, str]:
    """The path of a page of that name, and what the application takes it for."""
    sent = f"/jobs/{quote_segment(name)}/x"
    decoded = b"/jobs/" + name.encode("utf-8", "surrogateescape") + b"/x"
    prefix = "/".join(quote_segment(part) for part in script.split("/"))
    environ = {
        "SCRIPT_NAME": script.encode().decode("latin-1"),
        "PATH_INFO": decoded.decode("latin-1"),
        "RAW_URI": f"{prefix}{sent}?q=1",
    }
    return sent, encoded_path(environ)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"RAW_URI": "/something/else"},
        {"RAW_URI": "not a path"},
        {"RAW_URI": "/jobs/ü"},
        {"RAW_URI": "http://[broken/jobs/1"},
    ],
)
def test_without_a_trustworthy_raw_path_the_decoded_one_is_encoded_again(extra: dict[str, Any]) -> None:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": b"/jobs/a b".decode("latin-1"), **extra}
    assert encoded_path(environ) == "/jobs/a%20b"


def test_an_absolute_request_target_is_understood() -> None:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/jobs/a/b", "RAW_URI": "http://127.0.0.1:1/jobs/a%2Fb"}
    assert encoded_path(environ) == "/jobs/a%2Fb"
