"""Imports go one way: web and cli -> collect -> backends -> what all stand on. Read from the files, not from a run."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.processes import ROOT

PACKAGE = ROOT / "dashboard"
FILES = sorted(PACKAGE.rglob("*.py"))
# Each floor may import from its own and from those below. Longest name wins; a module that is not listed fails.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "dashboard.errors",
        "dashboard.globs",
        "dashboard.clock",
        "dashboard.background_reads",
        "dashboard.lazy_thread",
        "dashboard.units",
        "dashboard.model",
        "dashboard.settings",
        "dashboard.auth",
        "dashboard.console",
        "dashboard.spelling",
        "dashboard.redact",
        "dashboard.rights",
    ),
    ("dashboard.sources",),
    ("dashboard.store",),
    ("dashboard.backends",),
    ("dashboard.forecasts",),
    ("dashboard.sampling",),
    ("dashboard.schedules",),
    ("dashboard.history",),
    ("dashboard.marks", "dashboard.slos"),
    ("dashboard.search", "dashboard.memory_usage", "dashboard.leftovers"),
    ("dashboard.dead_letters",),
    ("dashboard.actions",),
    ("dashboard.alerts",),
    ("dashboard.incidents",),
    ("dashboard.services",),
    ("dashboard.restricted",),
    ("dashboard.checker_process", "dashboard.nagios_check", "dashboard.audit_command"),
    ("dashboard.doctor",),
    ("dashboard.web",),
    ("dashboard", "dashboard.demo"),  # the public face hands out what lies below on first use
    ("dashboard.cli",),
)
# What may be imported from outside the standard library and the package, where it is not everything.
PURE = {
    "dashboard.model": {"msgspec"},
    "dashboard.errors": set(),
    "dashboard.globs": set(),
    "dashboard.clock": set(),
    "dashboard.units": set(),
    "dashboard.redact.text": set(),
    "dashboard.redact.names": set(),
    "dashboard.redact.commands": set(),
    "dashboard.redact.regions": set(),
    "dashboard.redact.values": set(),
    "dashboard.redact.shapes": set(),
    "dashboard.redact.rules": set(),
    "dashboard.redact.host_hook": set(),
    "dashboard.redact.revealing": set(),
    "dashboard.redact.written_names": set(),
    "dashboard.redact.value_patterns": {"re2"},
    "dashboard.settings": {"msgspec"},
    "dashboard.rights": set(),
    "dashboard.forecasts": {"msgspec"},
    "dashboard.sampling.rates": {"msgspec"},
    "dashboard.sampling.rate_periods": set(),
    "dashboard.sampling.total_rates": set(),
    "dashboard.sampling.recent_history": {"msgspec"},
    "dashboard.web.views.moments.moment": set(),
    "dashboard.schedules.lateness": set(),
    "dashboard.alerts.rules.rule": {"msgspec"},
    "dashboard.alerts.rules.default_rules": {"msgspec"},
    "dashboard.alerts.rules.metrics": {"msgspec"},
    "dashboard.alerts.evaluation.durations": {"msgspec"},
    "dashboard.alerts.evaluation.due_notifications": {"msgspec"},
    "dashboard.alerts.evaluation.state_machine": {"msgspec"},
    "dashboard.alerts.silences": {"msgspec"},
    "dashboard.alerts.evaluation.reducers": set(),
    "dashboard.alerts.evaluation.evaluator": {"msgspec"},
    "dashboard.alerts.evaluation.evaluation_run": {"msgspec"},
    "dashboard.alerts.evaluation.subjects": {"msgspec"},
    "dashboard.alerts.evaluation.queue_index": {"msgspec"},
    "dashboard.alerts.evaluation.inhibition": {"msgspec"},
    "dashboard.alerts.evaluation.checker_context": {"msgspec"},
    "dashboard.alerts.evaluation.preview": {"msgspec"},
    "dashboard.alerts.evaluation.backtest": {"msgspec"},
    "dashboard.alerts.evaluation.week_backtest": {"msgspec"},
    "dashboard.alerts.evaluation.forecast": set(),
    "dashboard.slos.good_jobs": {"msgspec"},
    "dashboard.slos.slo_counts": {"msgspec"},
    "dashboard.slos.slo_report": {"msgspec"},
    "dashboard.slos.slo_tracker": {"msgspec"},
    "dashboard.slos.wording": {"msgspec"},
    "dashboard.incidents.scope": {"msgspec"},
    "dashboard.incidents.affected_queues": {"msgspec"},
    "dashboard.memory_usage.estimates": set(),
    "dashboard.memory_usage.memory_report": {"msgspec"},
    "dashboard.leftovers.leftover_report": {"msgspec"},
    "dashboard.dead_letters.normalize": set(),
    "dashboard.dead_letters.stack_frames": set(),
    "dashboard.dead_letters.fingerprint": set(),
    "dashboard.dead_letters.kept_arguments": set(),
}
FACE = "dashboard"  # `from dashboard import __version__` is open to all


# A folder with more modules than this has a second noun in it.
MOST_IN_A_FOLDER = 16


class Facts(NamedTuple):
    """What the rules ask of one file."""

    imports: list[str]  # at its top or within a function; `TYPE_CHECKING` blocks too
    compared: list[tuple[int, str]]  # line, and the text that something is compared with there


@functools.cache
def facts() -> dict[Path, Facts]:
    """The facts of each file of the package.

    Parsed by another process, see the end of this file: the parser of Python 3.11.2, which Debian 12 has, fails when
    other threads run meanwhile.
    """
    command = [sys.executable, "-m", "tests.unit.test_imports"]
    found = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    return {path: Facts(*each) for path, each in zip(FILES, found, strict=True)}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def facts_of(path: Path) -> Facts:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    compared = [
        (node.lineno, operand.value)
        for node in nodes
        if isinstance(node, ast.Compare)
        for operand in (node.left, *node.comparators)
        if isinstance(operand, ast.Constant) and isinstance(operand.value, str)
    ]
    return Facts(list(imported(path, nodes)), compared)


def imported(path: Path, nodes: Iterable[ast.AST]) -> Iterator[str]:
    package = list(path.relative_to(ROOT).parent.parts)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names if is_module(f"{source}.{alias.name}"))
        elif is_dynamic(node):
            name = node.args[0].value  # type: ignore[attr-defined]
            yield ".".join(package) + name if name.startswith(".") else name


def is_dynamic(node: ast.AST) -> bool:
    """Whether this is `import_module("…")` with the name written out."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return False
    return getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module"


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def floor(name: str) -> int:
    """The floor on which the module stands."""
    best, found = "", None
    for number, names in enumerate(FLOORS):
        for candidate in names:
            fits = name == candidate or (candidate != FACE and name.startswith(f"{candidate}."))
            if fits and len(candidate) > len(best):
                best, found = candidate, number
    assert found is not None, f"{name} stands on no floor: name it in FLOORS"
    return found


