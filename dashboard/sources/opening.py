"""Opens the right kind of source for a URL."""

from __future__ import annotations

from ..settings import DEFAULT_STORE_PREFIX
from ..settings.servers.cluster_urls import is_cluster_url
from .cluster.source import ClusterSource
from .source import Source


def open_source(name: str, url: str, prefix: str = DEFAULT_STORE_PREFIX) -> Source:
    """The source for `url`: one server, the primary that Sentinels name, or a cluster. Opens no connection."""
    return (ClusterSource if is_cluster_url(url) else Source)(name, url, prefix)
