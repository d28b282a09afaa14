"""A checkpoint is read back bit for bit, or refused in one line; it is whole or absent."""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from fedbench.core import FlatModel, ModelState, ServerState
from fedbench.models import build_model
from fedbench.runs import checkpoints
from fedbench.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from fedbench.util.errors import CheckpointError

HISTORY = ({"accuracy": 0.1, "loss": 1 / 3}, {"accuracy": 0.5, "loss": math.inf, "averaging_gain": -0.0})


def made() -> Checkpoint:
    """A checkpoint after two rounds of a model with a counter and numbers that are not finite."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(build_model("simple-cnn"), torch.nn.BatchNorm1d(3))
    model[1].num_batches_tracked.fill_(7)
    model[1].running_mean[:] = torch.tensor([math.nan, -math.inf, -0.0])
    line = ((-0.2, 2.5, 0.1), (0.5, 1 / 3, 0.9))
    server = ServerState(2, FlatModel(model).state(), {"c": torch.arange(3.0)}, {4: torch.ones(2)})
    return Checkpoint(server, HISTORY, torch.arange(100).reshape(10, 10), line)


def small() -> Checkpoint:
    return Checkpoint(ServerState(1, ModelState(torch.zeros(2))), HISTORY[:1], torch.zeros(2, 2))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of the run ``mine``."""
    save_checkpoint(tmp_path / "folder" / "mine.ckpt", "mine", made())
    return tmp_path / "folder" / "mine.ckpt"


def refusal(path: Path, fingerprint: str = "mine") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, fingerprint)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(str(path), "FILE")


def with_checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def test_everything_comes_back_bit_for_bit(path: Path) -> None:
    expected, found = made(), load_checkpoint(path, "mine")
    assert found is not None
    for tensor, other in (
        (expected.server.model.vector, found.server.model.vector),
        *zip(expected.server.model.counters, found.server.model.counters, strict=True),
        (expected.server.memory["c"], found.server.memory["c"]),
        (expected.server.sent[4], found.server.sent[4]),
    ):
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape)
        assert tensor.numpy().tobytes() == other.numpy().tobytes()
    assert torch.equal(expected.confusion, found.confusion)
    assert expected.confusion.dtype == found.confusion.dtype
    assert (expected.interpolation, expected.round) == (found.interpolation, found.round) == (found.interpolation, 2)
    as_bits = [[(name, struct.pack("d", value)) for name, value in each.items()] for each in found.history]
    assert [[(name, struct.pack("d", value)) for name, value in each.items()] for each in HISTORY] == as_bits


def test_without_a_file_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none.ckpt", "mine") is None


def test_a_later_checkpoint_replaces_an_earlier_one_as_a_whole(path: Path) -> None:
    save_checkpoint(path, "mine", small())
    found = load_checkpoint(path, "mine")
    assert found is not None
    assert (1, 1, [0.0, 0.0]) == (found.round, found.server.round, found.server.model.vector.tolist())
    assert ["mine.ckpt"] == [each.name for each in path.parent.iterdir()]


