"""How deeply JSON nests, without decoding it. Pure.

Decoders recurse for each level. At the limit of the interpreter they raise RecursionError, and until then nothing else
works in that thread: a garbage collection at that moment cannot run finalizers, and sockets stay open.
"""

from __future__ import annotations

import re
from array import array
from itertools import accumulate

# Far more than any job has, and far below the interpreter's 1000, of which the caller has used some.
MAX_NESTING = 250
# Also a string without an end, so that no part of the text is searched twice.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_STEPS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]+|[\]}]+', re.DOTALL)
_OTHERS = bytes(sorted(set(range(256)) - set(b"[]{}")))
# As signed bytes, what each bracket adds to the depth.
_CHANGES = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def is_too_deep(raw: bytes) -> bool:
    """Whether a JSON text nests deeper than MAX_NESTING levels. Time: linear; two counts for most texts.

    Of a text that is no JSON: whether it does before a decoder sees that.
    """
    if raw.count(b"[") + raw.count(b"{") <= MAX_NESTING:
        return False
    changes = array("b", _STRINGS.sub(b"", raw).translate(_CHANGES, _OTHERS))
    return max(accumulate(changes), default=0) > MAX_NESTING


def shallow_part(raw: bytes) -> bytes:
    """The text up to where it nests deeper than MAX_NESTING levels, for what reads as much of it as it can."""
    if not is_too_deep(raw):
        return raw
    depth = 0
    for step in _STEPS.finditer(raw):
        if raw[step.start()] in b"[{":
            depth += step.end() - step.start()
            if depth > MAX_NESTING:
                return raw[: step.end() - (depth - MAX_NESTING)]
        elif raw[step.start()] in b"]}":
            depth -= step.end() - step.start()
    return raw
