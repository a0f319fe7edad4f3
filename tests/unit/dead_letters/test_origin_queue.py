"""Where a job in a dead-letter queue came from, out of what handlers of failures note."""

from __future__ import annotations

import pytest

from dashboard.dead_letters.origin_queue import home_of
from dashboard.model import Job
from tests.counting import units_of


def job(queue: str = "mails-dlq") -> Job:
    return Job(id="1", source="main", backend="bullmq", queue=queue)


@pytest.mark.parametrize(
    ("text", "home"),
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
def test_the_words_in_use(text: str, home: str | None) -> None:
    assert home_of(job(), text, "mails-dlq") == home


def test_a_job_that_was_put_there_as_it_was_says_so_itself() -> None:
    assert home_of(job("mails"), "", "mails-dlq") == "mails"


def test_hostile_text_costs_no_more_than_its_length() -> None:
    def look_at_all() -> None:
        for text in ('"queueName":"' * 600, '"queueName":"' + "\\" * 8000, "queueName" * 900, '"' * 8000, " " * 8000):
            home_of(job(), text, "mails-dlq")

    assert units_of(look_at_all, enough=10) <= 10
