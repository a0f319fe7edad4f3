"""A fragment as it is sent."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass

GZIP_LEVEL = 4
GZIP_FROM_BYTES = 1024


@dataclass(frozen=True, slots=True)
class RenderedFragment:
    """The bytes of a fragment, the same compressed, and a tag of its content."""

    tag: str
    body: bytes
    zipped: bytes


def encode_fragment(html: str) -> RenderedFragment:
    """The fragment with this HTML."""
    body = html.encode("utf-8", "backslashreplace")
    tag = hashlib.blake2b(body, digest_size=9).hexdigest()
    return RenderedFragment(tag, body, gzip.compress(body, GZIP_LEVEL, mtime=0))
