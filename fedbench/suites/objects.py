"""A suite that is given in Python: its objects become what a YAML file has in their place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from inspect import isclass, isfunction, ismodule
from pathlib import Path
from typing import Any

from fedbench.components import KINDS, built_in_names
from fedbench.util.errors import SuiteError
from fedbench.util.imports import file_digest, import_file


def plain(value: Any) -> Any:
    """The same in mappings, lists, text, numbers and null.

    Sequences, arrays and numbers of NumPy become lists and numbers, and paths become text. A class, function or module
    becomes the name by which it is found, an instance of a dataclass that name with its fields as options.

    Raises
    ------
    SuiteError
        If the source of such an object cannot be known.
    """
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if isclass(value) or isfunction(value) or ismodule(value):
        return _reference(value)
    if is_dataclass(value):
        options = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        return {"use": _reference(type(value)), **options}
    return value.tolist() if hasattr(value, "tolist") else value  # of NumPy, PyTorch or pandas


def _reference(part: Any) -> str:
    """The name by which a class, function or module is found again, together with its source."""
    module = part if ismodule(part) else sys.modules[part.__module__]
    name = "" if ismodule(part) else part.__qualname__
    colon = f":{name}" if name else ""
    for kind in KINDS:
        for built_in, target in built_in_names(kind).items():
            if target == f"{module.__name__}{colon}":
                return built_in
    file = Path(getattr(module, "__file__", None) or "")
    if file.suffix != ".py":
        raise SuiteError(
            f"{name or module.__name__} was not read from a Python file, so its source cannot be known: save it in a "
            f"file and name that, as in ./my_parts.py{colon}"
        )
    if name and getattr(module, name, None) is not part:
        raise SuiteError(
            f"{name} of {file} cannot be found by that name: define it at the top level of the file, without a "
            "decorator or wrapper that replaces it"
        )
    if "." in module.__name__ or hasattr(module, "__path__"):
        return f"{module.__name__}{colon}"
    here = file.absolute()
    if module.__name__ == "__main__":
        import_file(here, file_digest(here))  # now, so that a script which would run the suite again says so
    return f"{f'./{here.relative_to(Path.cwd()).as_posix()}' if here.is_relative_to(Path.cwd()) else here}{colon}"
