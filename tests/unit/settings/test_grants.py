"""What `[[grants]]` may say, and the error for what they may not."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from dashboard.backends.monitored_sources import open_sources
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from tests.processes import ROOT

GRANT: dict[str, Any] = {"users": ["mia"], "queues": ["mail-*"], "allow": ["view"]}


def test_valid_grants_are_accepted() -> None:
    deny = {"users": ["*"], "tokens": ["*"], "queues": ["hr-*"], "deny": ["view"]}
    rules = {"groups": ["ops"], "allow": ["rules", "admin"]}
    found = load(environ={}, keywords={"grants": [GRANT, deny, rules]})
    assert [grant.queues for grant in found.grants] == [("mail-*",), ("hr-*",), ("*",)]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"users": []}, "grant 1: users, groups, tokens: expected at least one name"),
        ({"users": [""]}, "grant 1: users: expected at most 200 names"),
        ({"users": ["a\nb"]}, "grant 1: users: expected at most 200 names"),
        ({"users": ["*"]}, 'grant 1: users: expected names with allow; "*" is possible with deny only'),
        ({"tokens": ["*"]}, 'grant 1: tokens: expected names with allow; "*" is possible with deny only'),
        ({"groups": ["*"]}, "grant 1: groups: expected names of groups"),
        ({"queues": []}, "grant 1: queues: expected 1 to 50 globs"),
        ({"queues": ["a[b]"]}, "grant 1: queues: expected 1 to 50 globs"),
        ({"source": "x" * 65}, "grant 1: source: expected a glob"),
        ({"allow": []}, "grant 1: allow, deny: expected at least one right"),
        ({"deny": ["retry"]}, "grant 1: allow, deny: expected one of them"),
        ({"allow": ["admin"]}, "grant 1: admin: expected no source, backend or queues"),
        ({"allow": ["rules"]}, "grant 1: rules: expected no source, backend or queues"),
        ({"allow": ["veiw"]}, "grants: unknown value"),
        ({"queue": ["x"]}, "grants: object contains unknown field"),
    ],
)
def test_invalid_grants_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environ={}, keywords={"grants": [GRANT | fields]})
    assert why in caught.value.message


def test_a_source_or_library_that_does_not_exist_is_refused() -> None:
    for field in ("source", "backend"):
        settings = load(environ={}, keywords={"grants": [GRANT | {field: "no-such"}]})
        with pytest.raises(ConfigurationError, match=f"grants: grant 1: {field}: expected"):
            open_sources(settings)


def test_groups_need_to_come_from_somewhere() -> None:
    proxy = {"peers": ["10.0.0.1"], "user_header": "X-User", "default_role": "viewer"}
    grants = [{"groups": ["ops"], "allow": ["view"]}]
    with pytest.raises(ConfigurationError, match="groups_header"):
        load(environ={}, keywords={"proxy_sign_in": proxy, "grants": grants})
    proxy = {"peers": ["10.0.0.1"], "user_header": "X-User", "groups_header": "X-Groups"}
    assert load(environ={}, keywords={"proxy_sign_in": proxy, "grants": grants}).grants


def test_the_example_of_the_documentation_is_accepted() -> None:
    text = (ROOT / "docs" / "grants.md").read_text()
    example = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])
    assert len(load(environ={}, keywords=example).grants) == 3
