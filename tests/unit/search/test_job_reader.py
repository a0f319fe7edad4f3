"""Links between jobs lead to the queue that really holds them."""

from __future__ import annotations

from dashboard.model import Job, JobLink, QueueRef, QueueStats
from dashboard.search.job_reader import with_addresses


def queues(*names: tuple[str, str]) -> tuple[QueueStats, ...]:
    """Queues of these names and keys."""
    return tuple(QueueStats(source="main", backend="bullmq", name=name, key=key) for name, key in names)


def link(key: str) -> JobLink:
    """A link as a backend makes it: under the plain name."""
    name = key.rpartition(":")[2]
    return JobLink(id="1", queue=name, ref=QueueRef(source="main", backend="bullmq", name=name, key=key))


def test_a_link_bears_the_name_that_its_queue_has_here() -> None:
    job = Job(id="1", source="main", backend="bullmq", queue="mails", parent=link("shop:mails"))
    job = with_addresses(job, queues(("mails", "bull:mails"), ("shop:mails", "shop:mails")))
    assert job.parent is not None
    assert job.parent.ref is not None
    assert (job.parent.ref.name, job.parent.queue) == ("shop:mails", "shop:mails")


def test_a_link_to_a_queue_that_is_not_shown_has_no_address() -> None:
    children = (link("bull:hidden"), link("bull:mails"), JobLink(id="x", queue="?"))
    job = Job(id="1", source="main", backend="bullmq", queue="mails", children=children)
    job = with_addresses(job, queues(("mails", "bull:mails")))
    assert [child.ref and child.ref.name for child in job.children] == [None, "mails", None]
    assert [child.queue for child in job.children] == ["hidden", "mails", "?"]
    assert with_addresses(job, ()).children[1].ref is None
