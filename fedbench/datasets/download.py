"""Downloads over HTTP that resume, and the mirror that a user can name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_incrementing
from urllib3.exceptions import HTTPError

from fedbench.util.errors import DataError
from fedbench.util.progress import progress

TIMEOUT_SECONDS = (10.0, 30.0)  # to connect; between two pieces of an answer
HEAD_SECONDS = 60.0  # to the first byte of a file, however slowly the server's head comes, redirections included
SLOW_SECONDS, SLOW_BYTES = 30.0, 30_000  # fewer bytes in this time are none
TRIES = 3
WAIT_SECONDS = 0.5  # before the second try; twice as long before the third
LONGEST_LENGTH = 16  # digits
PIECE = 1 << 16  # bytes: what a broken connection can lose
ABSENT = (403, 404, 410)  # S3 answers 403 for a file that does not exist
RANGE_REFUSED = 416
FIRST_ERROR = 400
REASONS = {  # by a part of the error's text
    "Failed to resolve": "its name does not resolve: no network?",
    "NameResolution": "its name does not resolve: no network?",
    "refused": "it refuses the connection",
    "unreachable": "the network is unreachable",
    "timed out": "it does not answer in time",
    "IncompleteRead": "the connection breaks off",
    "Connection aborted": "the connection breaks off",
    "certificate": "its certificate is not trusted",
}

Answer = TypeVar("Answer")


class UnavailableError(DataError):
    """A server cannot be reached or does not deliver. Another one may."""


class _UnfinishedError(Exception):
    """An attempt failed in a way that another attempt may fix."""


def mirror() -> Path | str | None:
    """Where ``FEDBENCH_MIRROR`` points: a folder, a URL without its last slash, or nowhere."""
    value = os.environ.get("FEDBENCH_MIRROR", "")
    if not value:
        return None
    if value.startswith(("http://", "https://")):
        try:
            urlsplit(value)
        except ValueError as error:
            raise DataError(f"FEDBENCH_MIRROR is no URL ({error}): correct it") from error
        return value.rstrip("/")
    if not Path(value).is_dir():
        raise DataError(f"FEDBENCH_MIRROR is {value}, which is neither a folder that exists nor an http(s) URL")
    return Path(value)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where an answer leads; what it says besides may be endless, and requests would read it to its end."""
        if target := super().get_redirect_target(resp):
            resp.raw.close()
        return target


def new_session(connections: int = 1) -> requests.Session:
    """A session for so many simultaneous requests, whose answers are not compressed further."""
    session = _Session()
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=connections))
    return session


def download(session: requests.Session, url: str, part: Path, limit: int) -> bool:
    """Append to `part` what it lacks of `url`, or all of it if the server cannot resume; False if there is no file.

    The bytes are not checked here.

    Raises
    ------
    UnavailableError
        If the server cannot be reached or breaks off repeatedly; `part` keeps what arrived.
    DataError
        If there are more than `limit` bytes.
    """

    def attempt() -> bool:
        start = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        with _answer(session, url, headers) as response:
            if response.status_code == RANGE_REFUSED:
                part.unlink()
                raise _UnfinishedError("its file is shorter than the part already here")
            if not _delivers(response):
                return False
            resumes = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            _append(response, part, start if resumes else 0, limit)
        return True

    return _retried(url, attempt)


def get_bytes(session: requests.Session, url: str, limit: int) -> bytes | None:
    """The content of a small file; None if the server has no such file. Raises as `download` does."""

    def attempt() -> bytes | None:
        with _answer(session, url, {}) as response:
            return b"".join(_pieces(response, 0, limit)) if _delivers(response) else None

    return _retried(url, attempt)


def _answer(session: requests.Session, url: str, headers: Mapping[str, str]) -> requests.Response:
    """The head of an answer. A thread waits for it: requests has no deadline for one whose bytes drip."""
    answers: SimpleQueue[requests.Response | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS))
        except Exception as error:
            answers.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=HEAD_SECONDS)
    except Empty:
        raise _UnfinishedError("it does not answer in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _pieces(response: requests.Response, start: int, limit: int) -> Iterator[bytes]:
    """The bytes of an answer as they come, those of a file from `start` on."""
    if start + _length(response) > limit:
        raise _too_large(response, limit)
    since, arrived = time.monotonic(), 0
    while piece := response.raw.read1(PIECE, decode_content=False):
        start += len(piece)
        if start > limit:
            raise _too_large(response, limit)
        yield piece
        arrived += len(piece)
        if (now := time.monotonic()) - since >= SLOW_SECONDS:
            if arrived < SLOW_BYTES:
                raise _UnfinishedError(f"it delivers {arrived} bytes in {SLOW_SECONDS:.0f} seconds")
            since, arrived = now, 0


def _length(response: requests.Response) -> int:
    """What an answer says that its length is; 0 if it says nothing useful."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and len(length) < LONGEST_LENGTH else 0


def _too_large(response: requests.Response, limit: int) -> DataError:
    return DataError(f"{response.url} is larger than {limit} bytes, which no file of the dataset is")


def _retried(url: str, attempt: Callable[[], Answer]) -> Answer:
    retrying = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_incrementing(WAIT_SECONDS, WAIT_SECONDS),
        retry=retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except (requests.RequestException, HTTPError, _UnfinishedError) as error:
        host = urlsplit(url).netloc.rpartition("@")[2]  # without a name and password
        known = next((meaning for sign, meaning in REASONS.items() if sign in str(error)), None)
        reason = known or (str(error) if isinstance(error, _UnfinishedError) else type(error).__name__)
        raise UnavailableError(f"{host} does not deliver ({reason})") from error


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed. A host that does not answer at all has cost the user enough time."""
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.InvalidURL):
        return False
    return isinstance(error, requests.RequestException | HTTPError | _UnfinishedError)


def _delivers(response: requests.Response) -> bool:
    if response.status_code in ABSENT:
        return False
    if response.status_code >= FIRST_ERROR:
        raise _UnfinishedError(f"it answers {response.status_code} {str(response.reason)[:80]}")
    return True


def _append(response: requests.Response, part: Path, start: int, limit: int) -> None:
    total = start + length if (length := _length(response)) else 0
    try:
        with part.open("r+b" if start else "wb") as file, progress(f"downloading {part.stem}", total, "B") as advance:
            file.seek(start)
            advance(start)
            for chunk in _pieces(response, start, limit):
                file.write(chunk)
                advance(len(chunk))
    except (DataError, OSError):  # too large, or a full disk: the part is of no use
        part.unlink(missing_ok=True)
        raise
