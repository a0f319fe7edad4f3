"""What must be documented is in the README, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dashboard.backends import registry
from dashboard.errors import ConfigurationError
from dashboard.settings import OidcSettings, ProxySignInSettings, RedactionSettings, Settings, SourceSettings, load
from dashboard.settings.validation import PLACEHOLDERS
from tests.processes import ROOT

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def table_names(heading: str, text: str = README) -> set[str]:
    """The names in the first column of the table with that heading."""
    rows = text.partition(f"\n| {heading} |")[2].split("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_every_setting_is_in_the_table_and_no_other() -> None:
    assert table_names("Setting") == set(Settings.__struct_fields__)


def test_every_field_of_a_source_is_in_the_table_and_no_other() -> None:
    assert table_names("Field of a source") == set(SourceSettings.__struct_fields__)


def test_every_field_of_a_provider_is_in_its_page_and_no_other() -> None:
    text = (ROOT / "docs" / "oidc.md").read_text()
    assert table_names("Field of `[oidc]`", text) == set(OidcSettings.__struct_fields__)


def test_every_field_of_the_sign_in_at_a_proxy_is_in_the_table_and_no_other() -> None:
    assert table_names("Field of `[proxy_sign_in]`") == set(ProxySignInSettings.__struct_fields__)


def test_every_field_of_the_redaction_is_in_the_guide_and_no_other() -> None:
    rows = (ROOT / "docs/redaction.md").read_text().partition("| Field of `[redaction]` |")[2].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)) == set(RedactionSettings.__struct_fields__)


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
def test_an_example_of_a_file_can_be_read(example: str, tmp_path: Path) -> None:
    path = tmp_path / "queuedeck.toml"
    if any(placeholder in example for placeholder in PLACEHOLDERS):
        path.write_text(example)
        with pytest.raises(ConfigurationError, match="expected"):
            load(config=path, environ={})
    for placeholder in PLACEHOLDERS:
        example = example.replace(placeholder, f"scrypt:1024:8:1$a${128 * '0'}" if "$" in placeholder else "k" * 40)
    path.write_text(example)
    settings = load(config=path, environ={})
    assert len(settings.sources) == example.count("[[sources]]")
    assert len(settings.users) == example.count("[[users]]")


def test_every_library_is_named() -> None:
    for name in registry.backend_names():
        assert f"`{name}`" in README
        assert registry.load_backend(name).title in README


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)", README))))
def test_every_target_is_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_file_that_is_linked_is_there(path: str) -> None:
    assert (ROOT / path).is_file()
