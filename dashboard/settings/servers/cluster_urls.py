"""URLs of Redis Clusters: redis+cluster://host:port,host:port, with some of the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from ..sentinel_urls import host_and_port, parse_host, split_sentinel_url, user_info

CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
CLUSTER_PORT = 6379
MAX_CLUSTER_NODES = 32
EXPECTED = (
    "expected redis+cluster:// with the host and port of some nodes, such as "
    "redis+cluster://10.0.0.1:6379,10.0.0.2:6379"
)


class ClusterUrl(NamedTuple):
    """The parts of the URL of a cluster."""

    nodes: tuple[tuple[str, int], ...]  # host and port of those that are asked for the others
    scheme: str  # redis or rediss
    user: str  # name and password as in the URL, with the @; ""
    query: str  # the options of each connection

    @property
    def names(self) -> list[str]:
        """The nodes as host:port."""
        return [host_and_port(*node) for node in self.nodes]

    def node_url(self, host: str, port: int) -> str:
        """The URL of one node, with the user and the options of this one."""
        return f"{self.scheme}://{self.user}{host_and_port(host, port)}/0?{self.query}"


def is_cluster_url(url: str | None) -> bool:
    """Whether `url` names a Redis Cluster."""
    return url is not None and url.partition("://")[0] in CLUSTER_SCHEMES


def parse_cluster_url(url: str) -> ClusterUrl:
    """The parts of `url`. Raises ValueError, without its text, if it is not such a URL."""
    netloc, parts = split_sentinel_url(url)
    user, at, hosts = netloc.rpartition("@")
    if parts.path not in ("", "/", "/0"):
        raise ValueError(f"{EXPECTED}; a cluster has only database 0")
    query = urlencode(parse_qsl(parts.query, keep_blank_values=True))
    try:
        urlsplit(f"redis://{user}{at}none")
    except ValueError:
        raise ValueError(EXPECTED) from None  # its text may contain the password
    nodes = tuple(parse_host(each, CLUSTER_PORT, EXPECTED) for each in hosts.split(","))
    return ClusterUrl(nodes, CLUSTER_SCHEMES[parts.scheme], f"{user}{at}", query)


def build_cluster_url(
    nodes: Sequence[str], *, user: tuple[str | None, str | None], tls: bool, options: Mapping[str, str]
) -> str:
    """The URL of the cluster of `nodes`. `user`: name and password; `options`: those after the `?`."""
    query = f"?{urlencode(options)}" if options else ""
    scheme = "rediss+cluster" if tls else "redis+cluster"
    return f"{scheme}://{user_info(user[0] or '', user[1] or '')}{','.join(nodes)}{query}"
