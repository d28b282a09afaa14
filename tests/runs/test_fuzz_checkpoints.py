"""Whatever a checkpoint holds, it is refused in one line, or its run can resume."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import ANYTHING, any_bytes, damaged, fuzz, near, result_of
from hypothesis import strategies as st

from fedbench.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint

CONTENT: dict[str, Any] = {
    "fingerprint": "mine",
    "environment": "",
    "server": {
        "round": 2,
        "model": {"vector": torch.ones(3), "counters": [torch.tensor(7)]},
        "memory": {"c": torch.arange(3.0)},
        "sent": {4: torch.ones(3)},
    },
    "history": [{"accuracy": 0.1, "loss": 0.3}, {"accuracy": 0.5, "loss": float("inf")}],
    "confusion": torch.zeros(2, 2, dtype=torch.int64),
    "interpolation": [(-0.2, 2.5, 0.1)],
}
TENSORS = st.sampled_from(
    (torch.ones(0), torch.ones(3).to(torch.bfloat16), torch.ones(1000), torch.ones(2, 2), torch.tensor(True))
)


def body_of(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def signed(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


BODY = body_of(CONTENT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.ckpt"


def test_the_content_is_valid(path: Path) -> None:
    path.write_bytes(signed(BODY))
    assert load_checkpoint(path, "mine")


@fuzz(any_bytes(signed(BODY)) | damaged(BODY).map(signed), examples=200)
def test_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    result_of(lambda: load_checkpoint(path, "mine"), path)


@fuzz(near(CONTENT, ANYTHING | TENSORS) | ANYTHING, examples=200)
def test_a_content_near_a_valid_one(path: Path, content: Any) -> None:
    path.write_bytes(signed(body_of(content)))
    found: Checkpoint | None = result_of(lambda: load_checkpoint(path, "mine"), path)
    if found:
        save_checkpoint(path, "mine", found)
        assert load_checkpoint(path, "mine")
        assert found.server.to(torch.device("cpu")).model.head(1).vector.dim() == 1
        assert found.history
