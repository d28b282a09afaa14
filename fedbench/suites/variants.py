"""Variants: a suite with fields set from outside is recorded under a name of its own, so that nothing mixes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from fedbench.util.errors import SuiteError
from fedbench.util.text import show

AT = "@"  # between the names of the suite and the variant
NAME = r"[A-Za-z0-9][A-Za-z0-9._=,+-]{0,59}"


def variant_of(overrides: Mapping[str, Any]) -> str | None:
    """A name for what is set, such as ``learning_rate=0.1,num_clients=2+3``; None if nothing is.

    What a name cannot hold is replaced, and a digest of it all is added.
    """
    if not overrides:
        return None
    text = ",".join(f"{field}={_text(value)}" for field, value in sorted(overrides.items()))
    if re.fullmatch(NAME, text):
        return text
    digest = hashlib.sha256(json.dumps(overrides, sort_keys=True, default=str).encode()).hexdigest()[:6]
    plain = re.sub(r"[^\w.=,+-]+", "_", text, flags=re.ASCII).lstrip("._=,+-")
    return f"{plain[:50] or 'set'}-{digest}"


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_text, value))
    return value if isinstance(value, str) else show(value)


def check_variant(name: object, place: str) -> str:
    """Check a variant's name that a user gave."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        wanted = "up to 60 letters, digits and . _ - = , +, a letter or digit first"
        raise SuiteError(f"{place} is {show(name)}; it must be {wanted}")
    return name


def run_words(suite_name: str) -> tuple[str, ...]:
    """The words of the command that runs a suite, or a variant of one, of which the name does not say what was set."""
    name, is_variant, _ = suite_name.partition(AT)
    return ("run", name, "--set", "FIELD=VALUE") if is_variant else ("run", name)
