"""The base of channels that post a JSON document to one URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..transport.deadline import Deadline
from ..transport.http import HTTPAnswer, HTTPTransport
from ..transport.redaction import Scrubber
from .base import Channel, DeliveryResult
from .config import ChannelSettings, Endpoint


class HTTPChannelSettings(ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a channel reached over HTTP."""

    ca_file: str | None = None  # PEM file of trusted certificate authorities; default: those of the system

    def find_problem(self, *, allow_private: bool) -> str | None:
        if self.ca_file is not None and not Path(self.ca_file).is_file():
            return "ca_file: expected a readable file"
        return super().find_problem(allow_private=allow_private)


class HTTPChannel(Channel):
    """A channel with one HTTPTransport."""

    def __init__(self, settings: HTTPChannelSettings, endpoint: Endpoint, *, allow_private: bool) -> None:
        super().__init__(settings)
        self.scrubber = Scrubber(settings.secret_texts())
        self.transport = HTTPTransport(endpoint, self.scrubber, allow_private=allow_private, ca_file=settings.ca_file)

    def post_json(
        self, document: Any, deadline: Deadline, headers: Mapping[str, str] | None = None
    ) -> tuple[HTTPAnswer | DeliveryResult, DeliveryResult]:
        """Post a JSON document: the response, and the result that its status alone implies."""
        sent = {"Content-Type": "application/json; charset=utf-8", **(headers or {})}
        answer = self.transport.post(msgspec.json.encode(document), sent, deadline)
        return answer, self.transport.result_from_answer(answer)
