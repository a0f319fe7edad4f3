"""Writes the committed files anew: `python -m tests.golden.write [arguments of pytest]`."""

from __future__ import annotations

import os
import sys

import pytest

from tests.golden.files import FOLDER, WRITE

if __name__ == "__main__":
    os.environ[WRITE] = "1"
    sys.exit(pytest.main(["-q", str(FOLDER), *sys.argv[1:]]))
