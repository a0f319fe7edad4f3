"""The Redis users of the README, as written there: one that can only read, and one with keys of its own besides."""

from __future__ import annotations

import re

from tests.processes import ROOT

README = (ROOT / "README.md").read_text()
READER, PUBLISHER = re.findall(r"^ACL SETUSER queuedeck on .*$", README, re.MULTILINE)
# What the README adds for Celery, whose workers publish what ended and that they live.
(CELERY_GRANTS,) = re.findall(r"`(\+psubscribe .*)`", README)
