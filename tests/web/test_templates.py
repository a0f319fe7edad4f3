"""What must hold for every template, sheet and script, read as text: the rules that keep the policy strict."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboard.web import assets
from tests.cases import failures_of
from tests.processes import ROOT

TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
STATIC = ROOT / "static"
SHEETS = sorted((STATIC / "css").glob("*.css"))
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
LINKED = re.compile(r'filename="([\w/.-]+\.(?:css|js))"')
LAYOUT = (ROOT / "templates" / "layout.html").read_text()
# Rendered once for all viewers, so without a nonce: what htmx would act on there would be refused, and is an error.
SHARED = ("overview", "queues", "jobs", "dead_letters")
FRAGMENTS = [path for path in TEMPLATES if path.parent.name in SHARED and path.name[0] == "_"]

# What the policy forbids or what lets text from Redis become markup. `|` and `{` of Jinja do not confuse these.
FORBIDDEN = {
    "safe filter": r"\|\s*safe\b",
    "autoescape switched off": r"autoescape",
    "inline style": r"\bstyle\s*=|<style",
    "inline handler": r"\son[a-z]+\s*=",
    "hx-on": r"hx-on",
    "script in an attribute": r"javascript:|\bjs:",
    "trigger filter": r"hx-trigger=\"[^\"]*\[",
    "polling by htmx itself": r"hx-trigger=\"[^\"]*every ",
    "another site": r"(?:src|href|action)=\"(?:https?:)?//",
}


MAX_LINE = 140


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def failures_in(check: Callable[[str], None], paths: list[Path]) -> dict[str, str]:
    """What `check` finds wrong in the texts of the files."""
    return failures_of(lambda name: check((ROOT / name).read_text()), [(name_of(path),) for path in paths])


def test_the_templates_are_found() -> None:
    assert len(TEMPLATES) > 20
    assert len(FRAGMENTS) > 15


def test_no_template_weakens_the_policy() -> None:
    assert failures_in(check_the_policy, TEMPLATES) == {}


def check_the_policy(text: str) -> None:
    assert {name for name, pattern in FORBIDDEN.items() if re.search(pattern, text)} == set()
    for tag in re.findall(r"<script\b[^>]*>", text):
        assert "src=" in tag
        assert 'nonce="{{ csp_nonce }}"' in tag
    for tag in re.findall(r"<[a-z][^>]*\shx-[^>]*>", text):
        assert 'hx-nonce="{{ csp_nonce }}"' in tag


def test_a_fragment_is_plain_markup() -> None:
    wrong = []
    for path in FRAGMENTS:
        shared = path.parent.name == "overview"  # rendered once for all viewers, whatever they may do
        words = (" hx-", "nonce", "<script", "request.", *(("<form", "<input", "may_") if shared else ()))
        text = path.read_text()
        wrong += [(name_of(path), word) for word in words if word in text]
    assert wrong == []


def test_elements_with_text_from_redis_are_ignored_by_htmx() -> None:
    for page in ("overview/index", "queues/show", "jobs/show", "dead_letters/index", "dead_letters/show"):
        assert re.search(r'<div id="view" hx-ignore ', (ROOT / "templates" / f"{page}.html").read_text())


def test_every_sheet_and_script_is_used_and_every_one_used_exists() -> None:
    served = assets.load_assets(STATIC)
    linked = {name for path in TEMPLATES for name in LINKED.findall(path.read_text())}
    assert linked == {name for name in served if name.endswith((".css", ".js"))}
    joined = {part for parts in assets.BUNDLES.values() for part in parts}
    there = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in (".css", ".js")}
    assert joined | linked - set(assets.BUNDLES) == there


def test_every_icon_is_drawn() -> None:
    text = "".join(path.read_text() for path in TEMPLATES)
    drawn = set(re.findall(r'<symbol id="i-([a-z]+)"', text))
    assert set(re.findall(r'marks\.icon\("([a-z]+)"\)', text)) <= drawn
    assert {"ok", "warning", "critical"} <= drawn  # named by a variable


def test_vendored_files_are_the_ones_that_were_reviewed() -> None:
    sums = dict(line.split()[::-1] for line in (STATIC / "vendor" / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in (STATIC / "vendor").glob("*.js")}
    for name, expected in sums.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == expected


def test_no_script_makes_markup_or_code_from_text() -> None:
    assert failures_in(check_script, SCRIPTS) == {}


def check_script(text: str) -> None:
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", ".style"):
        assert word not in text
    # All of it in one function: scripts are joined, and none sees the names of another.
    assert re.fullmatch(r'(?://[^\n]*\n)+\(\(\) => \{\n  "use strict";\n.*\n\}\)\(\);\n', text, re.DOTALL)


def test_a_sheet_loads_nothing_and_uses_the_colours_by_their_meaning() -> None:
    assert failures_in(check_sheet, SHEETS) == {}
    coloured = [path.name for path in SHEETS if re.search(r"#[0-9a-f]{3,8}\b", path.read_text())]
    assert set(coloured) <= {"tokens.css"}


def check_sheet(text: str) -> None:
    assert "url(" not in text
    assert "@import" not in text
    assert text.count("{") == text.count("}")  # sheets are joined: one left open would take in the next
    used = set(re.findall(r"var\((--[\w-]+)", text))
    assert used <= set(re.findall(r"(--[\w-]+):", (STATIC / "css" / "tokens.css").read_text()))


def test_files_stay_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (*SHEETS, *SCRIPTS)}
    assert {name: lines for name, lines in lengths.items() if lines > 250} == {}


def test_a_first_visit_stays_small() -> None:
    served = assets.load_assets(STATIC)
    loaded = set(LINKED.findall(LAYOUT))
    assert loaded >= {"queuedeck.css", "htmx.js", "queuedeck.js"}
    assert sum(len(served[name].zipped or b"") for name in loaded) < 60_000


# Pairs of text and the ground it stands on, in both themes: 4.5 to 1, or 3 to 1 for marks.
TEXT = [
    *((ink, ground, 4.5) for ink in ("text", "muted", "accent") for ground in ("ground", "surface", "raised")),
    *(("faint", ground, 4.5) for ground in ("ground", "surface")),
    *((ink, "surface", 4.5) for ink in ("ok", "info")),
    ("accent", "accent-soft", 4.5),
    ("text", "accent-soft", 4.5),
    *((ink, f"{ink}-soft", 4.5) for ink in ("warning", "critical")),
    *((ink, ground, 4.5) for ink in ("warning", "critical") for ground in ("ground", "surface", "raised")),
    *(("text", ground, 4.5) for ground in ("warning-soft", "critical-soft")),
    *(("muted", ground, 4.5) for ground in ("warning-soft", "critical-soft", "accent-soft")),
    ("trace", "surface", 3.0),
    ("edge", "surface", 3.0),
    ("ok", "ground", 3.0),
]


def luminance(colour: str) -> float:
    """Relative luminance of an `oklch(L% C H)`."""
    lightness, chroma, hue = (float(part.rstrip("%")) for part in re.findall(r"[\d.]+%?", colour)[:3])
    lightness /= 100
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    small = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * small
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * small
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * small
    red, green, blue = (min(1.0, max(0.0, part)) for part in (red, green, blue))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast(theme: int) -> None:
    tokens = {
        name: values[theme]
        for name, *values in re.findall(
            r"--([\w-]+): light-dark\((oklch\([^)]*\)), (oklch\([^)]*\))\)",
            (STATIC / "css" / "tokens.css").read_text(),
        )
    }
    low = {}
    for ink, ground, least in TEXT:
        one, other = luminance(tokens[ink]), luminance(tokens[ground])
        ratio = (max(one, other) + 0.05) / (min(one, other) + 0.05)
        if ratio < least:
            low[ink, ground] = round(ratio, 2)
    assert low == {}


def test_lines_can_be_read_without_scrolling() -> None:
    long = [
        (name_of(path), line) for path in TEMPLATES for line in path.read_text().splitlines() if len(line) > MAX_LINE
    ]
    assert long == []


def test_every_letter_of_the_rail_is_a_key_in_the_help_and_in_the_palette() -> None:
    rail = re.findall(r'item\("([.a-z]+)".*letter="(\w)"', (ROOT / "templates/_rail.html").read_text())
    entries = (ROOT / "dashboard/web/views/palette/entries.py").read_text()
    letters = [letter for _, letter in rail]
    assert re.findall(r'\("([.a-z]+)", "[^"]+", \("g", "(\w)"\)', entries) == rail
    keys = (ROOT / "static/js/keys.js").read_text()
    go_to = (ROOT / "templates/_help.html").read_text().split("go to the overview")[0:2]
    assert len(letters) >= 8
    for letter in letters:
        assert f'{letter}: () => jump("{letter}"' in keys, letter
        assert f"<kbd>{letter}</kbd>" in f"{go_to[0][-30:]}{go_to[1].split('</dd>')[0]}", letter
