"""What computes runs, and how two such differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedbench.util import environment
from fedbench.util.environment import COMPUTED_BY, elsewhere, machine, public_version, version_tags

INTEL = "vendor_id : GenuineIntel\nmodel name : Xeon\nflags : fpu avx2 fma\n\nsecond"


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the system says of the processor: a file to be changed."""
    path = tmp_path / "cpuinfo"
    path.write_text(INTEL)
    monkeypatch.setattr(environment, "CPUINFO", path)
    return path


def named() -> str:
    return machine.__wrapped__()


def test_a_machine_has_its_processors_name_and_a_digest_of_what_chooses_kernels(
    processor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = named()
    assert first.startswith("Xeon (")
    assert first == named()
    processor.write_text(INTEL.replace("second", "another one of the same"))
    assert first == named()
    processor.write_text(INTEL.replace("avx2", "avx2 avx512f"))
    with_more = named()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert 3 == len({first, with_more, named()})


def test_what_computed_a_run_differs_by_pytorch_and_by_machine() -> None:
    here, torch_here = version_tags(), public_version(torch.__version__)
    assert set(COMPUTED_BY) == {*here, "fedbench.computed_with"}
    assert elsewhere(here, "cpu") is None
    assert elsewhere({**here, "fedbench.torch": f"{torch_here}+other"}, "cpu") is None
    assert f"PyTorch 1.0, here {torch_here}" == elsewhere({"fedbench.torch": "1.0"}, "cpu")
    abacus = {**here, "fedbench.machine": "Abacus (0)"}
    assert f"Abacus (0), here {machine()}" == elsewhere(abacus, "cpu")
    assert elsewhere({**abacus, "fedbench.computed_with": "kernels"}, "cpu") is None


def test_nothing_is_claimed_of_runs_whose_tags_say_nothing() -> None:
    assert elsewhere({}, "cpu") is None


def test_pytorch_is_not_imported_to_compare() -> None:
    code = (
        "import sys; from fedbench.util.environment import elsewhere\n"
        "elsewhere({}, 'cpu'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
