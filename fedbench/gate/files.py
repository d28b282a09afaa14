"""Files that are committed with the code: sorted JSON with a checksum that detects edits by hand.

The checksum is no protection. It keeps a number that was edited or merged by hand from passing for a measured one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from fedbench.util.errors import BaselineError, one_line
from fedbench.util.files import plain_errors, regular, replacing
from fedbench.util.frozen import Frozen

FORMAT = 1  # of all these files
LARGEST = 200_000_000  # bytes: a baseline of a run takes some thousand
LINE = 400  # a value with fewer characters is written on one line

F = TypeVar("F", bound=Frozen)


class Update(Frozen):
    """One version of a file: its commit, its day (UTC), and the reason for the change."""

    commit: str
    date: str
    reason: str


def require_reason(path: Path, reason: str | None) -> None:
    """Refuse to change an existing file without a reason, with a `BaselineError`."""
    if path.exists() and not reason:
        raise BaselineError(f"{path} exists: say why it changes with --reason TEXT, which is kept in it")


def read_stored(path: Path, kind: type[F], command: str) -> F:
    """Read a file of `write_stored`; `command` makes it, for error messages: ``fedbench baseline quickstart``.

    Raises `BaselineError` if it is missing, unreadable, of another kind or format, or was changed by hand.
    """
    restore = f"restore it, or delete it and recreate it with: {command}"
    try:
        content = json.loads(regular(path, LARGEST).read_bytes())
    except FileNotFoundError:
        raise BaselineError(f"there is no {path}: make it with {command}") from None
    except OSError as error:
        raise BaselineError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise BaselineError(f"{path} is not JSON: {restore}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise BaselineError(f"{path} is no baseline: {restore}")
    if content["format"] != FORMAT:
        raise BaselineError(f"{path} has format {content['format']!r:.20}, this fedbench reads {FORMAT}: {restore}")
    checksum = content.pop("checksum", None)
    try:
        stored = kind.model_validate_json(json.dumps(content))
    except ValueError as error:  # includes pydantic's
        raise BaselineError(f"{path}: {_first_fault(error)}: {restore}") from None
    if checksum != _checksum(content):
        raise BaselineError(f"{path} was changed by hand (its checksum): {restore}")
    return stored


def _first_fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return one_line(error)
    first = error.errors()[0]
    said = first.get("ctx", {}).get("error", first["msg"])  # pydantic's own text begins with the kind of error
    return " ".join(f"{'.'.join(map(str, first['loc']))}: {said}".split())[:300]


def write_stored(path: Path, stored: Frozen) -> None:
    """Write a file atomically; short values take one line each, so that a change can be reviewed.

    Raises `DataError` if it cannot be written.
    """
    content = stored.model_dump(mode="json")
    content["checksum"] = _checksum(content)
    with plain_errors(f"cannot write {path}"), replacing(path) as file:
        file.write((_laid_out(content) + "\n").encode())


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _laid_out(value: Any, indent: str = "") -> str:
    """JSON with sorted keys, short values on one line."""
    line = json.dumps(value, sort_keys=True, allow_nan=False)
    if (len(line) <= LINE and indent) or not isinstance(value, dict | list) or not value:
        return line
    deeper = indent + " "
    if isinstance(value, dict):
        parts = [f"{deeper}{json.dumps(key)}: {_laid_out(value[key], deeper)}" for key in sorted(value)]
    else:
        parts = [deeper + _laid_out(each, deeper) for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(parts) + f"\n{indent}{closing}"
