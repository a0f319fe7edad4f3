"""The record of a store outage, and the spool that the processes of one host share."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dashboard.alerts.delivery.message import PageLinks
from dashboard.alerts.delivery.outage_sender import OutageSender
from dashboard.alerts.delivery.outage_spool import OutageRecord, OutageSpool, spool_folder
from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.notification import HistoryEntry, Notification
from dashboard.alerts.rules.rule import Severity

BEGUN = OutageRecord(
    notification=Notification(
        kind="firing",
        number=1,
        episode="local-1",
        fingerprint="local-1",
        rule_id="redis-unreachable",
        rule_name="Redis is not responding",
        metric="redis.unreachable_s",
        severity=Severity.CRITICAL,
        at=100.0,
        labels=AlertLabels(source="main"),
        started_at=70.0,
    ),
    channels=("ops", "mail"),
)


def kinds(outage: OutageRecord, channel: str) -> list[str]:
    return [notification.kind for notification in outage.pending_notifications(channel)]


def test_a_channel_gets_only_its_pending_notifications() -> None:
    notified = BEGUN.confirm("ops", resolved=False)
    assert (kinds(BEGUN, "ops"), kinds(notified, "ops")) == (["firing"], [])
    ended = notified.end(160.0)
    assert (kinds(ended, "ops"), kinds(ended, "mail")) == (["resolved"], ["firing", "resolved"])
    assert kinds(ended.give_up("mail"), "mail") == []


def test_an_outage_is_finished_when_no_channel_is_left() -> None:
    ended = BEGUN.end(160.0).confirm("ops", resolved=True)
    assert not ended.is_finished
    assert ended.confirm("mail", resolved=True).is_finished
    assert ended.give_up("mail").is_finished
    assert not BEGUN.give_up("ops").give_up("mail").is_finished


def test_an_outage_ends_once() -> None:
    ended = BEGUN.end(160.0)
    assert ended.end(170.0) is ended
    assert ended.ended is not None
    assert ended.ended.ended_at == 160.0


def test_an_end_is_not_reopened_once_a_channel_was_notified_of_it() -> None:
    ended = BEGUN.end(160.0)
    assert ended.reopen() == BEGUN
    assert BEGUN.reopen() is BEGUN
    confirmed = ended.confirm("ops", resolved=True)
    assert confirmed.reopen() is confirmed


def test_an_outage_that_fails_again_while_it_is_finished_is_kept(tmp_path: Path) -> None:
    """All channels gave up, so no notification prevents that it is reopened."""
    spool = OutageSpool(tmp_path, "main")
    assert spool.try_lock()
    spool.begin_outage(BEGUN.give_up("ops").give_up("mail").end(160.0))

    def fail_again(entry: HistoryEntry) -> None:
        if entry.kind == "resolved":
            assert spool.update_outage(OutageRecord.reopen)

    sender = OutageSender(spool, {}, PageLinks(None), fail_again)
    finished = spool.outage
    assert finished is not None
    assert not sender._finish_outage(finished)
    assert spool.outage is not None
    assert spool.outage.ended is None
    assert (spool.is_locked, spool.file.exists()) == (True, True)
    assert not sender._finish_outage(spool.outage)
    spool.update_outage(lambda outage: outage.end(200.0))
    ended = spool.outage
    assert ended is not None
    assert OutageSender(spool, {}, PageLinks(None), lambda _entry: None)._finish_outage(ended)
    assert (spool.outage, spool.is_locked, spool.file.exists()) == (None, False, False)


def test_a_channel_notified_of_a_reopened_end_gets_the_outage_again() -> None:
    reopened = BEGUN.confirm("ops", resolved=False).end(160.0).reopen()
    assert kinds(reopened.confirm("ops", resolved=True), "ops") == ["firing"]


def test_one_process_holds_the_lock_and_the_next_one_continues_its_outage(tmp_path: Path) -> None:
    first, second = (OutageSpool(tmp_path, "redis://h:1/0") for _ in range(2))
    assert first.try_lock()
    assert first.try_lock()
    assert not second.try_lock()
    first.begin_outage(BEGUN)
    assert first.update_outage(lambda outage: outage.confirm("ops", resolved=False))
    first.unlock()
    assert second.try_lock()
    assert second.load_outage({"ops"})
    assert second.outage is not None
    assert (second.outage.channels, second.outage.notified) == (("ops",), ("ops",))
    assert second.finish_outage(second.outage)
    assert not second.is_locked
    assert not second.file.exists()
    assert not first.load_outage({"ops"})


def test_an_unchanged_outage_is_not_saved(tmp_path: Path) -> None:
    spool = OutageSpool(tmp_path, "redis://h:1/0")
    assert not spool.update_outage(lambda outage: outage.end(160.0))
    spool.begin_outage(BEGUN)
    spool.file.unlink()
    assert not spool.update_outage(OutageRecord.reopen)
    assert not spool.file.exists()


def test_a_finished_outage_is_deleted_instead_of_continued(tmp_path: Path) -> None:
    spool = OutageSpool(tmp_path, "redis://h:1/0")
    spool.begin_outage(BEGUN.end(160.0).give_up("ops").give_up("mail"))
    assert not OutageSpool(tmp_path, "redis://h:1/0").load_outage({"ops"})
    assert not spool.file.exists()


def test_the_spool_folder_is_private_to_its_user(tmp_path: Path) -> None:
    folder = spool_folder(str(tmp_path / "spool"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    with pytest.raises(PermissionError):
        spool_folder(str(folder))
    (tmp_path / "link").symlink_to(tmp_path / "spool")
    with pytest.raises(PermissionError):
        spool_folder(str(tmp_path / "link"))
