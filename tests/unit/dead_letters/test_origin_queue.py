"""The origin queue of a job in a dead-letter queue, from what failure handlers write into its data."""

from __future__ import annotations

import pytest

from dashboard.dead_letters.origin_queue import find_origin_queue
from dashboard.model import Job
from tests.counting import units_of


def job(queue: str = "mails-dlq") -> Job:
    return Job(id="1", source="main", backend="bullmq", queue=queue)


@pytest.mark.parametrize(
    ("text", "origin_queue"),
    [
        ('{"originalQueue":"mails","data":{"to":"x"}}', "mails"),
        ('{"original_queue": "mails"}', "mails"),
        ('{"queueName":"mails","failedReason":"no"}', "mails"),
        ('[{"source_queue":"mails"},1]', "mails"),
        ('{"originQueueName":"caf\\u00e9 \\"x\\""}', 'café "x"'),
        ("shop.send('anna', original_queue='mails')", "mails"),
        ('{"queueName":"mails-dlq","originalQueue":"mails"}', "mails"),
        ('{"queue":"mails"}', None),
        ('{"queueName":7}', None),
        ('{"queueName":""}', None),
        ('{"queueName":"mails-dlq"}', None),
        ('{"queueName":"\\ud800x', None),
        ('{"myqueueName":"mails"}', None),
        (f'{{"queueName":"{"x" * 201}"}}', None),
        ("", None),
    ],
)
def test_the_names_in_common_use_are_found(text: str, origin_queue: str | None) -> None:
    assert find_origin_queue(job(), text, "mails-dlq") == origin_queue


def test_a_job_that_was_moved_unchanged_names_its_own_queue() -> None:
    assert find_origin_queue(job("mails"), "", "mails-dlq") == "mails"


def test_hostile_text_takes_no_longer_than_its_length() -> None:
    def find_in_all() -> None:
        for text in ('"queueName":"' * 600, '"queueName":"' + "\\" * 8000, "queueName" * 900, '"' * 8000, " " * 8000):
            find_origin_queue(job(), text, "mails-dlq")

    assert units_of(find_in_all, enough=10) <= 10
