"""Which kernels are chosen, and that whatever is wrong with them ends in PyTorch with a reason, or in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedbench.kernels import build, loading
from fedbench.kernels.build import TARGETS, is_fresh, own_target
from fedbench.kernels.loading import LEVELS, Choice, choice
from fedbench.util import environment
from fedbench.util.errors import FedbenchError

PACKAGE = Path(build.__file__).parents[1]
x86_64 = pytest.mark.skipif(own_target() != "linux-x86_64", reason="the variants are those of Linux on x86-64")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of libraries, and no variable that chooses."""
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    monkeypatch.delenv(loading.VARIABLE, raising=False)
    return tmp_path


def chosen() -> Choice:
    """The choice, made anew."""
    return choice.__wrapped__()


def processor(monkeypatch: pytest.MonkeyPatch, folder: Path, flags: set[str]) -> None:
    """Let the system say that its processor has these flags."""
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text(f"processor: 0\nflags: {' '.join(sorted(flags))}\n")
    monkeypatch.setattr(environment, "CPUINFO", cpuinfo)


@pytest.mark.usefixtures("folder")
def test_the_variable_leaves_the_kernels_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDBENCH_KERNELS", "torch")
    assert Choice("torch", None, "FEDBENCH_KERNELS says so") == chosen()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["sparc", "../x86-64-v3", "torch "])
def test_a_variable_that_names_no_kernels_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDBENCH_KERNELS", name)
    with pytest.raises(FedbenchError, match=f"^FEDBENCH_KERNELS is '{name}': here it can be .*torch$"):
        chosen()


@x86_64
@pytest.mark.parametrize("missing", ["avx2", "bmi2", "fma"])
def test_a_processor_without_all_of_x86_64_v3_computes_with_pytorch(
    missing: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, folder, LEVELS["x86-64-v4"] - {missing})
    assert Choice("torch", None, "there are no kernels for linux-x86_64 with this processor") == chosen()
    monkeypatch.setenv("FEDBENCH_KERNELS", "x86-64-v3")
    with pytest.raises(FedbenchError, match=r"^FEDBENCH_KERNELS is 'x86-64-v3': here it can be torch$"):
        chosen()


@x86_64
def test_the_fastest_that_the_processor_can_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load", lambda name: f"library of {name}")
    processor(monkeypatch, folder, LEVELS["x86-64-v4"] | {"sse2"})
    assert "library of x86-64-v4" == chosen().library
    processor(monkeypatch, folder, LEVELS["x86-64-v4"] - {"avx512vl"})
    assert "library of x86-64-v3" == chosen().library


def test_without_a_library_and_a_compiler_pytorch_computes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", {}.get)
    name = next(iter(TARGETS[own_target()]))
    reason = rf"^{folder}/.*\.so is missing or not of this kernels\.c: pip install ziglang, which compiles it$"
    with pytest.raises(FedbenchError, match=reason):
        loading.load(name)
    assert ("torch", None) == (chosen().name, chosen().library)


def test_a_folder_that_cannot_be_written_gives_the_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "FOLDER", folder / "missing")
    found = chosen()
    assert "torch" == found.name
    assert found.reason.startswith("the kernels cannot be compiled: [Errno 2] No such file or directory: ")
    assert 1 == len(capsys.readouterr().err.splitlines())


def test_a_source_that_does_not_compile_gives_the_compilers_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "kernels.c").write_text("int broken(void) { return }\n")
    monkeypatch.setattr(build, "SOURCE", folder / "kernels.c")
    assert "kernels.c:1:27: error: expected expression" in chosen().reason
    assert ["kernels.c"] == [path.name for path in folder.iterdir()]


def test_a_library_that_is_not_whole_or_of_another_source_is_not_fresh(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = choice()
    if found.library is None:
        pytest.skip(found.reason)
    whole = (PACKAGE / f"kernels/{found.name}.so").read_bytes()
    library = folder / "library.so"
    for content, expected in ((whole, True), (b"", False), (whole[: len(whole) * 9 // 10], False)):
        library.write_bytes(content)
        assert expected == is_fresh(library)
    assert not is_fresh(folder)
    assert not is_fresh(folder / "missing.so")
    library.write_bytes(whole)
    monkeypatch.setattr(build, "FLAGS", [*build.FLAGS, "-O2"])
    assert not is_fresh(library)


def test_a_library_that_cannot_be_loaded_is_one_line(folder: Path) -> None:
    (folder / "x86-64-v3.so").write_bytes(b"no library, but " + build.source_digest().encode())
    with pytest.raises(FedbenchError, match=r"x86-64-v3\.so cannot be used \(.*\): remove it, then try again$"):
        loading.load("x86-64-v3")


@pytest.mark.slow
@pytest.mark.nightly
def test_a_tree_without_libraries_compiles_one_also_for_two_processes_at_once(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "fedbench", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    command = [sys.executable, "-c", "from fedbench.kernels.loading import choice; print(choice().reason)"]
    settings = {name: value for name, value in os.environ.items() if name != loading.VARIABLE}
    settings["PYTHONPATH"] = str(tmp_path)

    def start() -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=tmp_path, env=settings, text=True, **pipes)  # type: ignore[call-overload]

    both = [each.communicate(timeout=120) for each in [start(), start()]]
    assert {"the fastest that this processor can\n"} == {out for out, _ in both}
    assert {"Compiling the kernels"} == {error.partition(" (")[0] for _, error in both}
    assert 1 == len(list((tmp_path / "fedbench/kernels").glob("*.so")))
    out, error = start().communicate(timeout=120)
    assert ("the fastest that this processor can\n", "") == (out, error)
    with (tmp_path / "fedbench/kernels/kernels.c").open("a") as source:
        source.write("/* edited */\n")
    assert "Compiling" in start().communicate(timeout=120)[1]
