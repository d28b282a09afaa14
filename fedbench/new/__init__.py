"""Writes a part of one's own with its suite, from the files in ``templates``: each works as it is."""

from __future__ import annotations

import ast
import builtins
import keyword
import os
import re
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from fedbench.components import KINDS
from fedbench.util.errors import SuiteError
from fedbench.util.files import plain_errors
from fedbench.util.locks import put_new
from fedbench.util.text import show, unknown

SUITE = "suite"
WHAT = (*KINDS, SUITE)
TEMPLATES = Path(__file__).parent / "templates"


def write_new(kind: str, name: str, folder: Path | None = None) -> list[Path]:
    """Write a part and a suite that runs it, or a suite alone; both files or none, and never over another.

    Parameters
    ----------
    kind
        One of `WHAT`.
    name
        Letters, digits, ``-`` and ``_``, such as ``my_net``: then the files are ``my_net.py`` and ``my_net.yaml``, and
        a class in it is ``MyNet``.
    folder
        Where; the working directory if None.

    Returns
    -------
    list of Path
        The files, the suite last.

    Raises
    ------
    SuiteError
        For an unknown kind, a name that cannot be that of a module, or a file that is there.
    DataError
        If the folder cannot be written.
    """
    if kind not in WHAT:
        raise SuiteError(unknown("kind", kind, WHAT))
    here = folder or Path()
    stem = _file_name(name)
    templates = [path for path in (TEMPLATES / f"{kind}.py", TEMPLATES / f"{kind}.yaml") if path.exists()]
    files = {here / f"{stem}{path.suffix}": path.read_text(encoding="utf-8") for path in templates}
    for path in files:
        if os.path.lexists(path):
            raise SuiteError(f"{path} is there already; choose another name, or move it away")
    for path, text in files.items():
        if path.suffix == ".py":
            _require_free(stem, text)
    class_name = "".join(word.capitalize() for word in stem.split("_"))
    old = f"my_{kind}", f"My{kind.capitalize()}"
    written = {path: text.replace(old[0], stem).replace(old[1], class_name) for path, text in files.items()}
    with plain_errors(f"{here.absolute()} cannot be written"):
        _create(written, here)
    return list(written)


def _file_name(name: str) -> str:
    """``my_net`` for ``my-net`` and ``MyNet``."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*", name) or len(name) > 60:
        raise SuiteError(
            f"NAME is {show(name)}; it must be up to 60 letters, digits, '-' or '_', such as my_net, a letter first"
        )
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.replace("-", "_")).lower()


def _require_free(name: str, text: str) -> None:
    """Refuse a name that Python, an installed module or the template itself has."""
    imported = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    used = {alias.asname or alias.name for node in imported for alias in node.names}
    if keyword.iskeyword(name) or hasattr(builtins, name) or name in used or find_spec(name):
        raise SuiteError(f"NAME is {name}, which Python or an installed module is called; choose another")


def _create(files: dict[Path, str], folder: Path) -> None:
    """Create files with these texts, all or none."""
    done: list[Path] = []
    with TemporaryDirectory(dir=folder, prefix=".new-") as temporary:
        try:
            for path, text in files.items():
                whole = Path(temporary) / path.name
                whole.write_text(text, encoding="utf-8")
                put_new(whole, path)
                done.append(path)
        except BaseException:
            for path in done:
                path.unlink(missing_ok=True)
            raise
