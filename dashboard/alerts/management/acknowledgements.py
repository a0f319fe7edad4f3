"""Acknowledging incidents, which stops their reminders."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import msgspec

from ...errors import Conflict, NotFound
from .. import keys
from ..silences import Acknowledgement
from ..store import AlertStore
from .alert_reader import MAX_TOGETHER, Alert, AlertReader
from .ownership import AlertOwnership

# KEYS acks, alert. ARGV fingerprint, body. Returns 1; 0 when there is no such alert.
_STORE_ACK = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


class Acknowledgements:
    """Acknowledges firing alerts."""

    def __init__(self, alert_store: AlertStore, alerts: AlertReader, ownership: AlertOwnership) -> None:
        self._alert_store = alert_store
        self._store = alert_store.store
        self._alerts = alerts
        self._ownership = ownership

    def acknowledge_alert(self, fingerprint: str, *, episode: str, by: str, comment: str = "") -> Alert:
        """Acknowledge an incident, which stops its reminders. Raises NotFound, Conflict when this incident has ended
        and another one is ongoing. Cost: 4 round trips."""
        alert = self._alerts.find_alert(fingerprint)
        if episode not in (alert.state.episode, alert.state.announced):
            raise Conflict(
                "That incident has ended; the alert is firing again. Reload the page and acknowledge the new one."
            )
        ack = Acknowledgement(
            episode=alert.state.episode, by=by[:300], at=self._alert_store.read_time(), comment=comment[:300]
        )
        if not self._store.run_script(
            _STORE_ACK, (keys.ACKS, keys.instance_key(fingerprint)), fingerprint, msgspec.json.encode(ack)
        ):
            raise NotFound("This alert is no longer firing.")
        return Alert(alert.state, ack, alert.silence, alert.silenced_until)

    def acknowledge_all(self, episodes: Mapping[str, str], *, by: str, comment: str = "") -> tuple[str, ...]:
        """Acknowledge these incidents (episode by fingerprint), at most MAX_TOGETHER, and return the acknowledged
        fingerprints. Incidents that have ended or are new are skipped. Raises Conflict. Cost: 2 round trips, plus one
        per incident."""
        self._ownership.check()
        wanted = dict(islice(episodes.items(), MAX_TOGETHER))
        alert_list, noted = self._alerts.list_alerts(), []
        for alert in alert_list.firing:
            state = alert.state
            if state.fingerprint in wanted and wanted[state.fingerprint] == state.episode:
                ack = Acknowledgement(episode=state.episode, by=by[:300], at=alert_list.at, comment=comment[:300])
                if self._store.run_script(
                    _STORE_ACK,
                    (keys.ACKS, keys.instance_key(state.fingerprint)),
                    state.fingerprint,
                    msgspec.json.encode(ack),
                ):
                    noted.append(state.fingerprint)
        return tuple(noted)
