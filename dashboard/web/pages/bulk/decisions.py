"""Who may approve or reject a bulk operation that waits for a second person."""

from __future__ import annotations

from flask import g

from ....actions.bulk.operation import BulkOperation
from ....auth import Identity
from ....errors import Forbidden

DECISIONS = ("approve", "reject")


def may_decide(operation: BulkOperation) -> bool:
    """Whether the user may approve or reject the operation: a person, other than the one who started it."""
    identity: Identity = g.identity
    return not identity.is_token and not operation.request.is_by(identity.name)


def check_is_person(command: str) -> None:
    """Raise Forbidden where a token approves or rejects: a program is not a second person."""
    if command in DECISIONS and g.identity.is_token:
        raise Forbidden(f"A token cannot {command} this: a person who has signed in has to.")
