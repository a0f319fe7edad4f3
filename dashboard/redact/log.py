"""Loggers whose lines can contain text from Redis."""

from __future__ import annotations

import logging
import traceback

from .text import always_masked


class _Masking(logging.Filter):
    """Masks a log line and its traceback, whatever handlers the host application configures."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: no line is dropped."""
        record.msg, record.args = _loggable(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            record.exc_text = _loggable("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return True


def _loggable(text: str) -> str:
    """Return `text` masked and safe for every handler: no encoding can write half a surrogate pair."""
    return always_masked(text).encode("utf-8", "backslashreplace").decode()


_MASKING = _Masking()


def masked_logger(name: str) -> logging.Logger:
    """Return the logger with this name, with text from Redis masked in every line and traceback."""
    log = logging.getLogger(name)
    log.addFilter(_MASKING)  # once: the same filter is not added twice
    return log