def test_no_module_imports_from_above() -> None:
    above = [
        f"{module_name(path)} imports {target}"
        for path in FILES
        if module_name(path) != FACE
        for target in sorted({target for target in facts()[path].imports if target.startswith("dashboard.")})
        if floor(target) > floor(module_name(path))
    ]
    assert not above, "\n".join(above)


def test_only_the_command_line_starts_the_demo() -> None:
    starting = [
        f"{module_name(path)} imports {target}"
        for path in FILES
        if module_name(path) != "dashboard.cli" and not module_name(path).startswith("dashboard.demo")
        for target in sorted(set(facts()[path].imports))
        if target == "dashboard.demo" or target.startswith("dashboard.demo.")
    ]
    assert not starting, "\n".join(starting)


LIBRARIES = sorted(folder.name for folder in (PACKAGE / "backends").iterdir() if (folder / "backend.py").is_file())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_knows_no_other_library(library: str) -> None:
    used = {target for path in (PACKAGE / "backends" / library).rglob("*.py") for target in facts()[path].imports}
    others = tuple(f"dashboard.backends.{other}" for other in LIBRARIES if other != library)
    assert [target for target in sorted(used) if target.startswith(others)] == []


def test_nothing_asks_which_library_it_is() -> None:
    asking = [
        f"{module_name(path)}:{line} compares with {text!r}"
        for path in FILES
        if not module_name(path).startswith(tuple(f"dashboard.backends.{library}" for library in LIBRARIES))
        for line, text in facts()[path].compared
        if text in LIBRARIES
    ]
    assert not asking, "\n".join(asking)


def test_a_pure_module_imports_no_framework() -> None:
    names = {path: f"{module_name(path)}." for path in FILES}
    plain = {*sys.stdlib_module_names, "dashboard"}
    paths = {pure: [path for path, name in names.items() if name.startswith(f"{pure}.")] for pure in PURE}
    foreign = {
        pure: {target.split(".")[0] for path in paths[pure] for target in facts()[path].imports} - plain - PURE[pure]
        for pure in PURE
    }
    assert [pure for pure in PURE if not paths[pure]] == []
    assert {pure: found for pure, found in foreign.items() if found} == {}


def test_the_check_sees_imports_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.test_imports.ROOT", tmp_path)
    folder = tmp_path / "dashboard" / "web"
    folder.mkdir(parents=True)
    (folder / "urls.py").touch()
    file = folder / "queues.py"
    file.write_text(
        "import dashboard.cli\nfrom . import urls\nfrom ..sampling import rates\n"
        "def late():\n    from dashboard.sources.source import Source\n    import_module('dashboard.demo.runner')\n"
    )
    assert set(facts_of(file).imports) == {
        *("dashboard.cli", "dashboard.web", "dashboard.web.urls", "dashboard.sampling"),
        *("dashboard.sources.source", "dashboard.demo.runner"),
    }


if __name__ == "__main__":
    json.dump([facts_of(path) for path in FILES], sys.stdout)


def test_no_folder_is_crowded() -> None:
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in FILES if "node_modules" not in path.parts)
    assert {folder: size for folder, size in sizes.items() if size > MOST_IN_A_FOLDER} == {}
