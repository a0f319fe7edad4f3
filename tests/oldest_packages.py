"""Installs the oldest packages that pyproject.toml allows, with a Celery of 2023, into a folder of their own.

`make test` runs this module in parallel with the installation of the newest packages. It needs only the standard
library and pip.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Packages that an existing environment may contain when the dashboard is added to it.
THEIRS = ["celery[redis]==5.3.6"]
_BOUND = re.compile(r"(?P<name>[a-z0-9-]+)(?P<extras>\[\w+\])?>=(?P<least>[\d.]+)(?:,<[\d.]+)?\Z")


def install_oldest(folder: Path) -> Path:
    """A folder in `folder` with the packages, installed unless they are there already. Raises RuntimeError."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [_BOUND.match(bound) for bound in project["dependencies"]]
    if not all(bounds):
        raise RuntimeError("a dependency without a lower bound, or of a form that this module does not know")
    packages = [f"{bound['name']}{bound['extras'] or ''}=={bound['least']}" for bound in bounds if bound] + THEIRS
    installed = folder / hashlib.sha256(repr((packages, sys.version)).encode()).hexdigest()[:16]
    if installed.is_dir():
        return installed
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f"{installed.name}.", dir=folder))
    options = ["-q", "--disable-pip-version-check", "--no-compile", "--target", str(made)]
    command = [sys.executable, "-m", "pip", "install", *options, *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    made.chmod(0o755)
    try:
        made.rename(installed)
    except OSError:  # another process was faster
        shutil.rmtree(made)
    return installed


if __name__ == "__main__":
    install_oldest(ROOT / ".pytest_cache" / "oldest-packages")
