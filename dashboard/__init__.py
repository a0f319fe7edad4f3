"""Queuedeck: one dashboard for every background-job queue in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auth import Identity, Role
    from .rights.grants import Grant
    from .rights.right import Right
    from .settings import Settings
    from .web.app import create_app, mount

__version__ = "0.1.0"
__all__ = ["Grant", "Identity", "Right", "Role", "Settings", "__version__", "create_app", "mount"]

_HOME = {
    "Grant": ".rights.grants",
    "Identity": ".auth",
    "Right": ".rights.right",
    "Role": ".auth",
    "Settings": ".settings",
    "create_app": ".web.app",
    "mount": ".web.app",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that a process that only samples or only runs a worker does not load Flask.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(name)
