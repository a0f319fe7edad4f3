"""The settings: immutable and typed, read from a TOML file, the environment and keywords (later ones win)."""

from __future__ import annotations

from .loading import load
from .schema import (
    DEFAULT_STORE_PREFIX,
    GrantSettings,
    OidcSettings,
    ProxySignInSettings,
    QueueSettings,
    RedactionSettings,
    Settings,
    SloSettings,
    SourceSettings,
    UserSettings,
)

__all__ = [
    "DEFAULT_STORE_PREFIX",
    "GrantSettings",
    "OidcSettings",
    "ProxySignInSettings",
    "QueueSettings",
    "RedactionSettings",
    "Settings",
    "SloSettings",
    "SourceSettings",
    "UserSettings",
    "load",
]
