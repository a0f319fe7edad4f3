"""Celery protocol 2 messages and worker broadcasts, as kombu 5 writes them to Redis.

Observed with celery 5.7: a task message is LPUSHed to the queue's list, a control command is published on the channel
`<prefix>/<db>.celery.pidbox`; both are the same kind of JSON envelope around a base64 body.
"""

from __future__ import annotations

import base64
import json
import socket
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..payloads.decoding import finite, loads, written
from .job_decoding import FIRST, FIRST_PROTOCOL, headers_of, is_first, parse_time

SHOWN_CHARS: Final = 1024  # Celery's own limit for argsrepr
PIDBOX: Final = "celery.pidbox"
NO_FOLLOWERS: Final = b'{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'
_ORIGIN = f"queuedeck@{socket.gethostname()}"
_OURS = uuid.UUID("6f1b8a1e-0c0b-5c3d-9a51-1f1c53a6f0d2")


def new_id() -> str:
    """Return an id for a new task."""
    return str(uuid.uuid4())


def successor_id(task_id: str, version: str | None) -> str:
    """Return the id under which a revoked task runs again; every call returns the same one."""
    return str(uuid.uuid5(_OURS, repr((task_id, version))))


def call_body(args: bytes, kwargs: bytes, followers: bytes = NO_FOLLOWERS) -> bytes:
    """Return a message body built from JSON texts, which are kept byte for byte."""
    return b"[" + args + b", " + kwargs + b", " + followers + b"]"


def call(
    task: str,
    task_id: str,
    queue: str,
    args: bytes,
    kwargs: bytes,
    *,
    retries: int = 0,
    group: str | None = None,
    parent: str | None = None,
) -> bytes:
    """Return a new message that calls a task; `args` and `kwargs` are JSON texts."""
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": group,
        "group_index": None,
        "retries": retries,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": parent,
        "argsrepr": args[: SHOWN_CHARS * 4].decode("utf-8", "replace")[:SHOWN_CHARS],
        "kwargsrepr": kwargs[: SHOWN_CHARS * 4].decode("utf-8", "replace")[:SHOWN_CHARS],
        "origin": _ORIGIN,
        "ignore_result": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    return _envelope(call_body(args, kwargs), headers, queue, {"correlation_id": task_id, "reply_to": ""}, exchange="")


def broadcast(
    method: str, arguments: Mapping[str, Any], destination: Sequence[str] | None = None, **reply: Any
) -> bytes:
    """Return a control command for all workers, or for those in `destination`; `reply` says where they answer."""
    command = {
        "method": method,
        "arguments": arguments,
        "destination": destination,
        "pattern": None,
        "matcher": None,
        **reply,
    }
    # The command does not expire, because the machines' clocks may differ.
    headers = {"clock": 1, "expires": 0}
    return _envelope(json.dumps(command).encode(), headers, "", {}, exchange=PIDBOX)


def channel(prefix: str, database: int) -> str:
    """Return the channel on which the workers of a prefix and database listen for broadcasts."""
    return f"{prefix}/{database}.{PIDBOX}"


