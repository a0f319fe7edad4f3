"""Which rights someone has on which queues, and why."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.auth import Identity, Role
from dashboard.errors import ConfigurationError
from dashboard.rights.assignment import RightsAssignment, effective_role
from dashboard.rights.grants import Grant
from dashboard.rights.right import Right
from dashboard.rights.rights import Rights
from dashboard.settings import GrantSettings

MAIL = GrantSettings(users=("mia",), queues=("mail-*",), allow=("view", "retry"))
TEAM = GrantSettings(groups=("team",), source="eu-*", backend="rq", allow=("delete",))
NO_HR = GrantSettings(users=("*",), queues=("hr-*",), deny=("view",))
NO_DELETE = GrantSettings(users=("otto",), queues=("pay",), deny=("delete",))
TOKEN = GrantSettings(tokens=("ci",), queues=("mail-out",), allow=("view",))
BOOK = RightsAssignment((MAIL, TEAM, NO_HR, NO_DELETE, TOKEN))


def rights(name: str, role: Role = Role.VIEWER, groups: tuple[str, ...] = (), *, is_token: bool = False) -> Rights:
    return BOOK.rights_of(Identity(name=name, role=role, groups=groups, is_token=is_token))


def test_a_role_gives_its_rights_on_all_queues_but_the_denied_ones() -> None:
    otto = rights("otto", Role.OPERATOR)
    assert otto.may(Right.DELETE, "main", "rq", "mail")
    assert otto.may(Right.RETRY, "main", "rq", "pay")
    assert not otto.may(Right.DELETE, "main", "rq", "pay")
    assert not otto.has(Right.ADMIN)
    assert not otto.may(Right.VIEW, "main", "rq", "hr-1")
    assert not otto.may(Right.RETRY, "main", "rq", "hr-1")
    assert not otto.sees_all
    assert otto.is_restricted


def test_a_grant_replaces_the_role() -> None:
    mia = rights("mia", Role.OPERATOR)
    assert mia.may(Right.VIEW, "main", "rq", "mail-out")
    assert mia.may(Right.RETRY, "main", "rq", "mail-out")
    assert not mia.may(Right.DELETE, "main", "rq", "mail-out")
    assert not mia.may(Right.VIEW, "main", "rq", "billing")
    assert not mia.has(Right.DELETE)
    assert effective_role(mia) is Role.OPERATOR


def test_administrators_keep_their_rights_but_what_is_denied() -> None:
    ada = rights("mia", Role.ADMIN)
    assert ada.may(Right.DELETE, "main", "rq", "billing")
    assert not ada.may(Right.VIEW, "main", "rq", "hr-1")
    # The audit log and the rules are about all queues.
    assert not ada.has(Right.ADMIN)
    assert effective_role(ada) is Role.OPERATOR
    whole = RightsAssignment().rights_of(Identity(name="root", role=Role.ADMIN))
    assert whole.has(Right.ADMIN)
    assert not whole.is_restricted
    assert effective_role(whole) is Role.ADMIN


@pytest.mark.parametrize(
    ("grants", "restricted"),
    [
        ([{"allow": ("view",)}], False),
        ([{"allow": ("view", "retry", "delete", "pause", "bulk", "alerts")}], False),
        ([{"allow": ("view", "retry")}], True),
        ([{"allow": ("view", "alerts", "rules")}], True),
        ([{"deny": ("delete",)}], True),
        ([{"deny": ("rules",)}], False),
    ],
)
def test_some_of_the_rights_to_act_are_not_a_role(grants: list[dict[str, Any]], restricted: bool) -> None:
    book = RightsAssignment(tuple(GrantSettings(users=("mia",), **grant) for grant in grants))
    mia = book.rights_of(Identity(name="mia", role=Role.OPERATOR))
    assert mia.sees_all
    assert mia.is_restricted == restricted


def test_grants_of_groups_hold_for_their_sources_and_libraries() -> None:
    team = rights("tom", groups=("team", "other"))
    assert team.may(Right.DELETE, "eu-1", "rq", "mail")
    assert team.may(Right.VIEW, "eu-1", "rq", "mail")
    assert not team.may(Right.VIEW, "us-1", "rq", "mail")
    assert not team.may(Right.VIEW, "eu-1", "bullmq", "mail")
    assert team.may_know_source("eu-1")
    assert not team.may_know_source("us-1")
    assert team.may_know_library("eu-1", "rq")
    assert not team.may_know_library("eu-1", "celery")


def test_tokens_and_people_of_the_same_name_are_not_confused() -> None:
    assert rights("ci", is_token=True).may(Right.VIEW, "main", "rq", "mail-out")
    assert not rights("ci", is_token=True).may(Right.VIEW, "main", "rq", "mail-in")
    assert rights("ci").may(Right.VIEW, "main", "rq", "mail-in")  # a person: the grant names the token
    assert rights("mia", is_token=True).may(Right.VIEW, "main", "rq", "billing")
    assert rights("robot", is_token=True).may(Right.VIEW, "main", "rq", "hr-1")  # users = ["*"] names people


def test_sets_of_all_queues_need_the_right_on_all_of_them() -> None:
    """The entry "*" of a library holds jobs of all its queues."""
    assert not rights("mia").may(Right.VIEW, "main", "sidekiq", "*")
    assert not rights("otto", Role.OPERATOR).may(Right.VIEW, "main", "sidekiq", "*")  # hr-* may have jobs in it
    assert not rights("otto", Role.OPERATOR).may(Right.DELETE, "main", "sidekiq", "*")
    team = RightsAssignment((TEAM,)).rights_of(Identity(name="tom", groups=("team",)))
    assert team.may(Right.VIEW, "eu-1", "rq", "*")
    assert not team.may(Right.VIEW, "eu-1", "sidekiq", "*")
    assert not team.may_all_on(Right.VIEW, "eu-1")
    assert team.sees("eu-1", "rq", None)
    assert not team.sees("eu-1", None, None)
    assert not team.sees(None, None, None)


def test_equal_rights_have_equal_digests() -> None:
    same = RightsAssignment((GrantSettings(users=("ann",), queues=("mail-*",), allow=("retry", "view")),))
    mia = RightsAssignment((MAIL,)).rights_of(Identity(name="mia"))
    assert same.rights_of(Identity(name="ann")).digest == mia.digest
    assert rights("mia").digest != mia.digest  # which also denies hr-*


def test_explanations_name_what_decides() -> None:
    assert rights("otto", Role.OPERATOR).explain(Right.DELETE, "main", "rq", "mail").because == ("the operator role",)
    denied = rights("otto", Role.OPERATOR).explain(Right.DELETE, "main", "rq", "pay")
    assert (denied.is_allowed, denied.because) == (False, ("grant 4 of the settings",))
    given = rights("mia").explain(Right.RETRY, "main", "rq", "mail-out")
    assert (given.is_allowed, given.because) == (True, ("grant 1 of the settings",))
    nothing = rights("mia").explain(Right.PAUSE, "main", "rq", "mail-out")
    assert (nothing.is_allowed, nothing.because) == (False, ())


def test_an_application_gives_grants_of_its_own() -> None:
    tenant = Identity(name="t", grants=(Grant(queues=["t1-*"], allow=["view", "delete"]),))  # type: ignore[arg-type]
    found = RightsAssignment().rights_of(tenant)
    assert found.may(Right.DELETE, "main", "rq", "t1-mail")
    assert not found.may(Right.VIEW, "main", "rq", "t2-mail")
    # An application that finds no tenant gives nothing, rather than the rights of a viewer.
    nothing = RightsAssignment().rights_of(Identity(name="t", role=Role.OPERATOR, grants=()))
    assert not nothing.has(Right.VIEW)
    denied = Grant(queues=("hr",), deny=frozenset({Right.VIEW}))
    assert not RightsAssignment().rights_of(Identity(name="t", grants=(denied,))).has(Right.VIEW)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"allow": ["veiw"]}, "allow: expected a set of view, retry"),
        ({"deny": "view"}, "deny: expected a set of view, retry"),
        ({"queues": "mail-*"}, "queues: expected a tuple of globs"),
        ({"queues": ["[a]"]}, "queues: expected a tuple of globs"),
        ({"source": ""}, "source, backend: expected globs"),
    ],
)
def test_wrong_grants_of_an_application_are_refused(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Grant: ") as caught:
        Grant(**wrong)  # type: ignore[arg-type]
    assert why in caught.value.message


def test_wrong_identities_of_an_application_are_refused() -> None:
    for wrong in ({"groups": "admins"}, {"groups": (1,)}, {"grants": ({"allow": ["view"]},)}):
        with pytest.raises(ConfigurationError, match=r"Identity: g"):
            Identity(name="x", **wrong)  # type: ignore[arg-type]


def test_groups_that_no_grant_names_are_not_remembered() -> None:
    assert BOOK.named_groups(("a", "team", "b", "team")) == ("team",)
    assert BOOK.is_granted("mia", ())
    assert BOOK.is_granted("x", ("team",))
    assert not BOOK.is_granted("otto", ("a",))  # a denial gives no access
