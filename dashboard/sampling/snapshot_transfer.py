"""Sends and reads published documents in parts.

Parts are plain values with unique names, so any process can write them and none reads them by accident. Only the
pointer counts, a manifest that lists them: the script that swaps it checks the lease and that every part exists. A
leader that has been replaced cannot swap the pointer, and its parts expire. A part that is no longer listed is retained
for GRACE_MS, for readers that have just read the previous manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..clock import monotonic_s
from ..settings import DEFAULT_STORE_PREFIX
from ..sources.source import Command, Reply
from .snapshot_parts import DocumentKind, PublishedDocument, Rows, SnapshotPart

if TYPE_CHECKING:
    from ..store.redis_store import Store

PART = f"{DEFAULT_STORE_PREFIX}:part"  # strings, see PART_BYTES; same TTL as the pointer that lists them
# TTL of a part that no manifest lists yet.
PENDING_TTL_MS = 600_000
# TTL of a part that is no longer listed.
GRACE_MS = 10_000
# Each part is sent again after this time, which repairs one that was overwritten.
REFRESH_S = 60.0

_DEPOSED, _DONE, _LOST = 0, 1, -1

# KEYS: lease, pointer, the listed parts, the parts that are no longer listed. ARGV: lease value, or "" if no lease is
# needed; manifest; TTL in ms; number of listed parts; TTL of the other parts in ms; "1" to require all listed parts.
# Returns 1, 0 if another process leads by now, or -1 if a part is missing; then the pointer is unchanged.
_SWAP = """
if ARGV[1] ~= '' and redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local last = 2 + tonumber(ARGV[4])
local lost = false
for n = 3, last do
  if redis.call('PEXPIRE', KEYS[n], ARGV[3]) == 0 then lost = true end
end
if lost and ARGV[6] == '1' then return -1 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
for n = last + 1, #KEYS do redis.call('PEXPIRE', KEYS[n], ARGV[5]) end
return 1
"""

# KEYS: a part. ARGV: its body, TTL in ms. For a full server: see ALLOW_OOM.
_PUT = """
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


def part_key(pointer: str, name: str) -> str:
    """The key of a part that `pointer` lists."""
    return f"{PART}:{pointer.removeprefix(f'{DEFAULT_STORE_PREFIX}:')}:{name}"


class PartTransfer:
    """The document behind one pointer, as this process last sent or read it. Only one thread at a time sends."""

    def __init__(self, store: Store, pointer: str, kind: DocumentKind[Any], lead_key: str, lives_ms: int) -> None:
        self._store = store
        self.pointer = pointer
        self._kind = kind
        self._lead_key = lead_key
        self._lives_ms = lives_ms
        self._sent_at: dict[str, float] = {}  # by name of the part that this process sent; monotonic
        self._listed: frozenset[str] = frozenset()  # parts with their own keys, in the last known manifest
        self._rows: Mapping[str, Rows] = {}  # of all parts of that manifest
        self._known: tuple[bytes, Any] | None = None  # a manifest and its decoded value

    def send_document(self, document: PublishedDocument[Any], lead: str) -> bool:
        """Send what changed and swap the pointer; False if `lead` is no longer the lease ("" needs none).

        Raises BackendUnavailable, Forbidden. Cost: 1 round trip; 1 more if parts were lost, or if the server is full.
        """
        due = monotonic_s() - REFRESH_S
        new = [part for part in document.sent if self._sent_at.get(part.name, due) <= due]
        answer = self._try_swap([self._set_command(part) for part in new], document, lead, demand=True)
        if answer == _LOST:
            new = list(document.sent)
            answer = self._try_swap([self._put_command(part) for part in new], document, lead, demand=False)
        if answer == _DEPOSED:
            return False
        now = monotonic_s()
        self._listed = frozenset(part.name for part in document.sent)
        self._sent_at = {name: self._sent_at.get(name, now) for name in self._listed}
        self._sent_at.update((part.name, now) for part in new)
        self._rows = {part.name: part.rows for part in document.parts}
        self._known = document.manifest, document.value
        return True

    def wanted_parts(self, raw: Reply) -> list[str]:
        """The names of the parts that the manifest `raw` lists and this process does not have."""
        manifest = None if self._is_known(raw) else self._kind.manifest(raw)
        return (
            [name for name in manifest.names if name not in self._rows and name not in manifest.inline]
            if manifest
            else []
        )

    def join_value(self, raw: Reply, bodies: Mapping[str, Reply]) -> Any | None:
        """The value of the manifest `raw` and its parts; `bodies` contains the parts named by `wanted_parts`.

        None if the manifest is missing or of another version. Raises LookupError if a part is missing or invalid.
        """
        known = self._known
        if known is not None and known[0] == raw:
            return known[1]
        manifest = self._kind.manifest(raw)
        if manifest is None:
            return None
        known_bodies = {**bodies, **manifest.inline}
        rows = {name: self._rows_of(name, known_bodies) for name in manifest.names}
        try:
            value = manifest.join_parts(rows)
        except (ValueError, TypeError) as exc:
            raise LookupError(str(exc)) from exc
        self._listed = frozenset(rows.keys() - manifest.inline.keys())
        self._rows, self._known = rows, (raw, value)
        return value

    def _is_known(self, raw: Reply) -> bool:
        return self._known is not None and self._known[0] == raw

    def _rows_of(self, name: str, bodies: Mapping[str, Reply]) -> Rows:
        rows = self._rows.get(name)
        if rows is None:
            rows = self._kind.rows(name, bodies.get(name))
        if rows is None:
            raise LookupError(name)
        return rows

    def _try_swap(self, commands: list[Command], document: PublishedDocument[Any], lead: str, *, demand: bool) -> int:
        listed = [part.name for part in document.sent]
        unlisted = (self._listed | self._sent_at.keys()) - set(listed)
        keys = (self._lead_key, self.pointer, *(part_key(self.pointer, name) for name in (*listed, *unlisted)))
        arguments = (lead, document.manifest, self._lives_ms, len(listed), GRACE_MS, int(demand))
        return int(self._store.run_script(_SWAP, keys, *arguments, before=commands))

    def _set_command(self, part: SnapshotPart) -> Command:
        return ("SET", part_key(self.pointer, part.name), part.body, "PX", PENDING_TTL_MS)

    def _put_command(self, part: SnapshotPart) -> Command:
        return self._store.script_command(_PUT, (part_key(self.pointer, part.name),), part.body, PENDING_TTL_MS)
