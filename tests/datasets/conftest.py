"""Small made data in the layouts of the real sets, and a server on this machine that hands it out."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedbench.datasets import dataset_module, download, ham10000, mnist, mnist_5k

CLASSES = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")


@pytest.fixture(autouse=True)
def _quick_and_local(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "WAIT_SECONDS", 0.0)
    if "mirror" not in request.keywords:
        monkeypatch.delenv("FEDBENCH_MIRROR", raising=False)
        monkeypatch.delenv("FEDBENCH_DATA_DIR", raising=False)


@pytest.fixture(autouse=True)
def _mnist_5k_is_read_each_time(read_mnist_5k: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_5k, "_read_table", read_mnist_5k)


# --- a server ---------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """Serves `root`. The switches say how it misbehaves; `requests` are the paths and Range headers it was asked."""

    url: str
    root: Path
    ranges: bool = True
    break_after: int | None = None  # bytes of an answer, once
    stall_after: int | None = None  # bytes of an answer; the rest never comes
    serve_only: int | None = None  # so many answers, then none
    status: int | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str | None]] = field(default_factory=list)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            server.requests.append((self.path, wanted))
            if server.serve_only is not None and len(server.requests) > server.serve_only:
                server.stopped.wait(30)
                return
            path = server.root / self.path.lstrip("/")
            if server.status or not path.is_file():
                self.send_error(server.status or 404)
                return
            content = path.read_bytes()
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.send_body(content[start:])

        def send_body(self, body: bytes) -> None:
            if server.break_after is not None and server.break_after < len(body):
                body, server.break_after = body[: server.break_after], None
                self.close_connection = True
            if server.stall_after is not None and server.stall_after < len(body):
                self.wfile.write(body[: server.stall_after])
                self.wfile.flush()
                server.stopped.wait(30)
                return
            self.wfile.write(body)

    return Handler


class PatientServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # the default of 5 makes the sixth connection wait a second


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    running: list[tuple[PatientServer, Server, threading.Thread]] = []

    def start(root: Path) -> Server:
        server = Server("", root)
        http = PatientServer(("127.0.0.1", 0), _handler(server))
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((http, server, thread))
        return server

    yield start
    for http, server, thread in running:
        server.stopped.set()
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "waited 60 seconds in vain"
            time.sleep(0.01)

    return wait


# --- MNIST in small ---------------------------------------------------------------------------------------------


def idx_file(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@dataclass
class SmallMnist:
    """200 training and 100 test images; `source` is laid out like a mirror, `patches` makes a process expect them."""

    source: Path
    raw: Path
    unpacked: dict[str, bytes]
    patches: str


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallMnist:
    import torchvision

    source = tmp_path / "mirror"
    raw = source / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(1)
    unpacked, md5, resources = {}, {}, []
    for part, count in (("train", 200), ("t10k", 100)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            unpacked[name] = idx_file(array)
            md5[name] = hashlib.md5(unpacked[name], usedforsecurity=False).hexdigest()
            packed = gzip.compress(unpacked[name])
            (raw / f"{name}.gz").write_bytes(packed)
            resources.append((f"{name}.gz", hashlib.md5(packed, usedforsecurity=False).hexdigest()))
    info = replace(mnist.MNIST.INFO, sizes={"standard": (200, 100)})
    monkeypatch.setattr(mnist, "MNIST", replace(mnist.MNIST, INFO=info, md5=md5))
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [])
    patches = (
        "import dataclasses, torchvision\n"
        "from fedbench.datasets import mnist\n"
        f"mnist.MNIST = dataclasses.replace(mnist.MNIST, md5={md5!r})\n"
        f"torchvision.datasets.MNIST.resources = {resources!r}\n"
        "torchvision.datasets.MNIST.mirrors = []\n"
    )
    return SmallMnist(source, raw, unpacked, patches)


# --- HAM10000 in small ------------------------------------------------------------------------------------------


@pytest.fixture
def small_ham(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out like ``skin/``: 70 images, ten a class, six lesions a class (sizes 3, 2, 2, 1, 1, 1)."""
    monkeypatch.setattr(ham10000, "INFO", replace(ham10000.INFO, sizes={"lesion": (56, 14), "image": (56, 14)}))
    skin = tmp_path / "source" / "skin"
    parts = [skin / "HAM10000_images_part_1", skin / "HAM10000_images_part_2"]
    for part in parts:
        part.mkdir(parents=True)
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    lesion_sizes = (3, 2, 2, 1, 1, 1)
    generator = np.random.default_rng(2)
    number = 29_306 - 35  # half of the images are in part 1
    for label, diagnosis in enumerate(CLASSES):
        for lesion, size in enumerate(lesion_sizes):
            for _ in range(size):
                name = f"ISIC_{number:07d}"
                lines.append(f"HAM_{label}{lesion},{name},{diagnosis},histo,,male,back")
                pixels = generator.integers(0, 256, (45, 60, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(parts[number > 29_305] / f"{name}.jpg", quality=90)
                number += 1
    (skin / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    return skin


@pytest.fixture
def unchanged() -> Callable[[Path], dict[str, tuple[int, int]]]:
    """What a later look at a folder can be compared with: every file's modification time and inode."""

    def look(folder: Path) -> dict[str, tuple[int, int]]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}

    return look


# --- the real sets ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the three real sets, fetched once a session from ``FEDBENCH_MIRROR``."""
    if not os.environ.get("FEDBENCH_MIRROR"):
        pytest.skip("FEDBENCH_MIRROR is not set: it names the folder or URL that has the real data sets")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real-data"  # the workers share it
    for name in ("mnist", "fashion-mnist", "ham10000"):
        dataset_module(name).fetch(folder, None)
    return folder
