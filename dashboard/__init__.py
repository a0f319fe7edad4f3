"""Queuedeck: one dashboard for every background-job queue in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dashboard.access import Identity, Role
    from dashboard.settings import Settings
    from dashboard.web.app import create_app, mount

__version__ = "0.1.0"
__all__ = ["Identity", "Role", "Settings", "__version__", "create_app", "mount"]

_HOME = {
    "Identity": "dashboard.access",
    "Role": "dashboard.access",
    "Settings": "dashboard.settings",
    "create_app": "dashboard.web.app",
    "mount": "dashboard.web.app",
}


def __getattr__(name: str) -> Any:
    # On first use, so that a process which only samples or only runs a worker need not load Flask.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(name)
