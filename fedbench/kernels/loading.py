"""Which kernels this process computes with: the library of the processor's variant, or PyTorch."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from functools import cache

from fedbench.kernels.build import TARGETS, library_file, own_target, source_digest
from fedbench.util.errors import FedbenchError

VARIABLE = "FEDBENCH_KERNELS"
PYTORCH = "torch"

_pointer, _int64, _float, _double = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_double
_SIGNATURES: dict[str, tuple[object, list[object]]] = {  # results and arguments of the functions of kernels.c
    "source_digest": (ctypes.c_char_p, []),
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
    if wanted:
        if wanted not in able:
            raise FedbenchError(f"{VARIABLE} is {wanted!r}: this processor can {', '.join([*able, PYTORCH])}")
        return Choice(wanted, load(wanted), f"{VARIABLE} says so")
    if not able:
        return Choice(PYTORCH, None, f"there are no kernels for {own_target()} with this processor")
    try:
        return Choice(able[-1], load(able[-1]), "the fastest that this processor can")
    except FedbenchError as error:
        return Choice(PYTORCH, None, str(error))


def usable_variants() -> list[str]:
    """The variants that this processor can compute, the fastest last."""
    import torch

    variants = list(TARGETS.get(own_target(), ()))
    if platform.machine() != "x86_64":
        return variants
    flags = torch.backends.cpu.get_cpu_capability()
    return variants[: {"AVX2": 1, "AVX512": 2}.get(flags, 0)]


def load(variant: str) -> ctypes.CDLL:
    """The library of a variant.

    Raises
    ------
    FedbenchError
        If it was not built, or from another source.
    """
    file = library_file(variant)
    try:
        library = ctypes.CDLL(str(file))
    except OSError:
        raise FedbenchError(f"there is no {file}: the kernels were not built") from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    if library.source_digest().decode() != source_digest():
        raise FedbenchError(f"{file} was built from another kernels.c: build it again")
    return library
