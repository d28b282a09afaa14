"""Python files and packages that are named by a user: their digests, and importing them."""

from __future__ import annotations

import hashlib
import sys
import traceback
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from fedbench.util.errors import SuiteError
from fedbench.util.files import regular
from fedbench.util.text import one_line

LARGEST_SOURCE = 10_000_000  # bytes of a Python file

_in_execution: list[Path] = []
_sources: dict[str, bytes] = {}  # of a user's files, by digest: what was read is what is executed, here and elsewhere


def _read(path: Path) -> bytes:
    try:
        return regular(path, LARGEST_SOURCE).read_bytes()
    except FileNotFoundError:
        raise SuiteError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise SuiteError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _normalised(path: Path) -> tuple[str, bytes]:
    """The digest and the bytes of a source file, the same for every kind of line ends."""
    source = _read(path).replace(b"\r\n", b"\n")
    return hashlib.sha256(source).hexdigest(), source


def file_digest(path: Path) -> str:
    """SHA-256 of a Python file, whose source is kept: a later change of the file does not matter to this process."""
    digest, source = _normalised(path)
    _sources[digest] = source
    return digest


def has_changed(path: Path, digest: str) -> bool:
    """Whether a file is another one than when `file_digest` read it, or is gone."""
    try:
        return _normalised(path)[0] != digest
    except SuiteError:
        return True


def kept_source(digest: str) -> bytes | None:
    """The source that has a digest, if `file_digest` read it or `keep_source` was given it."""
    return _sources.get(digest)


def keep_source(digest: str, source: bytes) -> None:
    """Take a source that another process read, on a machine that need not have the file."""
    _sources[digest] = source


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
    lines = (f"{place}\0{_normalised(path)[0]}\n" for place, path in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@cache  # looking through all packages for the version takes a third of a second
def module_source(name: str) -> tuple[str, str]:
    """A module's file, as ``package/module.py``, and its text, after a line on the package's version."""
    top, _, _ = name.partition(".")
    spec = find_spec(name)
    path = Path(spec.origin) if spec and spec.origin else None
    place = f"{name.replace('.', '/')}{'/__init__' if spec and spec.submodule_search_locations else ''}.py"
    of = ", ".join(f"{each} {metadata.version(each)}" for each in set(metadata.packages_distributions().get(top, ())))
    text = path.read_text(encoding="utf-8", errors="replace") if path and path.suffix == ".py" else ""
    return place, f"# {of or f'{top} is not installed'}\n{text}"


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
    """Execute a file's kept source as a module of its own; no cache on disk can be stale."""
    source = _sources[digest]
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
        top = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (path.parent / f"{top}.py").exists():
            raise SuiteError(
                f"{path} imports {top}.py next to it, which no run's identity would cover; put both in one file, or in "
                "a package that is installed"
            ) from None
        raise SuiteError(f"{path} cannot be imported: {last_line(error)}") from None
    finally:
        _in_execution.pop()
    return module


def file_in_execution() -> Path | None:
    """The file that `import_file` is executing now."""
    return _in_execution[-1] if _in_execution else None


def last_line(error: BaseException, file: Path | None = None) -> str:
    """An error's own last line, and where it was raised: the last place in `file`, if it came from there."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((each for each in reversed(frames) if each.filename == str(file)), frames[-1])
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return one_line(f"{traceback.format_exception_only(error)[-1].strip()[:300]} ({place})")
