"""How scripts that read are sent."""

from __future__ import annotations

from dashboard.backends.lua_reads import Scripts, compact_script
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.source import Source

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
