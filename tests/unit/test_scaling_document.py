"""The ScaledObject of docs/scaling.md fits the API that it reads."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from dashboard.web.api.openapi import QUERIES
from dashboard.web.api.queue_json import ScalingJson
from tests.processes import ROOT


def test_the_scaled_object_reads_a_number_that_the_api_returns() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    scaled = text.partition("kind: ScaledObject")[2].partition("```")[0]
    fields = dict(re.findall(r"^ *(\w+): \"?([^\"#\n]+?)\"?(?: +#.*)?$", scaled, re.MULTILINE))
    address = urlsplit(fields["url"])
    assert re.fullmatch(r"/api/v1/queues/\w+/\w+/\w+/scaling", address.path)
    assert parse_qs(address.query).keys() <= QUERIES["api.scaling"].keys()
    assert ScalingJson.__annotations__[fields["valueLocation"]] == "int"  # never null
    assert int(fields["minReplicaCount"]) >= 1
    assert set(re.findall(r'^  "(\w+)"', text, re.MULTILINE)) == set(ScalingJson.__annotations__)
