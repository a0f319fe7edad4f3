"""Totals of finished jobs: no job is counted twice, none is taken back, also not by the next leader."""

from __future__ import annotations

from msgspec.structs import replace

from dashboard.model import FlowDelta, Quality, QueueFlow, Snapshot, State
from dashboard.sampling.finished_totals import FinishedTotals
from tests.unit.history.samples import flow_of, flows_of, queue_row, snapshot_of

Totals = tuple[int | None, int | None]


def totals_of(snapshot: Snapshot, name: str = "mail") -> Totals:
    queue = snapshot.find("main", "rq", name)
    assert queue is not None
    return queue.finished_total, queue.failed_total


def sample_of(*names: str) -> Snapshot:
    return snapshot_of(1.0, *(queue_row(name) for name in names or ("mail",)))


def test_what_finished_before_the_first_sample_is_not_counted() -> None:
    totals = FinishedTotals()
    assert totals_of(totals.add_sample(sample_of(), flows_of(flow_of("mail", 500, 50)))) == (0, 0)
    assert totals_of(totals.add_sample(sample_of(), flows_of(flow_of("mail", 7, 2)))) == (7, 2)
    assert totals_of(totals.add_sample(sample_of(), flows_of(flow_of("mail", 3, 0)))) == (10, 2)


def test_the_next_leader_continues_without_counting_twice() -> None:
    """Its first sample looks back over minutes, whose jobs the leader before has counted."""
    first = FinishedTotals()
    first.add_sample(sample_of(), flows_of(flow_of("mail")))
    published = first.add_sample(sample_of(), flows_of(flow_of("mail", 40, 4)))
    second = FinishedTotals(published)
    taken = second.add_sample(sample_of(), flows_of(flow_of("mail", 40, 4)))
    assert (totals_of(taken), taken.samples_total) == ((40, 4), 3)
    assert totals_of(second.add_sample(sample_of(), flows_of(flow_of("mail", 1, 1)))) == (41, 5)


def test_a_queue_that_cannot_be_read_keeps_its_totals() -> None:
    totals = FinishedTotals()
    totals.add_sample(sample_of(), flows_of(flow_of("mail")))
    totals.add_sample(sample_of(), flows_of(flow_of("mail", 5, 1)))
    assert totals_of(totals.add_sample(sample_of(), {})) == (5, 1)
    totals.add_sample(sample_of("other"), {})  # its library could not be read, so it is not known to be gone
    assert totals_of(totals.add_sample(sample_of(), flows_of(flow_of("mail", 2, 0)))) == (7, 1)


def test_a_queue_that_is_gone_starts_again_from_nothing() -> None:
    totals = FinishedTotals()
    totals.add_sample(sample_of(), flows_of(flow_of("mail")))
    totals.add_sample(sample_of(), flows_of(flow_of("mail", 5, 1)))
    totals.add_sample(sample_of("other"), flows_of(flow_of("other")))
    assert totals_of(totals.add_sample(sample_of(), flows_of(flow_of("mail", 300, 30)))) == (0, 0)


def test_another_redis_of_the_same_name_starts_again_from_nothing() -> None:
    first = FinishedTotals()
    first.add_sample(sample_of(), flows_of(flow_of("mail")))
    published = first.add_sample(sample_of(), flows_of(flow_of("mail", 5, 1)))
    moved = sample_of()
    moved = replace(moved, sources=(replace(moved.sources[0], address="redis://other"),))
    assert totals_of(FinishedTotals(published).add_sample(moved, flows_of(flow_of("mail", 9, 9)))) == (0, 0)


def test_unknown_is_not_zero_and_no_total_shrinks() -> None:
    totals = FinishedTotals()
    hidden = replace(flow_of("mail", 3, 3), hidden=(State.COMPLETED,))
    flows = flow_of("cash"), hidden, QueueFlow.unknown("silent", "why")
    names = "cash", "mail", "silent"
    totals.add_sample(sample_of(*names), flows_of(*flows))
    taken = totals.add_sample(sample_of(*names), flows_of(replace(flows[0], completed=-4), *flows[1:]))
    assert [totals_of(taken, name) for name in names] == [(0, 0), (None, 3), (None, None)]
    counted = replace(hidden, ended=8)
    assert totals_of(totals.add_sample(sample_of("mail"), flows_of(counted))) == (8, 6)


def test_an_idle_queue_keeps_its_row() -> None:
    """The publisher compares rows by identity first: a new one for each queue would cost the leader time."""
    totals, row = FinishedTotals(), queue_row("mail")
    totals.add_sample(snapshot_of(1.0, row), flows_of(flow_of("mail")))
    second = totals.add_sample(snapshot_of(3.0, row), flows_of(flow_of("mail", 1)))
    third = totals.add_sample(snapshot_of(5.0, row), flows_of(flow_of("mail")))
    assert second.queues[0] is third.queues[0]


def test_queues_that_cannot_be_distinguished_are_counted_together() -> None:
    totals = FinishedTotals()
    flow = QueueFlow(key="", completed=6, dead=0, span_s=2.0, quality=Quality.ESTIMATED)

    def together(flow: QueueFlow | None) -> int | None:
        flows = {("main", "rq"): FlowDelta(queues=(), together=flow)}
        return totals.add_sample(sample_of(), flows).sources[0].together_total

    assert [together(each) for each in (None, flow, flow, flow, None, flow, flow)] == [None, 0, 6, 12, 12, 12, 18]
