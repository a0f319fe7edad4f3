"""The scripts that change Celery's jobs."""

from __future__ import annotations

from ...lua_writes import WriteScripts
from ..keys import load_script

WRITES = WriteScripts("Celery", load_script)
