"""A job as the value of a tick box: its id, which may hold any byte, and the stamp under which it was seen.

On a page of many lists it names its list too.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

from ...backends.actions import JobRef
from ...dead_letters.groups import GroupMember
from ...errors import Conflict
from ...model import Job, State
from ...store.packing import pack, unpack

T = TypeVar("T")
Spot = tuple[str, str, str, State]  # source, library, queue, state


def pick_token(job: Job) -> str:
    """The value of the tick box of a job."""
    return _encode_token([job.id, job.stamp])


def read_pick(token: str) -> JobRef:
    """The job of a tick box. Raises Conflict for a value that is none of ours."""
    job_id, stamp = _decode_token(token, tuple[str, str | None])
    return JobRef(id=job_id, stamp=stamp)


def member_token(member: GroupMember) -> str:
    """The value of the tick box of a dead letter."""
    ref, row = member.ref, member.row
    return _encode_token([ref.source, ref.backend, ref.name, member.state, row.id, row.stamp])


def read_member(token: str) -> tuple[Spot, JobRef]:
    """The list and the job of such a tick box. Raises Conflict for a value that is none of ours."""
    source, backend, queue, state, job_id, stamp = _decode_token(token, tuple[str, str, str, State, str, str | None])
    return (source, backend, queue, state), JobRef(id=job_id, stamp=stamp)


def _encode_token(parts: list[str | None]) -> str:
    return base64.urlsafe_b64encode(pack(parts)).decode("ascii")


def _decode_token(token: str, shape: type[T]) -> T:
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raw = b""
    parts = unpack(raw, shape)
    if parts is None:
        raise Conflict("This is no job of a list here.", hint="Reload the page and tick the jobs again.")
    return parts
