"""URLs of clusters: what they may contain, the equivalent settings, and that passwords are hidden."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dashboard.backends.monitored_sources import open_sources
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from dashboard.settings.display import describe
from dashboard.settings.redis_urls import redact_url
from dashboard.settings.servers.cluster_urls import parse_cluster_url


def source_of(**fields: Any) -> str:
    [source] = load(environ={}, keywords={"sources": [{"name": "main", **fields}]}).sources
    assert source.is_cluster
    return source.redis_url


@pytest.mark.parametrize(
    ("url", "nodes", "node_url"),
    [
        ("redis+cluster://a:1,b:2", (("a", 1), ("b", 2)), "redis://h:7/0?"),
        ("redis+cluster://a/0", (("a", 6379),), "redis://h:7/0?"),
        ("redis+cluster://[::1]:5,[::2]/", (("::1", 5), ("::2", 6379)), "redis://h:7/0?"),
        ("redis+cluster://u:p%40ss@a:1", (("a", 1),), "redis://u:p%40ss@h:7/0?"),
        ("redis+cluster://a:1?password=x%2Fy", (("a", 1),), "redis://h:7/0?password=x%2Fy"),
        ("rediss+cluster://a:1?ssl_cert_reqs=none", (("a", 1),), "rediss://h:7/0?ssl_cert_reqs=none"),
    ],
)
def test_a_url_names_nodes_and_what_connects_to_each(
    url: str, nodes: tuple[tuple[str, int], ...], node_url: str
) -> None:
    load(environ={}, keywords={"redis_url": url})
    parsed = parse_cluster_url(url)
    assert (parsed.nodes, parsed.node_url("h", 7)) == (nodes, node_url)
    assert parsed.node_url("::1", 7) == node_url.replace("h:7", "[::1]:7")


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster:a:1",
        "redis+cluster://",
        "redis+cluster://:s3[cret@a:1",
        "redis+cluster://me:1234/s3cret@a:1",
        "redis+cluster://a:1,,b:2",
        "redis+cluster://a:1, b:2",
        "redis+cluster://a:0",
        "redis+cluster://a:b:1",
        "redis+cluster://a:1/3",
        "redis+cluster://a:1/shop",
        "redis+cluster://a:1#s3cret",
        "cluster://a:1",
    ],
)
def test_another_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("such as redis+cluster://10.0.0.1:6379,")) as caught:
        load(environ={}, keywords={"redis_url": url})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("option", ["db=1", "ssl_ca_certs=/ca.pem", "sentinel_tls=true"])
def test_options_of_other_servers_are_refused(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown option {option.partition('=')[0]} after the"):
        load(environ={}, keywords={"redis_url": f"redis+cluster://a:1?{option}"})


@pytest.mark.parametrize("hosts", ["a:1,b:1,a:1", "a,a:6379", ",".join(f"h{number}" for number in range(33))])
def test_each_node_is_named_once_and_there_are_few(hosts: str) -> None:
    with pytest.raises(ConfigurationError, match="expected each node once, and at most 32"):
        load(environ={}, keywords={"redis_url": f"redis+cluster://{hosts}"})


def test_settings_are_equivalent_to_a_url(tmp_path: Any) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("")
    assert source_of(cluster=["a:1", "[::1]"]) == "redis+cluster://a:1,[::1]"
    url = source_of(cluster=["a:1"], username="me", password="a/b@", tls=True, ca_file=str(file))
    assert parse_cluster_url(url).node_url("a", 1) == (
        f"rediss://me:a%2Fb%40@a:1/0?ssl_ca_certs={str(file).replace('/', '%2F')}"
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"url": "redis://h:1/0", "cluster": ["a:1"]}, "cluster: expected in the url, or without url"),
        ({"cluster": ["a:1"], "sentinels": ["b:2"]}, "sentinels: expected without cluster"),
        ({"cluster": ["a:1"], "service": "shop"}, "service: expected without cluster"),
        ({"cluster": ["a:1"], "database": 1}, "database: expected without cluster, which has only database 0"),
        ({"cluster": ["redis://a:1"]}, "cluster: expected host:port of each node"),
        ({"cluster": ["secret@a:1"]}, "cluster: expected host:port of each node"),
        ({"cluster": ["a:1"], "ca_file": "/ca.pem"}, "ca_file: expected only with tls = true"),
        ({"cluster": ["a:1"], "tls": True, "key_file": "/nowhere"}, "key_file: expected a readable file"),
        ({"cluster": ["a:1"], "broker_url": "redis://b:1"}, "broker_url: Celery does not run on Redis Cluster"),
        ({"url": "redis://b:1", "result_url": "redis+cluster://a:1"}, "result_url: Celery does not run on"),
    ],
)
def test_contradictory_settings_are_refused(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected) as caught:
        source_of(**fields)
    assert "secret" not in str(caught.value)


def test_only_libraries_that_run_on_a_cluster_are_looked_for() -> None:
    def watched(**fields: Any) -> list[str]:
        sources = open_sources(load(environ={}, keywords={"sources": [{"name": "main", "cluster": ["a:1"], **fields}]}))
        assert sources.sources["main"].is_cluster
        return [backend.name for backend in sources.backends["main"]]

    assert watched() == watched(backends=["bullmq"]) == ["bullmq"]
    with pytest.raises(ConfigurationError, match="'main': backends: RQ does not run on Redis Cluster; expected bullmq"):
        watched(backends=["bullmq", "rq"])


def test_no_password_is_shown() -> None:
    url = "rediss+cluster://me:hush@a:1,b:2?ssl_cert_reqs=none"
    assert redact_url(url) == "rediss+cluster://a:1,b:2"
    table = {"name": "two", "cluster": ["a:1"], "password": "hush"}
    settings = load(environ={}, keywords={"sources": [{"name": "main", "url": url}, table], "store_url": url})
    shown = "\n".join(describe(settings))
    assert "hush" not in shown
    assert shown.count("rediss+cluster://a:1,b:2") == 2
    assert '"cluster":["a:1"]' in shown
    store = open_sources(settings).own
    assert (store.is_cluster, store.address) == (True, "rediss+cluster://a:1,b:2")
