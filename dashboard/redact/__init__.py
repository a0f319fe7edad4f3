"""Hiding secrets in everything that leaves Redis for people: pages, JSON, search, alerts and logs.

A secret is known by its name (`password=…`, `"api_key": …`) or by its shape (a JSON web token, `ghp_…`). Whoever can
enqueue a job chooses the text, so all of this is linear in its length: no run that can begin at many places is read
again from each of them (possessive quantifiers, starts that a run cannot contain, bounded names), and what was looked
through for the end of a value is masked and passed over.
"""

from __future__ import annotations

from .log import masked_logger
from .mask import MASK
from .names import hidden_keys, is_hidden, is_list_of_pairs, is_secret_name
from .text import mask_text

__all__ = ["MASK", "hidden_keys", "is_hidden", "is_list_of_pairs", "is_secret_name", "mask_text", "masked_logger"]
