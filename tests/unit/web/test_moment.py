"""The moment that a URL asks for: which are refused, and where its bar leads."""

from __future__ import annotations

import pytest

from dashboard.errors import Unsupported
from dashboard.web.views.moments.moment import Moment, choose_moment

DAY_S = 86_400
NOW_S = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def test_a_moment_is_within_the_history() -> None:
    assert choose_moment(None, NOW_S) is None
    moment = choose_moment(NOW_S - 3600.5, NOW_S)
    assert moment is not None
    assert (moment.text, moment.minute_text) == ("2023-11-14T21:13:19Z", "2023-11-14T21:13")
    # The clock of a browser is a little ahead.
    ahead = choose_moment(NOW_S + 30, NOW_S)
    assert ahead is not None
    assert (ahead.at_s, ahead.ago_s) == (NOW_S, 0)
    with pytest.raises(Unsupported, match=r"in the future: 2023-11-15 22:13 UTC") as future:
        choose_moment(NOW_S + DAY_S, NOW_S)
    assert "It is 2023-11-14 22:13 UTC now" in (future.value.hint or "")
    for at_s in (NOW_S - 30 * DAY_S - 1, 0.0, -1e11):
        with pytest.raises(Unsupported, match="Nothing is stored of this moment"):
            choose_moment(at_s, NOW_S)
    with pytest.raises(Unsupported, match="in the future: 1000000000000 seconds"):
        choose_moment(1e12, NOW_S)


def test_steps_stay_within_the_history() -> None:
    now = Moment(int(NOW_S) - 90, NOW_S)
    assert {step.label: step.at for step in now.forward} == {
        "1 min": "2023-11-14T22:12:50Z",
        "10 min": None,
        "1 h": None,
        "1 d": None,
    }
    oldest = Moment(int(NOW_S) - 30 * DAY_S + 600, NOW_S)
    assert [step.at is not None for step in oldest.back] == [False, False, True, True]
    assert all(step.at for step in oldest.forward)


def test_the_slider_covers_a_day_around_the_moment() -> None:
    for ago_s in (0, 5, 3600, 2 * DAY_S, 30 * DAY_S):
        moment = Moment(int(NOW_S) - ago_s, NOW_S)
        start_s, end_s = moment.slider
        assert start_s <= moment.at_s <= end_s <= NOW_S, ago_s
        assert start_s >= NOW_S - 30 * DAY_S - 1, ago_s
        assert end_s - start_s <= DAY_S + 60, ago_s
    assert Moment(int(NOW_S) - 3600, NOW_S).slider.end_s > NOW_S - 60
    middle = Moment(int(NOW_S) - 5 * DAY_S, NOW_S)
    assert middle.slider == (middle.at_s - DAY_S // 2, middle.at_s + DAY_S // 2)
