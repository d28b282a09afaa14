"""Which kernels this process computes with: the library of the processor's variant, or PyTorch."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fedbench.kernels.build import TARGETS, build, is_fresh, library_file, own_target
from fedbench.util.environment import processor_flags
from fedbench.util.errors import FedbenchError, one_line

logger = logging.getLogger("fedbench")

VARIABLE = "FEDBENCH_KERNELS"
PYTORCH = "torch"
V3 = {"abm", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}  # as Linux calls what the x86-64 levels need
LEVELS = {"x86-64-v3": V3, "x86-64-v4": V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}}

_pointer, _int64, _float, _double = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_double
_SIGNATURES: dict[str, tuple[object, list[object]]] = {  # results and arguments of the functions of kernels.c
    "num_parameters": (_int64, [_pointer]),
    "memory_bytes": (_int64, [_pointer, _int64]),
    "update": (_double, [*[_pointer] * 6, *[_int64] * 3, _float, _float, *[_pointer] * 3]),
    "gradient": (_double, [*[_pointer] * 6, _int64, _pointer]),
    "evaluate": (_double, [*[_pointer] * 5, _int64, _pointer]),
    "add_scaled": (None, [_pointer, _pointer, _double, _int64]),
    "squared_distance": (_double, [_pointer, _pointer, _int64]),
}


@dataclass(frozen=True)
class Choice:
    """What computes the built-in models here.

    Attributes
    ----------
    name
        The variant of the kernels, or ``torch``.
    library
        The library; None for PyTorch.
    reason
        Why it is this one.
    """

    name: str
    library: ctypes.CDLL | None
    reason: str


@cache
def choice() -> Choice:
    """What computes here: what FEDBENCH_KERNELS says, or else the fastest variant that the processor can.

    Raises
    ------
    FedbenchError
        If FEDBENCH_KERNELS names what does not exist, or does not work here.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == PYTORCH:
        return Choice(PYTORCH, None, f"{VARIABLE} says so")
    able = usable_variants()
    if wanted and wanted not in able:
        raise FedbenchError(f"{VARIABLE} is {wanted!r}: here it can be {' or '.join([*able, PYTORCH])}")
    if not able:
        return Choice(PYTORCH, None, f"there are no kernels for {own_target()} with this processor")
    name = wanted or able[-1]
    try:
        return Choice(name, load(name), f"{VARIABLE} says so" if wanted else "the fastest that this processor can")
    except FedbenchError as error:
        if wanted:
            raise
        if multiprocessing.parent_process() is None:  # the command's own, once
            logger.warning("fedbench: PyTorch computes the built-in models, with other last bits: %s", error)
        return Choice(PYTORCH, None, str(error))


def usable_variants() -> list[str]:
    """The variants that this processor can compute, the fastest last."""
    variants = TARGETS.get(own_target(), {})
    return [name for name in variants if LEVELS.get(name, set()) <= processor_flags()]


def load(variant: str) -> ctypes.CDLL:
    """The library of a variant, which is compiled first where it is missing or belongs to another source.

    Raises
    ------
    FedbenchError
        If it cannot be compiled or used.
    """
    file = library_file(variant)
    if not is_fresh(file):
        _compile(variant, file)
    try:
        library = ctypes.CDLL(str(file))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise FedbenchError(f"{file} cannot be used ({one_line(error)}): remove it, then try again") from None
    return library


def _compile(variant: str, file: Path) -> None:
    if find_spec("ziglang") is None:
        raise FedbenchError(f"{file} is missing or not of this kernels.c: pip install ziglang, which compiles it")
    sys.stderr.write(f"Compiling the kernels ({variant})\n")
    try:
        build(own_target(), file.parent, variant)
    except (OSError, RuntimeError) as error:
        raise FedbenchError(f"the kernels cannot be compiled: {error}") from None
