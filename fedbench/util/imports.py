"""Python files and packages that are named by a user: their digests, and importing them."""

from __future__ import annotations

import hashlib
import sys
import traceback
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from fedbench.util.errors import SuiteError
from fedbench.util.text import one_line

_in_execution: list[Path] = []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SuiteError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise SuiteError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(_read(path)).hexdigest()


def module_digest(name: str) -> str:
    """SHA-256 of the source of a module, or of its whole package."""
    top, _, _ = name.partition(".")
    try:
        spec = find_spec(top)
    except (ValueError, ImportError):
        spec = None
    if spec is None:
        raise SuiteError(f"there is no module {top}; install it, or name a file as in ./{top}.py")
    roots = [Path(each) for each in spec.submodule_search_locations or ()]
    files = {path.relative_to(root).as_posix(): path for root in roots for path in sorted(root.rglob("*.py"))}
    if not roots and spec.origin:
        files = {Path(spec.origin).name: Path(spec.origin)}
    lines = (f"{place}\0{file_digest(path)}\n" for place, path in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def import_named(name: str) -> ModuleType:
    """Import a module; a `SuiteError` if that fails."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise SuiteError(f"there is no module {name}") from None
        raise SuiteError(f"{name} cannot be imported: {last_line(error)}") from None
    except Exception as error:
        raise SuiteError(f"{name} cannot be imported: {last_line(error)}") from None


@cache
def import_file(path: Path, digest: str) -> ModuleType:
    """Execute a file as a module of its own. Its bytes are those of `digest`, so no cache on disk can be stale."""
    source = _read(path)
    if hashlib.sha256(source).hexdigest() != digest:
        raise SuiteError(f"{path} has changed since the suite was read; run the command again")
    module = ModuleType(f"{path.stem}_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
    _in_execution.append(path)
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - the suite's author names the file
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        if isinstance(error, SuiteError):
            raise
        raise SuiteError(f"{path} cannot be imported: {last_line(error)}") from None
    finally:
        _in_execution.pop()
    return module


def file_in_execution() -> Path | None:
    """The file that `import_file` is executing now."""
    return _in_execution[-1] if _in_execution else None


def last_line(error: BaseException) -> str:
    """An error's own last line, and where it was raised."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return one_line(f"{traceback.format_exception_only(error)[-1].strip()[:300]} ({place})")
