"""Why a library offers no action, in one sentence."""

from __future__ import annotations

from typing import Any

from dashboard.backends.actions import Action
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.model import State
from dashboard.web.views.offered_actions import why_unsupported

BACKEND: Any = BullMQ  # what a class says of its library


def test_the_first_reason_of_a_library_is_given() -> None:
    assert why_unsupported(BACKEND, Action.STOP) == "BullMQ cannot stop a running job."
    assert why_unsupported(BACKEND, Action.RETRY, Action.STOP) == "BullMQ cannot stop a running job."


def test_without_a_reason_the_library_does_not_support_it() -> None:
    assert why_unsupported(BACKEND, Action.RETRY) == "BullMQ does not support this."
    text = why_unsupported(BACKEND, Action.RETRY, Action.DELETE, state=State.ACTIVE)
    assert text == "BullMQ does not support this for active jobs."
