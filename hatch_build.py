"""Compiles the kernels into the wheel, or next to the source for an editable installation.

``FEDBENCH_BUILD_TARGET`` chooses another target than this machine's, or ``none``. Where no kernels can be compiled, the
wheel has none, and PyTorch computes.
"""

from __future__ import annotations

import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "FEDBENCH_BUILD_TARGET"
PLATFORMS = {
    "linux-x86_64": "manylinux_2_17_x86_64",
    "linux-aarch64": "manylinux_2_17_aarch64",
    "macos-arm64": "macosx_11_0_arm64",
}


class KernelsHook(BuildHookInterface[Any]):
    """Adds the libraries to what the wheel contains, and the platform to its name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects the files."""
        package = Path(self.root, "fedbench", "kernels")
        kernels = runpy.run_path(str(package / "build.py"))  # not imported: that would need fedbench's dependencies
        wanted = os.environ.get(VARIABLE, "")
        if wanted not in ("", "none", *PLATFORMS):
            raise ValueError(f"{VARIABLE} is {wanted!r}: it can be {', '.join(PLATFORMS)} or none")
        target = wanted or kernels["own_target"]()
        if target not in PLATFORMS:
            if not wanted:
                self.app.display_warning(f"the wheel has no kernels: there are none for {target}")
            return
        self._temporary = tempfile.TemporaryDirectory()
        try:
            libraries = kernels["build"](target, package if version == "editable" else Path(self._temporary.name))
        except (OSError, RuntimeError) as error:
            if wanted:
                raise
            self.app.display_warning(f"the wheel has no kernels: they cannot be compiled: {error}")
            return
        if version != "editable":
            build_data["force_include"] |= {str(each): f"fedbench/kernels/{each.name}" for each in libraries}
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{PLATFORMS[target]}"
