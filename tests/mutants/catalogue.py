"""The mutants: read from the TOML files beside this one, one file per area."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ROOT

FOLDER = Path(__file__).parent
FIELDS = {"id", "file", "old", "new", "tests", "why"}


@dataclass(frozen=True)
class Mutant:
    """One change that must not go unnoticed: `old`, which stands once in `file`, becomes `new`.

    `tests` = the node ids that must fail then; `why` = what would go wrong for a user.
    """

    id: str
    area: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    def apply(self, root: Path) -> str:
        """Change the file below `root`; its text before. Raises ValueError when `old` does not stand in it once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.id}: {self.old!r} stands {text.count(self.old)} times in {self.file}, not once")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return text


def load_mutants(folder: Path = FOLDER) -> list[Mutant]:
    """All mutants, by area. Raises ValueError for a table with a field too many or too few, or an id used twice."""
    found: dict[str, Mutant] = {}
    for path in sorted(folder.glob("*.toml")):
        for table in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            if set(table) != FIELDS:
                raise ValueError(f"{path.name}: a mutant has the fields {sorted(FIELDS)}, not {sorted(table)}")
            if table["id"] in found:
                raise ValueError(f"{path.name}: there are two mutants called {table['id']}")
            found[table["id"]] = Mutant(area=path.stem, **{**table, "tests": tuple(table["tests"])})
    return list(found.values())


def faults(mutant: Mutant, root: Path = ROOT) -> list[str]:
    """What is wrong with an entry in this checkout; [] when it can be tried."""
    wrong = []
    path = root / mutant.file
    times = path.read_text(encoding="utf-8").count(mutant.old) if path.is_file() else 0
    if times != 1:
        wrong.append(f"{mutant.id}: its text stands {times} times in {mutant.file}, not once")
    if mutant.old == mutant.new:
        wrong.append(f"{mutant.id}: it changes nothing")
    if times == 1 and path.suffix == ".py":  # a file that does not compile would fail any test
        try:
            compile(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), mutant.file, "exec")
        except SyntaxError as exc:
            wrong.append(f"{mutant.id}: {mutant.file} does not compile with it: {exc.msg}")
    for test in mutant.tests:
        name, _, function = test.partition("::")
        file = root / name
        if not file.exists() or (function and f"def {function.partition('[')[0]}(" not in file.read_text("utf-8")):
            wrong.append(f"{mutant.id}: there is no {test}")
    if not mutant.tests or not mutant.why:
        wrong.append(f"{mutant.id}: it names no tests, or no reason")
    return wrong
