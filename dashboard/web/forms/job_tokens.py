"""Jobs as values of checkboxes: the job's id, which can contain any byte, and the stamp under which it was seen.

On a page with several lists, the value includes the list.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple, TypeVar

from ...backends.actions import JobRef
from ...dead_letters.groups import GroupMember
from ...errors import Conflict
from ...model import Job, State
from ...search.matches import FoundJob
from ...store.packing import pack, unpack

T = TypeVar("T")


class SelectedList(NamedTuple):
    """The list that contains a selected dead letter or found job, as the page names it."""

    source: str
    backend: str
    queue: str
    state: State


def job_token(job: Job) -> str:
    """The value of a job's checkbox."""
    return _encode_token([job.id, job.version])


def id_token(job_id: str) -> str:
    """The value of the checkbox of a job in the trash."""
    return _encode_token([job_id, None])


def read_job_token(token: str) -> JobRef:
    """Decode the value of a job's checkbox. Raises Conflict for an invalid value."""
    job_id, version = _decode_token(token, tuple[str, str | None])
    return JobRef(id=job_id, version=version)


def member_token(member: GroupMember) -> str:
    """The value of a dead letter's checkbox."""
    ref, dead_letter = member.ref, member.dead_letter
    return _encode_token([ref.source, ref.backend, ref.name, member.state, dead_letter.id, dead_letter.version])


def found_token(found: FoundJob) -> str:
    """The value of the checkbox of a job that a search found. Like that of a dead letter, it includes the list."""
    queue, job = found.queue, found.job
    return _encode_token([queue.source, queue.backend, queue.name, job.state, job.id, job.version])


def read_listed_job_token(token: str) -> tuple[SelectedList, JobRef]:
    """The list and the job of the checkbox of a dead letter or a found job. Raises Conflict for an invalid value."""
    source, backend, queue, state, job_id, version = _decode_token(token, tuple[str, str, str, State, str, str | None])
    return SelectedList(source, backend, queue, state), JobRef(id=job_id, version=version)


def _encode_token(parts: list[str | None]) -> str:
    return base64.urlsafe_b64encode(pack(parts)).decode("ascii")


def _decode_token(token: str, shape: type[T]) -> T:
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raw = b""
    parts = unpack(raw, shape)
    if parts is None:
        raise Conflict("Invalid job selection.", hint="Reload the page and select the jobs again.")
    return parts
