"""How scripts that read are sent."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest

from dashboard.backends.lua_reads import Scripts, compact_script
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.source import Command, Reply, Source
from tests.waiting import CEILING_S

TEXT = """-- What it does.
local function twice(n)
  -- Of a number.
  return n * 2  -- told here
end
return {twice(tonumber(ARGV[1])), '-- no comment'}
"""


def test_a_script_is_sent_without_comments_and_does_the_same(any_server: EmbeddedRedis) -> None:
    assert compact_script(TEXT).splitlines()[:2] == ["local function twice(n)", "return n * 2  -- told here"]
    source = Source("main", any_server.url)
    answered = Scripts(source).run(TEXT, [(21,)])
    source.close()
    assert answered == ([[42, b"-- no comment"]], [])


@pytest.mark.every_server
def test_the_first_scripts_of_two_threads_both_run(any_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    both_sent = Barrier(2)
    send = Source.batch_in_pieces

    def send_together(source: Source, pieces: Sequence[Sequence[Command]]) -> list[Reply]:
        replies = send(source, pieces)
        if pieces[0][0][0] == "EVAL_RO":  # unknown to Redis 6: both threads learn that now
            both_sent.wait(CEILING_S)
        return replies

    monkeypatch.setattr(Source, "batch_in_pieces", send_together)
    with closing(Source("main", any_server.url)) as source, ThreadPoolExecutor() as threads:
        scripts = Scripts(source)
        runs = [threads.submit(scripts.run, TEXT, [(number,)]) for number in (1, 2)]
        assert [run.result(CEILING_S) for run in runs] == [([[2, b"-- no comment"]], []), ([[4, b"-- no comment"]], [])]
        assert not scripts.are_refused
