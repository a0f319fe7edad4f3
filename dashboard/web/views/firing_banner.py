"""Firing alerts in one line: the banner of every page, and a header of polled fragments. Read once for all viewers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote

from ...alerts.delivery.message import alert_title
from ...alerts.management.alert_reader import Alert, AlertList

HEADER = "Queuedeck-Firing"
KEEP_S = 1.0
MAX_TEXT = 120


@dataclass(frozen=True, slots=True)
class FiringSummary:
    """`level` is the worst severity of the open alerts, or of all if none is open; "none" without alerts.

    `mark` changes whenever the set of open incidents does; `text` names the worst one.
    """

    level: str = "none"
    count: int = 0
    handled: int = 0
    mark: str = ""
    text: str = ""

    @property
    def is_handled(self) -> bool:
        """Whether all alerts are acknowledged or silenced."""
        return 0 < self.count == self.handled

    @property
    def banner_text(self) -> str:
        """The text of the banner; static/js/alerts.js builds the same one."""
        if self.is_handled:
            return f"{self.count} {'alert' if self.count == 1 else 'alerts'} firing, all acknowledged or silenced"
        rest = self.count - 1
        more = f", and {rest} more firing" if rest else ""
        handled = f" ({self.handled} acknowledged or silenced)" if self.handled else ""
        return f"{self.level}: {self.text}{more}{handled}"

    @property
    def header(self) -> str:
        """The summary in ASCII, for the header and the script of the page."""
        words = quote(self.text, safe="", errors="replace")
        return f"{self.level} {self.count} {self.handled} {self.mark or '-'} {words}".rstrip()


def summarize_alerts(alert_list: AlertList) -> FiringSummary:
    """Summarize the alerts of `alert_list`. Pure."""
    incidents = alert_list.incidents
    if not incidents:
        return FiringSummary()
    open_ones = [alert for alert in incidents if not is_handled(alert)]
    worst = (open_ones or incidents)[0].state  # worst first
    episodes = "\n".join(sorted(alert.state.episode for alert in open_ones))
    return FiringSummary(
        level=worst.severity.value,
        count=len(incidents),
        handled=len(incidents) - len(open_ones),
        mark=hashlib.blake2b(episodes.encode("utf-8", "replace"), digest_size=6).hexdigest(),
        text=alert_title(worst.rule_name, worst.labels)[:MAX_TEXT],
    )


def is_handled(alert: Alert) -> bool:
    """Whether the alert is acknowledged or silenced."""
    return alert.ack is not None or alert.silence is not None
