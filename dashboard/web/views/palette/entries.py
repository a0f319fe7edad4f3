"""The entries of the command palette, as its script gets them, and those that do not depend on any queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import url_for

from ....model import Value


class PaletteEntry(Value, frozen=True, kw_only=True):
    """One line. `key` identifies it among recent choices; a line without one is not remembered.

    Choosing it opens `url`, as a question over the page if `asks`, or runs the `command` of the page's script.
    `keys`: what to press instead.
    """

    label: str
    key: str = ""
    detail: str = ""
    url: str | None = None
    command: str | None = None
    asks: bool = False
    keys: tuple[str, ...] = ()


class PaletteGroup(Value, frozen=True, kw_only=True):
    """Lines of one kind."""

    title: str
    entries: tuple[PaletteEntry, ...]


class PaletteAnswer(Value, frozen=True, kw_only=True):
    """What matches, best first. `found`: how many lines beside those that search for jobs. `note`: what is missing for
    this user, and why."""

    groups: tuple[PaletteGroup, ...]
    found: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class PaletteUser:
    """What the user may do. `may_leave`: whether there is a session to sign out of."""

    may_act: bool = False
    may_leave: bool = False
    may_open: Callable[[str], bool] = lambda _blueprint: True
    sees_all: bool = True


@dataclass(frozen=True, slots=True)
class StaticEntry:
    """An entry that is there whatever the queues are; `words` are further words that find it."""

    entry: PaletteEntry
    words: str = ""

    @property
    def text(self) -> str:
        """What a search looks at."""
        return f"{self.entry.label} {self.words}"


def list_pages(user: PaletteUser) -> list[StaticEntry]:
    """The pages that the user may see, in the order of the navigation."""
    pages = [
        ("overview.index", "Overview", ("g", "o"), "queues home"),
        ("dead.index", "Dead letters", ("g", "d"), "errors failed"),
        ("workers.index", "Workers", ("g", "w"), "processes"),
        ("schedules.index", "Schedules", ("g", "s"), "cron repeat"),
        ("classes.index", "Classes", ("g", "c"), "jobs tasks functions slower run times regressions"),
        ("slos.index", "SLOs", ("g", "l"), "service level objectives error budget burn rate targets"),
        ("redis.index", "Redis", ("g", "r"), "memory servers slow log latency persistence doctor leftovers"),
        ("search.index", "Search", ("g", "f"), "find jobs"),
        ("charts.overview", "Charts of all queues", (), "history past trend graphs"),
        ("incidents.index", "Incident report", (), "post-mortem download file timeline"),
        ("alerting.index", "Alerts", ("g", "a"), "firing incidents history"),
        ("rules.index", "Alert rules", (), "thresholds"),
        ("alerting.quiet", "Silences", (), "maintenance mute"),
        ("bulk.index", "Bulk operations", (), "running jobs"),
        ("audit.index", "Audit log", (), "who did what"),
        ("tokens.index", "API tokens", (), "access scripts prometheus revoke"),
        ("rights.index", "Rights", (), "grants who may permissions access roles"),
        ("own_rights.own", "Your rights", (), "permissions role grants who am i"),
        ("trash.index", "Trash", (), "deleted restore undo"),
    ]
    return [
        StaticEntry(PaletteEntry(key=f"page/{endpoint}", label=label, url=url_for(endpoint), keys=keys), words)
        for endpoint, label, keys, words in pages
        if user.may_open(endpoint.partition(".")[0]) and (user.sees_all or endpoint != "charts.overview")
    ]


def list_commands(user: PaletteUser) -> list[StaticEntry]:
    """The forms to create something, and what static/js/palette.js does itself."""
    return [
        *([_form("rules_edit.new", "Create a rule…", "new add alert")] if user.may_open("rules_edit") else ()),
        *([_form("alerting_edit.silence_form", "Create a silence…", "new add mute")] if user.may_act else ()),
        _command("live", "Pause or resume live updates", "p", "stop refresh"),
        _command("refresh", "Refresh now", "r", "reload update"),
        _command("theme", "Change theme: light, dark, system", "t", "color mode"),
        _command("density", "Change row height", "d", "density compact comfortable"),
        _command("zone", "Change times: UTC or local", "u", "timezone clock"),
        _command("help", "Show keyboard shortcuts", "?", "keys help"),
        *([_command("leave", "Sign out", "", "log out leave")] if user.may_leave else ()),
    ]


def _command(name: str, label: str, key: str, words: str) -> StaticEntry:
    entry = PaletteEntry(key=f"command/{name}", label=label, command=name, keys=(key,) if key else ())
    return StaticEntry(entry, words)


def _form(endpoint: str, label: str, words: str) -> StaticEntry:
    return StaticEntry(PaletteEntry(key=f"form/{endpoint}", label=label, url=url_for(endpoint)), words)