def _envelope(
    body: bytes, headers: Mapping[str, Any], routing_key: str, properties: Mapping[str, Any], *, exchange: str
) -> bytes:
    return json.dumps(
        {
            "body": base64.b64encode(body).decode("ascii"),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                **properties,
                "delivery_mode": 2,
                "delivery_info": {"exchange": exchange, "routing_key": routing_key},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()


def moved(message: Mapping[str, Any], queue: str) -> bytes:
    """Return the message addressed to another queue; otherwise a redelivery would move it back."""
    properties = _properties(message)
    info = {**_mapping(properties.get("delivery_info")), "exchange": "", "routing_key": queue}
    return _dumps({**message, "properties": {**properties, "delivery_info": info}})


def due_now(message: Mapping[str, Any]) -> bytes | None:
    """Return the message without its ETA; None if the ETA is in a body that is not JSON."""
    if is_first(headers_of(message)):
        content = _first_content(message)
        return None if content is None else _dumps(_with_body(message, {**content, "eta": None}))
    return _dumps({**message, "headers": {**headers_of(message), "eta": None}})


def copied(
    message: Mapping[str, Any],
    task_id: str,
    queue: str,
    texts: tuple[bytes, bytes] | None = None,
    *,
    begun_at: float | None = None,
) -> bytes | None:
    """Return a new task with the same content that can run immediately, or with other args and kwargs, as JSON texts.

    Returns None if the body would have to change and is not JSON. With `begun_at`, in seconds since 1970, the copy is
    an independent job: its attempt count is reset, and an expiry that has passed by then is dropped, because no worker
    would run it otherwise. Without `begun_at`, it is the same request again.
    """
    if is_first(headers_of(message)):
        return _first_copied(message, task_id, queue, texts, begun_at)
    body = None
    if texts is not None:
        following = followers(message)
        if following is None:
            return None
        body = call_body(*texts, json.dumps(following).encode())
    old = headers_of(message)
    headers = {**old, "id": task_id, "eta": None} | _anew(old, begun_at)
    headers.pop("redelivered", None)
    if old.get("root_id") == old.get("id"):
        headers["root_id"] = task_id
    if old.get("parent_id") == old.get("id"):
        headers["parent_id"] = None
    changed: dict[str, Any] = {}
    if body is not None:
        changed["body"] = base64.b64encode(body).decode("ascii")
        headers |= {"argsrepr": "", "kwargsrepr": ""}
    properties = {
        **_properties(message),
        "correlation_id": task_id,
        "delivery_tag": str(uuid.uuid4()),
        "delivery_info": {"exchange": "", "routing_key": queue},
    }
    return _dumps({**message, **changed, "headers": headers, "properties": properties})


def _anew(call: Mapping[str, Any], begun_at: float | None) -> dict[str, Any]:
    """Return the changes to the headers (protocol 1: the body) of a call that starts over."""
    if begun_at is None:
        return {}
    return {"retries": 0} | ({"expires": None} if _has_expired(call.get("expires"), begun_at) else {})


def _has_expired(expires: Any, now: float) -> bool:
    """Decide as Celery does: `expires` is a time as text, in UTC if it has no zone, or seconds since 1970."""
    at = parse_time(expires)
    if at is not None:
        return at.timestamp() < now
    seconds = finite(expires)
    return seconds is not None and seconds < now


def _first_copied(
    message: Mapping[str, Any],
    task_id: str,
    queue: str,
    texts: tuple[bytes, bytes] | None,
    begun_at: float | None,
) -> bytes | None:
    content = _first_content(message)
    if content is None:
        return None
    content |= {"id": task_id, "eta": None} | _anew(content, begun_at)
    if texts is not None:
        args, kwargs = (loads(text, exact=True, limit=len(text)) for text in texts)
        content |= {"args": args, "kwargs": kwargs}
    properties = {
        **_properties(message),
        "correlation_id": task_id,
        "delivery_tag": str(uuid.uuid4()),
        "delivery_info": {"exchange": "", "routing_key": queue},
    }
    changed = _with_body(message, content)
    headers = {name: value for name, value in headers_of(message).items() if name != "redelivered"}
    return _dumps({**changed, "headers": headers, "properties": properties})


def _first_content(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the body of a protocol 1 message, with each number as a Number; None if it is not JSON."""
    raw = message.get("body")
    if not isinstance(raw, str) or message.get("content-type") != "application/json":
        return None
    try:
        data = base64.b64decode(raw, validate=True) if _properties(message).get("body_encoding") else raw.encode()
        content = loads(data, exact=True)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _with_body(message: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    text = written(content)
    encoded = bool(_properties(message).get("body_encoding"))
    return {**message, "body": base64.b64encode(text.encode()).decode("ascii") if encoded else text}


def followers(message: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what a message wants run after it (callbacks, chain, chord); None if its body cannot be read."""
    raw = message.get("body")
    if not isinstance(raw, str) or message.get("content-type") != "application/json":
        return None
    if headers_of(message).get("compression"):
        return None
    try:
        data = base64.b64decode(raw, validate=True) if _properties(message).get("body_encoding") else raw.encode()
        body = loads(data)
    except ValueError:
        return None
    if isinstance(body, list) and len(body) == 3 and isinstance(body[2], dict):
        return body[2]
    return None


def in_a_chord(message: Mapping[str, Any]) -> bool:
    """Whether other tasks wait for this exact task: a copy under another id would not count, or count twice."""
    if headers_of(message).get("group"):
        return True
    if is_first(headers_of(message)):
        return bool((_first_content(message) or {}).get("chord"))
    following = followers(message)
    return following is not None and bool(following.get("chord"))


def _properties(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(message.get("properties"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dumps(message: Mapping[str, Any]) -> bytes:
    headers = headers_of(message)
    if is_first(headers):
        # Workers treat a message with `task` among its headers as protocol 2.
        ours = {*FIRST, "group", "argsrepr", "kwargsrepr", FIRST_PROTOCOL}
        message = {**message, "headers": {name: value for name, value in headers.items() if name not in ours}}
    return json.dumps(message).encode("utf-8", "surrogatepass")