@pytest.mark.parametrize("kept", [0, 1, 64, 65, 66, 1000, -1])
def test_a_file_that_was_cut_short_is_damaged(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    expected = "checkpoint FILE is damaged"
    assert expected == refusal(path)


@pytest.mark.parametrize("place", [0, 63, 64, 65, 100, 5_000, -1])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_single_bit_that_was_flipped_is_damage(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)
    assert "checkpoint FILE is damaged" == refusal(path)


def test_more_bytes_than_were_written_are_damage(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    assert "checkpoint FILE is damaged" == refusal(path)


def test_a_checkpoint_of_another_run_is_refused(path: Path) -> None:
    assert "checkpoint FILE belongs to another run" == refusal(path, "yours")


def test_a_checkpoint_that_something_else_made_is_refused_and_both_are_named(path: Path) -> None:
    save_checkpoint(path, "mine", small(), "PyTorch 2.0.1 on ABACUS")
    with pytest.raises(CheckpointError, match=r"was made with PyTorch 2\.0\.1 on ABACUS, this is PyTorch 9$"):
        load_checkpoint(path, "mine", "PyTorch 9")
    assert load_checkpoint(path, "mine", "PyTorch 2.0.1 on ABACUS") is not None


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_code_in_a_file_is_not_run_even_if_the_checksum_is_right(path: Path, how: str) -> None:
    mark = path.parent / "mark"
    if how == "pickle":
        path.write_bytes(with_checksum(pickle.dumps(Harmful(mark), protocol=2)))
    else:
        torch.save({"fingerprint": "mine", "environment": "", "server": Harmful(mark)}, path)
        path.write_bytes(with_checksum(path.read_bytes()))
    assert "checkpoint FILE is not one of this fedbench" == refusal(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"fingerprint": "mine"},
        {"fingerprint": "mine", "environment": "x", "server": {}},
        {"fingerprint": "mine", "environment": "x", "server": {"round": 1, "model": {}, "more": 1}},
    ],
    ids=["nothing", "a list", "empty", "no environment", "no history", "a field of a later fedbench"],
)
def test_a_whole_file_of_another_content_is_refused(path: Path, content: Any) -> None:
    torch.save(content, path)
    path.write_bytes(with_checksum(path.read_bytes()))
    assert "checkpoint FILE is not one of this fedbench" == refusal(path)


def test_a_directory_in_the_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.ckpt").mkdir()
    assert "checkpoint FILE cannot be read (Is a directory)" == refusal(tmp_path / "mine.ckpt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(path: Path) -> None:
    path.chmod(0)
    assert "checkpoint FILE cannot be read (Permission denied)" == refusal(path)


@pytest.mark.parametrize("written", [0, 1])
def test_a_write_that_fails_leaves_the_earlier_checkpoint_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The disk becomes full before or in the middle of the file."""

    class Full:
        """Takes the first so many writes."""

        def __init__(self, file: Any) -> None:
            self.file = file
            self.left = written

        def write(self, data: Any) -> None:
            if self.left == 0:
                raise OSError(28, "No space left on device")
            self.left -= 1
            self.file.write(data)

    real = checkpoints.replacing

    class Replacing:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.context = real(*arguments, **options)

        def __enter__(self) -> Full:
            return Full(self.context.__enter__())

        def __exit__(self, *error: Any) -> Any:
            return self.context.__exit__(*error)

    monkeypatch.setattr(checkpoints, "replacing", Replacing)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(path, "mine", small())
    found = load_checkpoint(path, "mine")
    assert found is not None
    assert 2 == found.round
    assert ["mine.ckpt"] == [each.name for each in path.parent.iterdir()]


def test_a_first_write_that_is_interrupted_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "mine.ckpt", "mine", made())
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"history": None},
        {"history": ({"accuracy": "high"},) * 2},
        {"history": ()},
        {"confusion": [[1, 2]]},
        {"interpolation": ((0.5, 1.0),)},
        {"server": {"round": "two", "model": {"vector": torch.ones(2)}}},
        {"server": {"round": 2, "model": {"vector": None}}},
        {"server": {"round": 2, "model": {"vector": torch.ones(2)}, "sent": {"a": torch.ones(2)}}},
        {"server": {"round": 2, "model": {"vector": torch.tensor(1.0)}}},
        {"server": {"round": 0, "model": {"vector": torch.ones(2)}}, "history": ()},
        {"confusion": torch.ones(4)},
    ],
    ids=str,
)
def test_a_right_checksum_with_wrong_types_is_refused(path: Path, change: dict[str, Any]) -> None:
    content = torch.load(io.BytesIO(path.read_bytes().partition(b"\n")[2]), weights_only=True)
    buffer = io.BytesIO()
    torch.save(content | change, buffer)
    path.write_bytes(with_checksum(buffer.getvalue()))
    assert "checkpoint FILE is not one of this fedbench" == refusal(path)
