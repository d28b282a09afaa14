"""One PyTorch thread, and freed memory kept, as the executors do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fedbench.executors.allocator import keep_freed_memory


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()
    yield
    torch.set_num_threads(before)
