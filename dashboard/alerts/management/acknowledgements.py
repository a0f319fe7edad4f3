"""Acknowledging incidents, which stops their reminders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import msgspec

from ...errors import Conflict, NotFound
from ...sources.source import Argument
from .. import keys
from ..evaluation.state_machine import AlertState
from ..silences import Acknowledgement
from ..store import CHUNK, AlertStore
from .alert_groups import group_alerts
from .alert_reader import MAX_TOGETHER, Alert, AlertReader
from .ownership import AlertOwnership

# KEYS acks, alert. ARGV fingerprint, body. Returns 1; 0 when there is no such alert.
_STORE_ACK = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""

# KEYS acks, then the alerts. ARGV per alert: fingerprint, episode, body. Returns per alert: 1 when it was acknowledged,
# 2 when it already is, 0 when there is no such alert.
_STORE_ACKS = """
local results = {}
for i = 2, #KEYS do
  local fingerprint, episode, body = ARGV[3 * i - 5], ARGV[3 * i - 4], ARGV[3 * i - 3]
  local decoded, former = pcall(cjson.decode, redis.call('HGET', KEYS[1], fingerprint) or '')
  if redis.call('EXISTS', KEYS[i]) == 0 then
    results[#results + 1] = 0
  elseif decoded and type(former) == 'table' and former.episode == episode then
    results[#results + 1] = 2
  else
    redis.call('HSET', KEYS[1], fingerprint, body)
    results[#results + 1] = 1
  end
end
return results
"""


@dataclass(frozen=True, slots=True)
class GroupAcknowledgement:
    """What acknowledging a group did. `rule_name`: that of its cause; `done`: fingerprints; `already`: acknowledged
    before; `newer`: alerts that began after the group was shown, and are not acknowledged."""

    rule_name: str
    done: tuple[str, ...]
    already: int
    newer: int


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
        """Acknowledge these incidents (episode by fingerprint), at most MAX_TOGETHER, and return the fingerprints that
        are acknowledged now. Incidents that have ended or are new are skipped. Raises Conflict. Cost: 3 round trips."""
        self._ownership.check()
        wanted = dict(islice(episodes.items(), MAX_TOGETHER))
        alert_list = self._alerts.list_alerts()
        states = [
            alert.state for alert in alert_list.firing if wanted.get(alert.state.fingerprint) == alert.state.episode
        ]
        results = self._store_acks(states, Acknowledgement(episode="", by=by[:300], at=alert_list.at, comment=comment))
        return tuple(state.fingerprint for state, how in zip(states, results, strict=True) if how)

    def acknowledge_group(self, key: str, *, seen_at: float, by: str, comment: str = "") -> GroupAcknowledgement:
        """Acknowledge all alerts of a group that began until `seen_at`, the `AlertList.at` of the list that was shown.

        Each alert is acknowledged or not, whatever happens to the others. Raises NotFound, Conflict. Cost: 3 round
        trips, plus one per CHUNK alerts.
        """
        self._ownership.check()
        alert_list = self._alerts.list_alerts()
        group = group_alerts(alert_list).find_group(key)
        if group is None:
            raise NotFound("These alerts are no longer firing.")
        seen = [alert for alert in group.everything if (alert.state.started_at or 0.0) <= seen_at]
        states = [alert.state for alert in seen if alert.ack is None]
        ack = Acknowledgement(episode="", by=by[:300], at=alert_list.at, comment=comment)
        results = self._store_acks(states, ack)
        return GroupAcknowledgement(
            rule_name=group.first.rule_name,
            done=tuple(state.fingerprint for state, how in zip(states, results, strict=True) if how == 1),
            already=len(seen) - len(states) + sum(how == 2 for how in results),
            newer=len(group.everything) - len(seen),
        )

    def _store_acks(self, states: Iterable[AlertState], ack: Acknowledgement) -> list[int]:
        """Store `ack` for the current incident of each alert: what _STORE_ACKS returns for each, in order."""
        results: list[int] = []
        rest = list(states)
        while rest:
            chunk, rest = rest[:CHUNK], rest[CHUNK:]
            arguments: list[Argument] = []
            for state in chunk:
                body = msgspec.structs.replace(ack, episode=state.episode, comment=ack.comment[:300])
                arguments += [state.fingerprint, state.episode, msgspec.json.encode(body)]
            names = (keys.ACKS, *(keys.instance_key(state.fingerprint) for state in chunk))
            results += self._store.run_script(_STORE_ACKS, names, *arguments)
        return results
