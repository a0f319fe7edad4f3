"""The chart of an error group: its jobs by time of death, with deployments, and what it cannot show."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from dashboard.dead_letters import index
from dashboard.web.context import EXTENSION
from tests.web.conftest import MakeApp

SAME = {"Sec-Fetch-Site": "same-origin"}


def first_group(client: FlaskClient) -> str:
    return str(client.get("/api/v1/dead").get_json()["groups"][0]["fingerprint"])


def data_of(client: FlaskClient, fingerprint: str, **query: Any) -> dict[str, Any]:
    response = client.get(f"/dead/{fingerprint}/_deaths_data", query_string=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def text_of(client: FlaskClient, path: str) -> str:
    return " ".join(client.get(path).text.split())


def test_a_group_shows_when_its_jobs_died_and_after_what(client: FlaskClient, dead: list[str]) -> None:
    client.post("/marks", data={"text": "deploy", "version": "v7", "back": "/charts"}, headers=SAME)
    group = first_group(client)
    whole = data_of(client, group)
    assert sum(whole["values"]["deaths"]) == 5
    assert whole["end_s"] - whole["start_s"] <= 1020  # the shortest range since the first death
    assert [mark["label"] for mark in whole["marks"]] == ["deploy v7"]
    assert data_of(client, group, range="30d", since=whole["end_s"])["values"]["deaths"][-8:] != []
    page = text_of(client, f"/dead/{group}?range=1h")
    assert f'href="/dead/{group}?range=1h#deaths-over-time" aria-current="true">1 hour</a>' in page
    assert "there may have been more" not in page
    assert '<td class="number">5</td>' in page or page.count('<td class="number">') > 1  # they may be in two bars
    assert "<td>deploy v7</td>" in page
    polled = text_of(client, f"/dead/{group}/_group")
    assert f'data-chart-from="/dead/{group}/_deaths"' in polled
    assert "<figure" not in polled  # polls leave the chart alone
    assert "<figure" in text_of(client, f"/dead/{group}/_deaths")
    wrong = client.get(f"/dead/{group}/_deaths_data?range=1y").get_json()  # charts.js shows its message
    assert "expected one of 15m" in wrong["error"]["message"]
    for path in ("_deaths", "_deaths_data"):
        assert client.get(f"/dead/{'0' * len(group)}/{path}").status_code == 404


def test_while_jobs_are_being_read_the_range_is_not_guessed(client: FlaskClient, dead: list[str]) -> None:
    group = first_group(client)
    service = client.application.extensions[EXTENSION].services.dead_letter_service
    whole = service.current_groups()
    service._next_read = float("inf")
    service._group_list = replace(whole, grouped=replace(whole.grouped, reading=True))
    for path in ("", "/_group"):
        early = text_of(client, f"/dead/{group}{path}")
        assert "when the first of these jobs died is not known yet" in early
        assert "data-chart-from" not in early
        assert "<figure" not in early
        assert "data-kept" not in early[early.index('id="deaths-over-time"') :].partition(">")[0]  # a poll replaces it
    (link,) = re.findall(r'href="([^"]+)#deaths-over-time">Show the deaths', early)
    asked = text_of(client, link)
    assert 'aria-current="true">24 hours</a>' in asked
    assert "<figure" in asked
    service._group_list = whole
    assert f'data-kept data-chart-from="/dead/{group}/_deaths"' in text_of(client, f"/dead/{group}/_group")
    assert 'aria-current="true">15 min</a>' in text_of(client, f"/dead/{group}")


def test_what_was_not_read_is_not_shown_as_zero(
    make_app: MakeApp, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "ROWS_PER_LIST", 3)
    client = make_app().test_client()
    group = first_group(client)
    data = data_of(client, group)
    assert sum(bar or 0 for bar in data["values"]["deaths"]) == 5  # they were read with the newest 3
    assert data["values"]["deaths"][0] is None
    assert "there may have been more" in text_of(client, f"/dead/{group}")
