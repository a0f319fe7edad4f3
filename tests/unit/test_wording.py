"""Texts are in plain English: phrases that read like a translation, or that say something is alive, do not come back.

Read are templates, strings and comments of Python, Lua and JavaScript, and the documents. A phrase is banned in all of
them, since a comment of today is a message of tomorrow.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.processes import ROOT

# Banned -> what to write instead.
BANNED = {
    r"tell|tells|told|telling": "report, show, say, notify, record, know; distinguish for 'tell apart'",
    r"nobody|somebody": "name the user, worker or process; 'no worker', 'no one'",
    r"whoever": "anyone who, users who",
    r"stands? (?:in|on|there|apart|still|behind|before|beside|as)": "is, is listed, is next to, is stuck",
    r"(?:goes|go|going|went) on": "continue, ongoing",
    r"not there any ?more|no more there": "no longer exists",
    r"what (?:came|comes|became) of": "the result, the outcome",
    r"(?:see|sees|seen|seeing|saw) to (?!be\b)": "acknowledge, handle, ensure",
    r"anew": "again, newly",
    r"for good": "permanently",
    r"(?:put|puts|putting|bring|brings|brought) back": "restore, return",
    r"bulk work|pieces? of work": "bulk operation; job",
    r"shall": "must, should, will",
    r"as far as it goes|does not arise": "say which part, or 'not applicable'",
    r"the contract says": "nothing: the docstring is inherited",
    r"of (?:one's|its|our|their) own accord|by itself|by themselves": "automatically, alone",
}
PATTERN = re.compile("|".join(rf"\b(?:{phrase})\b" for phrase in BANNED), re.IGNORECASE)
DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
PYTHON = [
    path
    for folder in ("dashboard", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "node_modules" not in path.parts
]
OTHERS = [
    path
    for folder, name in (
        ("templates", "*.html"),
        ("static/js", "*.js"),
        ("static/css", "*.css"),
        ("dashboard", "*.lua"),
    )
    for path in sorted((ROOT / folder).rglob(name))
    if "node_modules" not in path.parts
]


def findings(path: Path, lines: Iterable[tuple[int, str]]) -> list[str]:
    """Each banned phrase with its place."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {found.group()}"
        for number, line in lines
        for found in PATTERN.finditer(line)
    ]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The strings and comments of a Python file, line by line."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from enumerate(node.value.splitlines(), node.lineno)
    # Most files have no phrase behind any "#": there, no comment has one.
    if not any(PATTERN.search(line.partition("#")[2]) for line in source.splitlines()):
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_the_pattern_finds_a_phrase_in_a_string_a_comment_and_a_docstring(tmp_path: Path) -> None:
    path = ROOT / "dashboard" / "example.py"
    source = tmp_path / "example.py"
    source.write_text('"""What it tells."""\nNAME = f"{told} stands in"  # nobody\nthe_untold = "installed"\n')
    assert findings(path, texts(source)) == [
        "dashboard/example.py:1: tells",
        "dashboard/example.py:2: stands in",
        "dashboard/example.py:2: nobody",
    ]


def test_strings_and_comments_of_python_are_in_plain_words() -> None:
    assert [finding for path in PYTHON for finding in findings(path, texts(path))] == []


def test_documents_templates_and_scripts_are_in_plain_words() -> None:
    paths = (*DOCUMENTS, *OTHERS)
    found = [finding for path in paths for finding in findings(path, enumerate(path.read_text().splitlines(), 1))]
    assert found == []
