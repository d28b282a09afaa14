"""Every variant of the kernels gives the same bits: a small C program prints a hash of all that they compute."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from needed import needs

from fedbench.kernels import Chain
from fedbench.kernels.build import TARGETS, build, own_target
from fedbench.kernels.loading import LEVELS
from fedbench.models.cnn import CNN
from fedbench.models.simple_cnn import SimpleCNN
from fedbench.models.simple_cnn_ham import SimpleCNNHam
from fedbench.models.two_nn import TwoNN
from fedbench.util.environment import processor_flags

CHECKOUT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("client_update.c")
ARM = Path("/usr/aarch64-linux-gnu")  # of Debian's libc6-arm64-cross
MODELS = [SimpleCNN, SimpleCNNHam, TwoNN, CNN]
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-march=x86-64-v3"]


def linked(library: Path, triple: str) -> Path:
    """The program, with a library."""
    program = library.with_suffix(".program")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, "-O1", str(PROGRAM), str(library)]
    subprocess.run([*command, "-o", str(program)], check=True, capture_output=True)
    return program


def said(*command: object) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr[:2000]
    return done.stdout


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The programs of the variants that this processor can, the fastest last."""
    if own_target() not in TARGETS:
        pytest.skip(f"there are no kernels for {own_target()}")
    variants = TARGETS[own_target()]
    libraries = build(own_target(), tmp_path_factory.mktemp("here"))
    able = [each for each in libraries if LEVELS.get(each.stem, set()) <= processor_flags()]
    return [linked(each, variants[each.stem][0]) for each in able]


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The command of the program with the library of the wheel for aarch64, under an emulator."""
    folder = tmp_path_factory.mktemp("arm")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    target = "linux-aarch64"
    subprocess.run(command, env=os.environ | {"FEDBENCH_BUILD_TARGET": target}, check=True, capture_output=True)
    (wheel,) = folder.glob("*-py3-none-manylinux_2_17_aarch64.whl")
    library = zipfile.ZipFile(wheel).extract("fedbench/kernels/aarch64.so", folder)
    return ["qemu-aarch64", "-L", ARM, linked(Path(library), TARGETS[target]["aarch64"][0])]


def sizes(chain: Chain) -> tuple[int, int]:
    """How many examples and how large batches: little work for an emulator, and a last batch that is partial."""
    return (12, 10) if chain.num_parameters > 10**6 else (67, 50)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_variants_of_this_processor_give_the_same_bits_whatever_memory_held(
    model: type[SimpleCNN], here: list[Path]
) -> None:
    arguments = (*sizes(model().chain), *model().chain.shape)
    hashes = {said(program, fill, arguments[0], 2, *arguments[1:]) for program in here for fill in (0, 255)}
    assert 1 == len(hashes)


@pytest.mark.slow
@needs(
    None
    if shutil.which("qemu-aarch64") and ARM.is_dir()
    else "needs an emulator of aarch64 and its C library: apt-get install qemu-user libc6-arm64-cross"
)
@pytest.mark.parametrize("model", [*MODELS[:-1], pytest.param(CNN, marks=pytest.mark.nightly)])
def test_the_library_of_the_wheel_for_aarch64_gives_the_bits_of_this_processor(
    model: type[SimpleCNN], here: list[Path], arm: list[object]
) -> None:
    n, batch = sizes(model().chain)
    arguments = (255, n, 2, batch, *model().chain.shape)
    assert said(here[-1], *arguments) == said(*arm, *arguments)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program and the kernels, compiled so that a wrong access to memory ends it."""
    program = tmp_path_factory.mktemp("checked") / "program"
    compiler = next(filter(None, map(shutil.which, ("clang-19", "clang-18", "clang"))), None)
    if own_target() != "linux-x86_64" or compiler is None:
        pytest.skip("needs clang 17 or later on x86-64")
    source = CHECKOUT / "fedbench/kernels/kernels.c"
    command = [compiler, *SANITIZERS, "-ffp-contract=off", "-DSOURCE_DIGEST=0", str(PROGRAM), str(source)]
    subprocess.run([*command, "-o", str(program)], check=True)
    return program


ODD = [
    Chain((1, 1, 1), (1,)),
    Chain((11, 1, 3), (17, 15, 1)),
    Chain((1, 6, 6), (1,), ((1, 0),)),
    Chain((3, 13, 17), (15, 17), ((11, 0),)),
    Chain((13, 17, 13), (17,), ((1, 4), (13, 3))),
    Chain((2, 28, 28), (33, 2), ((3, 0), (5, 2), (7, 2))),
]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("chain", [*ODD, *(model().chain for model in MODELS)])
def test_odd_shapes_touch_no_memory_but_their_own(chain: Chain, checked: Path, here: list[Path]) -> None:
    for batch in (1, 2, 7, 15, 16, 17, 31, 65):
        arguments = (255, batch + 1, 1, batch, *chain.shape)
        assert {said(checked, *arguments)} == {said(program, *arguments) for program in here}
