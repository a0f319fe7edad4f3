"""Lifted masks: for one read of one thread, never in a log line."""

from __future__ import annotations

import json
import logging
import threading

import pytest

from dashboard.backends.payloads.masking import mask_payload
from dashboard.clock import instant
from dashboard.model import Job, JobError, Payload, TimelineEvent
from dashboard.redact import MASK, is_revealing, mask_text, masked_logger, masks_lifted
from dashboard.web.views.jobs.masked_parts import masked_parts

TEXT = "connect(password='opensesame')"
VALUE = {"password": "opensesame", "ghp_" + "a1" * 18: 1, "pairs": [["Cookie", "x=y"]], "text": TEXT}


def test_values_are_shown_within_the_block_only() -> None:
    masked = mask_payload(VALUE)
    with masks_lifted():
        assert mask_text(TEXT) == TEXT
        assert mask_payload(VALUE) == (VALUE, False)
        assert mask_payload(VALUE, exact=True) == (VALUE, False)
    assert mask_payload(VALUE) == masked
    assert "opensesame" not in json.dumps(masked)
    assert MASK in mask_text(TEXT)


def test_masks_return_after_an_error() -> None:
    with pytest.raises(ValueError, match="x"), masks_lifted():
        raise ValueError("x")
    assert not is_revealing()


def test_names_that_were_shown_are_not_remembered() -> None:
    name = "ghp_" + "b2" * 18
    with masks_lifted():
        assert mask_payload({name: 1})[0] == {name: 1}
    assert mask_payload({name: 1})[0] == {MASK: 1}
    with masks_lifted():
        assert mask_payload({name: 1})[0] == {name: 1}


def test_other_threads_stay_masked() -> None:
    found = []
    with masks_lifted():
        thread = threading.Thread(target=lambda: found.append(mask_text(TEXT)))
        thread.start()
        thread.join()
    assert found == [f"connect(password='{MASK}')"]


def test_log_lines_stay_masked(caplog: pytest.LogCaptureFixture) -> None:
    log = masked_logger("dashboard.tests.revealing")
    with masks_lifted(), caplog.at_level(logging.INFO):
        log.info("read %s", TEXT)
    assert caplog.messages == [f"read connect(password='{MASK}')"]


def test_parts_with_masks_are_named() -> None:
    plain = Job(id="1", source="main", backend="rq", queue="mails", name="send", facts=(("Group", "a"),))
    assert masked_parts(plain) == ()
    masked = Job(
        **{
            **{name: getattr(plain, name) for name in ("id", "source", "backend", "queue")},
            "name": f"send {MASK}",
            "error": JobError(class_name="E", message="x", stack=f"at {MASK}"),
            "timeline": (TimelineEvent(at=instant(0), event="failed", detail=MASK),),
            "payload": Payload(kind="json", text=f'{{"{MASK}": 1}}', value={MASK: 1}),
            "result": Payload(kind="json", text="1", value=1),
            "logs": ("a", f"b {MASK}"),
            "progress": [{"a": {MASK: 1}}],
            "facts": (("Group", MASK),),
        }
    )
    assert masked_parts(masked) == (*("name", "stack trace", "timeline", "payload", "logs", "progress", "details"),)
