"""Masks secrets in everything read from Redis that users see: pages, JSON, search, alerts and logs.

A secret is recognized by its name (`password=…`, `"api_key": …`) or by its shape (a JSON web token, `ghp_…`). The
settings add names and patterns, and names to show (`rules.py`).

Anyone who can enqueue a job controls the text, so masking takes linear time: no run that can begin at many positions
is read again from each of them (possessive quantifiers, starts that a run cannot contain, bounded names), and text that
was searched for the end of a value is masked and skipped.
"""

from __future__ import annotations

from .host_hook import NAME as HOOK_NAME
from .host_hook import RedactHook, load_hook, name_hook
from .log import masked_logger
from .names import hidden_keys, is_hidden, is_list_of_pairs, is_secret_name
from .placeholder import MASK
from .revealing import is_revealing, masks_lifted
from .rules import RedactionRules, configure, masking_cache
from .text import LONGEST_WORD, is_hidden_number, mask_text, without_cut_line, without_cut_word
from .value_patterns import InvalidPattern, check_pattern

__all__ = [
    "HOOK_NAME",
    "LONGEST_WORD",
    "MASK",
    "InvalidPattern",
    "RedactHook",
    "RedactionRules",
    "check_pattern",
    "configure",
    "hidden_keys",
    "is_hidden",
    "is_hidden_number",
    "is_list_of_pairs",
    "is_revealing",
    "is_secret_name",
    "load_hook",
    "mask_text",
    "masked_logger",
    "masking_cache",
    "masks_lifted",
    "name_hook",
    "without_cut_line",
    "without_cut_word",
]
