"""The mutants of this checkout can be tried: their texts stand where they say, and their tests exist."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.catalogue import Mutant, faults, load_mutants

LEAST = 150
GUARD = Mutant("guard", "here", "a.py", "if locked:", "if True:", ("test_a.py::test_it",), "a lock is not asked for")


def test_each_mutant_fits_this_checkout() -> None:
    mutants = load_mutants()
    assert len(mutants) >= LEAST
    assert [fault for mutant in mutants for fault in faults(mutant)] == []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("if locked:\n    pass\n")
    (tmp_path / "test_a.py").write_text("def test_it() -> None: ...\n")
    return tmp_path


def test_a_mutant_changes_its_file_and_returns_the_original(checkout: Path) -> None:
    assert faults(GUARD, checkout) == []
    before = GUARD.apply(checkout)
    assert (checkout / "a.py").read_text() == "if True:\n    pass\n"
    assert before == "if locked:\n    pass\n"


def test_a_text_that_occurs_twice_is_rejected(checkout: Path) -> None:
    (checkout / "a.py").write_text("if locked:\n    pass\n" * 2)
    assert "2 times" in faults(GUARD, checkout)[0]
    with pytest.raises(ValueError, match="2 times"):
        GUARD.apply(checkout)


def test_a_test_that_is_not_there_is_noticed(checkout: Path) -> None:
    (checkout / "test_a.py").write_text("")
    assert faults(GUARD, checkout) == ["guard: there is no test_a.py::test_it"]


def test_a_mutant_that_does_not_compile_is_refused(checkout: Path) -> None:
    assert "does not compile" in faults(replace(GUARD, new="if"), checkout)[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[mutant]]\nid = "a"\n', "fields"),
        ('[[mutant]]\nid="a"\nfile="f"\nold="o"\nnew="n"\ntests=["t"]\nwhy="w"\n' * 2, "two mutants"),
    ],
)
def test_a_wrong_catalogue_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "area.toml").write_text(text)
    with pytest.raises(ValueError, match=fault):
        load_mutants(tmp_path)
