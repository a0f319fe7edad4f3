"""No regular expression of the package is more than linear in its text, for whoever can enqueue a job chooses that."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dashboard.globs import _compiled, is_glob
from tests import pumping
from tests.processes import ROOT

PACKAGE = ROOT / "dashboard"
FILES = sorted(PACKAGE.rglob("*.py"))
WORDS = re.compile(r"\w+")
# A module that has none of these words compiles no pattern.
COMPILERS = frozenset({"re", "fnmatch", "glob"})
USES = frozenset({"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"})
# Patterns that are made of what the settings say, and so cannot stand at the head of a module.
MADE_LATER = {
    "dashboard.alerts.delivery.transport.redaction": "an alternative per secret of a channel, no repetition",
    "dashboard.redact.shapes": "one for each prefix of a token, made once when the module is imported: pumped below",
    "dashboard.globs": "a pattern of names, at most GLOB_LIMIT characters: pumped below",
}
# Texts that are cut before they come to a pattern: (characters, where).
CUT_BEFORE = {
    "dashboard.redact.written_names.WORD": (100, "is_secret_name: MAX_NAME; the settings: GLOB_LIMIT"),
}


class Used(NamedTuple):
    """A pattern and how it is used."""

    pattern: re.Pattern[str] | re.Pattern[bytes]
    methods: set[str]


def _module(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


@functools.cache
def _trees() -> dict[str, ast.Module]:
    """The modules in which a pattern can be compiled or used, by name, parsed: most others need not be."""
    texts = {_module(path): path.read_text() for path in FILES}
    words = {module: frozenset(WORDS.findall(text)) for module, text in texts.items()}
    direct = [module for module in texts if words[module] & COMPILERS]
    names = {name for module in direct for name, value in _values(module) if any(_within(name, value))}
    return {module: ast.parse(text) for module, text in texts.items() if words[module] & (COMPILERS | names)}


def _values(module: str) -> Iterator[tuple[str, Any]]:
    """What the names of a module and of its classes stand for."""
    for name, value in vars(importlib.import_module(module)).items():
        yield name, value
        if isinstance(value, type) and value.__module__ == module:
            yield from vars(value).items()


@functools.cache
def _nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All that there is in a tree; they are gone through many times."""
    return tuple(ast.walk(tree))


def _calls_of_re(tree: ast.AST) -> Iterator[ast.Call]:
    for node in _nodes(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_re(node.func.value):
            yield node


def _is_re(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "re"


def _at_the_head(tree: ast.Module) -> Iterator[ast.Call]:
    """The calls of `re` that run when the module is imported: of the module and its classes, not of functions."""
    if next(_calls_of_re(tree), None) is None:  # most modules have none: they are not walked again, part by part
        return
    bodies: list[ast.Module | ast.ClassDef] = [tree]
    for body in bodies:
        for node in body.body:
            if isinstance(node, ast.ClassDef):
                bodies.append(node)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _calls_of_re(node)


@functools.cache
def _patterns() -> dict[str, Used]:
    """Every compiled pattern of the package by module and name, with the methods that are called on that name."""
    found: dict[str, Used] = {}
    for module, tree in _trees().items():
        for space, names in _spaces(module, tree):
            for name, value in names.items():
                for place, pattern in _within(f"{space}.{name}", value):
                    if place not in found:  # what stands in a tuple is searched
                        found[place] = Used(pattern, {"search"} if "[" in place else set())
    for module, tree in _trees().items():
        for name, home in _homes(module, tree).items():
            if home in found:
                found[home].methods.update(_methods(tree, name))
    # A name that is imported has its uses counted at home.
    imported = {f"{module}.{name}" for module, tree in _trees().items() for name in _imported(tree)}
    return {name: used for name, used in found.items() if name not in imported}


def _within(place: str, value: Any) -> Iterator[tuple[str, re.Pattern[Any]]]:
    """A pattern, or those in a tuple, each with its place."""
    if isinstance(value, re.Pattern):
        yield place, value
    if isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from _within(f"{place}[{number}]", each)


def _spaces(module: str, tree: ast.Module) -> Iterator[tuple[str, Mapping[str, Any]]]:
    names = vars(importlib.import_module(module))
    yield module, names
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield f"{module}.{node.name}", vars(names[node.name])


def _imported(tree: ast.Module) -> dict[str, str]:
    """What a module imports by name, and where that stands."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in _nodes(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _homes(module: str, tree: ast.Module) -> dict[str, str]:
    """What each name that is used in a module stands for, as far as it is one of the module or of another."""
    own = {node.id: f"{module}.{node.id}" for node in _nodes(tree) if isinstance(node, ast.Name)}
    of_classes = {
        target.id: f"{module}.{node.name}.{target.id}"
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    return own | of_classes | _imported(tree)


def _methods(tree: ast.Module, name: str) -> set[str]:
    return {
        node.attr
        for node in _nodes(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in USES
        and (node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", None)) == name
    }


def test_every_pattern_is_compiled_at_module_level() -> None:
    wrong = []
    for module, tree in _trees().items():
        head = {id(call) for call in _at_the_head(tree)}
        for call in _calls_of_re(tree):
            assert isinstance(call.func, ast.Attribute)
            if call.func.attr == "escape" or (call.func.attr == "compile" and id(call) in head):
                continue
            if not (module in MADE_LATER and call.func.attr == "compile"):
                wrong.append(f"{module}:{call.lineno}: re.{call.func.attr}")
        for node in _nodes(tree):
            if isinstance(node, ast.ImportFrom) and node.module in ("re", "fnmatch", "glob"):
                wrong.append(f"{module}:{node.lineno}: from {node.module} import")
            if isinstance(node, ast.Import) and any(alias.name in ("fnmatch", "glob") for alias in node.names):
                wrong.append(f"{module}:{node.lineno}: import {node.names[0].name}")
    assert wrong == [], "compile it at the head of the module, or use dashboard.globs, so that it is tested here"


def test_no_pattern_is_missed() -> None:
    patterns = _patterns()
    calls = [
        call for tree in _trees().values() for call in _at_the_head(tree) if ast.unparse(call.func) == "re.compile"
    ]
    named = [name for name in patterns if "[" not in name]
    in_tuples = [
        call
        for tree in _trees().values()
        if any(_at_the_head(tree))
        for node in tree.body
        if not isinstance(node, ast.FunctionDef)
        for part in ast.walk(node)
        if isinstance(part, ast.Tuple)
        for call in part.elts
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "re.compile"
    ]
    assert len(named) == len(calls) - len(in_tuples) > 50
    assert len(patterns) - len(named) >= len(in_tuples) > 10


def test_every_pattern_is_linear_in_its_worst_text() -> None:
    slow = []
    for name, used in _patterns().items():
        most, where = CUT_BEFORE.get(name, (pumping.SIZES[-1][0], "a value of any length"))
        # One that is handed to a function is searched for there.
        worst = pumping.slowest(used.pattern, used.methods or {"search"}, most)
        if worst.ratio > pumping.LIMIT:
            slow.append(f"{name}: {worst.ratio:.0f} scans of {worst.size} characters ({where}): {worst.recipe}")
    assert slow == []


@pytest.mark.parametrize("glob", ["*a" * 32, "*?" * 31 + "*b", "?*" * 32, "a*" * 31 + "ab", "*" * 64, "*" + "a" * 63])
def test_a_pattern_of_names_is_linear(glob: str) -> None:
    assert is_glob(glob)
    assert pumping.slowest(_compiled(glob), {"match"}).ratio <= pumping.LIMIT
