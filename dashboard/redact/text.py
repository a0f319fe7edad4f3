"""Masks the secrets in a text."""

from __future__ import annotations

import re

from .commands import mask_commands
from .shapes import mask_shapes
from .values import mask_named

_ASCII_ESCAPE = re.compile(r"\\u00(2[dD]|3\d|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA])")


def mask_text(text: str) -> str:
    """Return `text` with secrets, recognized by their shape or by the name before them, replaced by MASK.

    Time: linear; about 50 microseconds for a list row of 500 characters, 10 milliseconds for 64 KiB.
    """
    if "\\u00" in text:  # JSON can write any letter of a name as an escape
        text = _ASCII_ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return mask_shapes(mask_named(mask_commands(text)))
