"""Mirrors that are hostile or slow end in one line: neither memory nor time is spent without a bound."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fedbench.datasets import download
from fedbench.util.errors import DataError

LIMIT = 1_000_000
OK = b"HTTP/1.1 200 OK\r\n"
Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that answers each request by a function of its connection; the address is returned."""
    listening: list[socket.socket] = []

    def start(answer: Callable[[socket.socket], None]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=respond, args=(connection,), daemon=True).start()

        def respond(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                connection.recv(65536)
                answer(connection)

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/file"

    yield start
    for server in listening:
        server.close()


def endless(head: bytes, sent: list[int]) -> Callable[[socket.socket], None]:
    """An answer that never ends; `sent` counts its bytes."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            sent.append(connection.send(bytes(1 << 16)))

    return answer


def dripping(head: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.01)

    return answer


@pytest.fixture(params=["small", "large"])
def get(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], object]]:
    with download.new_session() as session:
        if request.param == "small":
            yield lambda url: download.get_bytes(session, url, LIMIT)
        else:
            yield lambda url: download.download(session, url, tmp_path / "file.part", LIMIT)


def test_an_endless_answer_is_read_no_further_than_its_limit(serve: Serve, get: Callable[[str], object]) -> None:
    sent: list[int] = []
    with pytest.raises(DataError, match=r"file is larger than 1000000 bytes, which no file of the dataset is"):
        get(serve(endless(OK + b"\r\n", sent)))
    assert sum(sent) < 20 * LIMIT  # what the connection holds


@pytest.mark.parametrize("length", ["2000000", "9" * 15])
def test_a_length_beyond_the_limit_is_refused_at_once(serve: Serve, get: Callable[[str], object], length: str) -> None:
    with pytest.raises(DataError, match=r"file is larger than 1000000 bytes"):
        get(serve(lambda connection: connection.sendall(OK + f"Content-Length: {length}\r\n\r\n".encode())))


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "²", "x"])
def test_a_length_that_is_none_does_not_count(serve: Serve, get: Callable[[str], object], length: str) -> None:
    head = OK + f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode("latin-1")
    with suppress(DataError):
        get(serve(lambda connection: connection.sendall(head + b"content")))


def test_a_drip_has_a_deadline(serve: Serve, get: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.2)
    with pytest.raises(download.UnavailableError, match=r"does not deliver \(it delivers \d+ bytes in 0 seconds\)"):
        get(serve(dripping(OK + b"\r\n")))


def test_a_head_that_drips_has_a_deadline(
    serve: Serve, get: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "HEAD_SECONDS", 0.2)
    with pytest.raises(download.UnavailableError, match=r"it does not answer in time"):
        get(serve(dripping(OK + b"X-Head: ")))


def test_a_redirection_with_an_endless_answer_is_followed(serve: Serve, get: Callable[[str], object]) -> None:
    good = serve(lambda connection: connection.sendall(OK + b"Content-Length: 7\r\nConnection: close\r\n\r\ncontent"))
    sent: list[int] = []
    assert get(serve(endless(f"HTTP/1.1 302 Found\r\nLocation: {good}\r\n\r\n".encode(), sent))) in (b"content", True)
    assert sum(sent) < 20 * LIMIT


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", OK + b"X: " + bytes(100_000), b"HTTP/1.1 500 " + b"x" * 60_000 + b"\r\n\r\n"]
)
def test_an_answer_that_is_none_is_one_short_line(serve: Serve, get: Callable[[str], object], answer: bytes) -> None:
    with pytest.raises(download.UnavailableError) as caught:
        get(serve(lambda connection: connection.sendall(answer)))
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_a_chunked_answer_is_read_whole(serve: Serve, get: Callable[[str], object], tmp_path: Path) -> None:
    chunks = b"".join(f"{len(each):x}\r\n".encode() + each + b"\r\n" for each in (b"con", b"t" * 70_000, b"ent", b""))
    found = get(serve(lambda connection: connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)))
    whole = b"con" + b"t" * 70_000 + b"ent"
    assert whole == (found if isinstance(found, bytes) else (tmp_path / "file.part").read_bytes())
