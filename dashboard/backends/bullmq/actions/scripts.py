"""The scripts that change BullMQ's jobs. Each of them checks first that the queue belongs to a release it knows."""

from __future__ import annotations

from ...lua_writes import WriteScripts
from ..keys import load_writing_script

WRITES = WriteScripts("BullMQ", load_writing_script)
