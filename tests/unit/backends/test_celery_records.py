"""Result records as Celery's own serializers write them, whole and cut, and bytes that nobody wrote."""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import pytest
from celery.backends.base import compress_payload
from kombu.serialization import registry

from dashboard.backends.celery.results.decoding import (
    TAIL_BYTES,
    RawRecord,
    as_raw_record,
    decode_record,
    outline_record,
)
from dashboard.backends.celery.results.record_jobs import record_error

SERIALIZERS = ["json", "pickle", "yaml", "msgpack"]
DONE = "2026-11-24T03:00:00+00:00"
LONG = "A" * 300_000


def written(serializer: str, **fields: Any) -> bytes:
    """A record of a failed task with `result_extended`."""
    result: Any = {"exc_type": "ValueError", "exc_message": ["it broke"], "exc_module": "builtins"}
    if serializer == "pickle":
        result = ValueError("it broke")
    meta = {
        "status": "FAILURE", "result": result, "traceback": "Traceback:\n  line\nValueError: it broke\n",
        "children": [], "date_done": DONE, "name": "shop.boom", "args": [1, "x"],
        "kwargs": {"".join(["que", "ue"]): "other"},
        "worker": "w@a", "retries": 0, "queue": "mails", "task_id": "t1", **fields,
    }  # fmt: skip
    raw = registry.dumps(meta, serializer)[2]
    return raw.encode() if isinstance(raw, str) else raw


def cut(raw: bytes, most: int = 65_536) -> RawRecord:
    """A record as it is read where it is too long."""
    return RawRecord(raw[:most], raw[-TAIL_BYTES:] if len(raw) > most else b"", len(raw))


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_record_of_each_serializer_is_read(serializer: str) -> None:
    raw = written(serializer)
    found = decode_record(as_raw_record(raw))
    assert (found.status, found.encoding) == ("FAILURE", serializer)
    assert (found.fields["queue"], found.fields["name"], found.fields["date_done"]) == ("mails", "shop.boom", DONE)
    error = record_error(found.fields)
    assert error is not None
    assert (error.class_name, error.message) == ("ValueError", "it broke")
    assert {name: outline_record(as_raw_record(raw)).fields.get(name) for name in ("status", "queue", "date_done")} == {
        "status": "FAILURE",
        "queue": "mails",
        "date_done": DONE,
    }


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("fields", [{"args": [LONG]}, {"traceback": LONG}, {"status": "SUCCESS", "result": LONG}])
def test_a_long_record_is_known_by_its_beginning_and_its_end(serializer: str, fields: dict[str, Any]) -> None:
    raw = cut(written(serializer, **fields))
    assert decode_record(raw).fields.get("args") in (None, [1, "x"])
    for found in (decode_record(raw), outline_record(raw)):
        # YAML is written in the order of its names: of a long traceback only the status, before it, is seen or not.
        if serializer == "yaml" and "status" not in found.fields:
            continue
        assert found.status == fields.get("status", "FAILURE")
        assert found.fields.get("queue") == "mails"
        assert not found.whole


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_read(protocol: int) -> None:
    meta = {"status": "FAILURE", "result": KeyError("a"), "date_done": DONE, "queue": "mails"}
    found = outline_record(as_raw_record(pickle.dumps(meta, protocol)))
    assert (found.status, found.fields["queue"], found.fields["date_done"]) == ("FAILURE", "mails", DONE)


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma"])
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_compressed_record_is_read(method: str, serializer: str) -> None:
    raw = compress_payload(written(serializer), method)
    assert (decode_record(as_raw_record(raw)).status, decode_record(as_raw_record(raw)).fields["queue"]) == (
        "FAILURE",
        "mails",
    )
    bomb = compress_payload(written(serializer, result="0" * 3_000_000, status="SUCCESS"), method)
    assert decode_record(as_raw_record(bomb)).status == "SUCCESS"
    assert not decode_record(as_raw_record(bomb)).whole


def test_text_inside_arguments_is_not_a_field_of_the_record() -> None:
    inner = {"queue": "evil", "status": "SUCCESS", "date_done": "2000-01-01T00:00:00", "x": LONG}
    for fields in ({"result": inner}, {"kwargs": inner}, {"args": [inner]}):
        raw = cut(written("json", **fields))
        found = outline_record(raw)
        assert (found.status, found.fields["queue"], found.fields["date_done"]) == ("FAILURE", "mails", DONE)


def test_nothing_in_a_record_is_run(tmp_path: Any) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    raw = pickle.dumps({"status": "FAILURE", "result": Evil()})
    found = decode_record(as_raw_record(raw))
    assert found.status == "FAILURE"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{", b'{"status": 5}', b"\x80\x05", b"\x80\x05pickle", b"\x85", b"\xde\x00", b"\xff" * 100,
        b'{"a":' * 50_000, b"\0celery-compressed\0x\0y", b"\0celery-compressed\0application/x-gzip\0zz",
        b"(" * 60_000, b"status", pickle.dumps(["status", "FAILURE"]), json.dumps(["status"]).encode(),
    ],
)  # fmt: skip
def test_foreign_records_have_no_status(raw: bytes) -> None:
    for record in (as_raw_record(raw), RawRecord(raw, raw, len(raw) + 5)):
        assert decode_record(record).status is None
        assert outline_record(record).status is None


def test_lenient_json_still_has_its_status() -> None:
    raw = b'{"status": "SUCCESS", "result": NaN, "date_done": "2026-11-24T03:00:00", "queue": "mails"}'
    assert decode_record(as_raw_record(raw)).fields["queue"] == "mails"
    assert decode_record(as_raw_record(b'{"status": "FAILURE", "name": "\xff"}')).status == "FAILURE"


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"reason": "card refused"}, '{"reason": "card refused"}'),
        ("no more stock", "no more stock"),
        (["a", 1], '["a", 1]'),
        ({"password": "hunter22"}, '{"password": "••••••"}'),
        (None, None),
        ({}, None),
    ],
)
def test_a_failure_set_by_the_app_shows_its_result(result: Any, message: str | None) -> None:
    found = decode_record(as_raw_record(written("json", result=result)))
    error = record_error(found.fields)
    assert error is not None
    assert (error.class_name, error.message) == (None, message)
