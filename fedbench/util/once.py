"""Warnings that are given once, however often what they are about is read."""

from __future__ import annotations

import logging
from weakref import WeakKeyDictionary

logger = logging.getLogger("fedbench")

_said: WeakKeyDictionary[object, set[str]] = WeakKeyDictionary()


def warn_once(source: object, text: str) -> None:
    """Give a warning, unless it was given before about what was read from `source`, such as a client of a store."""
    said = _said.setdefault(source, set())
    if text not in said:
        said.add(text)
        logger.warning("fedbench: %s", text)
