"""What NumPy-style docstrings say."""

from __future__ import annotations

import inspect
import re
from typing import Any

SECTION = r"^(\w[\w ]*)\n-{3,}\n"  # a heading
ITEM = r"^(\S[^:\n]*).*\n((?:[ \t]+.*(?:\n|\Z)|\n)+)"  # a parameter or attribute, or several, and the lines about it


def paragraphs(text: str | None) -> list[str]:
    """A docstring's paragraphs before its first section, each on one line."""
    before = re.split(SECTION, inspect.cleandoc(text or ""), maxsplit=1, flags=re.MULTILINE)[0]
    return [" ".join(paragraph.split()) for paragraph in before.split("\n\n") if paragraph.strip()]


def meanings(part: Any) -> dict[str, str]:
    """What the docstring of a class or function, or of the class's bases, says of each parameter or attribute."""
    found: dict[str, str] = {}
    for each in reversed(part.__mro__) if inspect.isclass(part) else [part]:
        _, *parts = re.split(SECTION, inspect.cleandoc(each.__doc__ or ""), flags=re.MULTILINE)
        for heading, body in zip(parts[::2], parts[1::2], strict=True):
            if heading in ("Parameters", "Attributes"):
                for item in re.finditer(ITEM, body, re.MULTILINE):
                    found |= dict.fromkeys(re.split(r", *", item[1].strip()), " ".join(item[2].split()))
    return found
