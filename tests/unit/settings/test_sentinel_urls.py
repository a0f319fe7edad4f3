"""URLs with Sentinels: what they may contain, the equivalent settings, and that passwords are hidden."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.settings.display import describe
from dashboard.settings.redis_urls import redact_url
from dashboard.settings.sentinel_urls import parse_sentinel_url

TWO = "redis+sentinel://a:1,b:2"


def source_of(**fields: Any) -> str:
    [source] = load(environ={}, keywords={"sources": [{"name": "main", **fields}]}).sources
    return source.redis_url


@pytest.mark.parametrize(
    ("url", "sentinels", "service", "server", "sentinel_server"),
    [
        (f"{TWO}/shop/3", (("a", 1), ("b", 2)), "shop", "redis://none/3?", "redis://none"),
        ("redis+sentinel://a/shop", (("a", 26379),), "shop", "redis://none/?", "redis://none"),
        (
            "redis+sentinel://[::1]:5,[::2]/my%20shop/0",
            (("::1", 5), ("::2", 26379)),
            "my shop",
            "redis://none/0?",
            "redis://none",
        ),
        (
            "rediss+sentinel://u:p%40ss@a:1/shop?sentinel_password=x%2Fy&ssl_cert_reqs=none",
            (("a", 1),),
            "shop",
            "rediss://u:p%40ss@none/?ssl_cert_reqs=none",
            "rediss://:x%2Fy@none?ssl_cert_reqs=none",
        ),
        (
            "rediss+sentinel://a:1/shop?sentinel_tls=false&password=p",
            (("a", 1),),
            "shop",
            "rediss://none/?password=p",
            "redis://none",
        ),
    ],
)
def test_a_url_names_sentinels_and_service(
    url: str, sentinels: tuple[tuple[str, int], ...], service: str, server: str, sentinel_server: str
) -> None:
    assert load(environ={}, keywords={"redis_url": url}).redis_url == url
    assert parse_sentinel_url(url) == (sentinels, service, server, sentinel_server)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel:a:1/shop",
        "redis+sentinel:///shop",
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/",
        "redis+sentinel://a:1/shop/one",
        "redis+sentinel://a:1/shop/1/2",
        "redis+sentinel://a:1,,b:2/shop",
        "redis+sentinel://a:0/shop",
        "redis+sentinel://a:65536/shop",
        "redis+sentinel://a:b:1/shop",
        "redis+sentinel://[::1:5/shop",
        "redis+sentinel://a:1/shop#secret",
        "redis+sentinel://a:1/sh\u0000op",
        "REDIS+SENTINEL://a:1/shop",
        "sentinel://a:1/shop",
    ],
)
def test_other_urls_are_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("such as redis+sentinel://10.0.0.1:26379,")):
        load(environ={}, keywords={"redis_url": url})


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("db=1", "unknown option db"),
        ("sentinel_tls=yes", "sentinel_tls: expected true or false"),
        ("ssl_ca_certs=/nowhere", "ssl_ca_certs: expected a readable file"),
        ("master=shop", "unknown option master"),
        ("ssl_cert_reqs=none", "ssl options: expected only with rediss"),
    ],
)
def test_an_invalid_option_is_named(option: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        load(environ={}, keywords={"redis_url": f"{TWO}/shop?{option}"})


@pytest.mark.parametrize("hosts", ["a:1,b:1,a:1", "a,a:26379", ",".join(f"h{number}" for number in range(33))])
def test_each_sentinel_is_named_once_and_there_are_few(hosts: str) -> None:
    with pytest.raises(ConfigurationError, match="expected each Sentinel once, and at most 32"):
        load(environ={}, keywords={"redis_url": f"redis+sentinel://{hosts}/shop"})


def test_settings_are_equivalent_to_a_url(tmp_path: Any) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("")
    fields = {"sentinels": ["a:1", "[::1]"], "service": "my shop"}
    assert source_of(**fields) == "redis+sentinel://a:1,[::1]/my%20shop/0"
    more = {
        "database": 2,
        "username": "me",
        "password": "a/b",
        "tls": True,
        "sentinel_tls": False,
        "ca_file": str(file),
    }
    url = source_of(**fields, **more, sentinel_username="you", sentinel_password="c@d")
    assert parse_sentinel_url(url) == (
        (("a", 1), ("::1", 26379)),
        "my shop",
        f"rediss://me:a%2Fb@none/2?ssl_ca_certs={str(file).replace('/', '%2F')}",
        "redis://you:c%40d@none",
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "expected url, or cluster, or sentinels and service"),
        ({"sentinels": ["a:1"]}, "service: expected the name"),
        ({"service": "shop"}, "expected url, or cluster, or sentinels and service"),
        (
            {"url": "redis://h:1/0", "service": "shop"},
            "service: expected in the url",
        ),
        ({"url": "redis://h:1/0", "password": "secret"}, "password: expected in the url"),
        ({"sentinels": ["redis://a:1"], "service": "shop"}, "sentinels: expected host:port of each"),
        ({"sentinels": ["a:1,b:2"], "service": "shop"}, "sentinels: expected host:port of each"),
        ({"sentinels": ["secret@a:1"], "service": "shop"}, "sentinels: expected host:port of each"),
        ({"sentinels": ["a:1"], "service": "shop", "database": -1}, "database: expected a database number"),
        ({"sentinels": ["a:1"], "service": "shop", "ca_file": "/ca.pem"}, "ca_file: expected only with tls = true"),
        (
            {"sentinels": ["a:1"], "service": "shop", "tls": True, "ca_file": "/nowhere"},
            "ca_file: expected a readable file",
        ),
    ],
)
def test_incomplete_or_contradictory_settings_are_refused(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected) as caught:
        source_of(**fields)
    assert "secret" not in str(caught.value)


def test_no_password_is_shown() -> None:
    url = "rediss+sentinel://me:hush@a:1,b:2/shop/1?sentinel_password=hush&ssl_cert_reqs=none"
    assert redact_url(url) == "rediss+sentinel://a:1,b:2/shop/1"
    table = {
        "name": "two",
        "sentinels": ["a:1"],
        "service": "shop",
        "password": "hush",
        "sentinel_password": "hush",
    }
    settings = load(environ={}, keywords={"sources": [{"name": "main", "url": url}, table]})
    shown = "\n".join(describe(settings))
    assert "hush" not in shown
    assert "rediss+sentinel://a:1,b:2/shop/1" in shown
    assert '"sentinels":["a:1"]' in shown
