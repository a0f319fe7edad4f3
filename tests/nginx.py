"""A real nginx in front of a server of the dashboard."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import Child, child
from tests.waiting import CEILING_S, wait_until

# One process: the worker of a master that is started by root could not read the test's files.
CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {locations}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, port: int, locations: str) -> Iterator[Child]:
    """An nginx that answers on `port`, with these lines in its `server`."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.fail("nginx is missing: run the tests with `make test`, which installs it")
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, locations=locations))
    with child([binary, "-e", "stderr", "-c", config, "-p", folder], name="nginx") as process:
        wait_until(lambda: _answers(port), what="nginx")
        yield process


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=CEILING_S).close()
    except urllib.error.HTTPError as exc:
        exc.close()
    except OSError:
        return False
    return True
