"""Static files: sources joined into bundles, compressed, and cached until they change."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from dashboard.web import assets
from tests.processes import ROOT

STATIC = ROOT / "static"
ZIPPED = {"Accept-Encoding": "gzip"}


def link(client: FlaskClient, name: str) -> str:
    """The address of a static file in the overview."""
    found = re.search(rf'="([^"]*/{re.escape(name)}\?v=[^"]+)"', client.get("/").text)
    assert found
    return found[1]


@pytest.mark.parametrize("name", ["queuedeck.css", "htmx.js", "queuedeck.js"])
def test_a_bundle_is_its_sources_in_order(client: FlaskClient, name: str) -> None:
    text = client.get(link(client, name)).text
    places = [text.index((STATIC / part).read_text()) for part in assets.BUNDLES[name]]
    assert places == sorted(places)
    assert re.findall(r"^/\* ((?:css|js|vendor)/\S+) \*/$", text, re.MULTILINE) == list(assets.BUNDLES[name])


def test_a_file_is_cached_until_it_changes(client: FlaskClient) -> None:
    address = link(client, "queuedeck.css")
    assert client.get(address).headers["Cache-Control"] == assets.ONE_YEAR
    for other in ("/static/queuedeck.css", "/static/queuedeck.css?v=of-an-earlier-version"):
        response = client.get(other)
        assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-cache")
    response = client.get(address, headers=ZIPPED)
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.data) == client.get(address).data


def test_a_source_has_no_address_of_its_own(client: FlaskClient) -> None:
    for name in ("css/base.css", "js/live.js", "vendor/htmx.min.js"):
        assert client.get(f"/static/{name}").status_code == 404


def test_a_changed_source_changes_only_the_address_of_its_bundles(tmp_path: Path) -> None:
    shutil.copytree(STATIC, tmp_path, dirs_exist_ok=True)
    before = assets.load_assets(tmp_path)
    with (tmp_path / "js" / "wall.js").open("a") as source:
        source.write("// changed\n")
    after = assets.load_assets(tmp_path)
    assert {name for name in after if after[name].version != before[name].version} == {"wall.js"}
