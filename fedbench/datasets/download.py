"""Downloads over HTTP that resume, and the mirror that a user can name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_incrementing
from urllib3.exceptions import HTTPError

from fedbench.util.errors import DataError
from fedbench.util.progress import progress

TIMEOUT_SECONDS = (10.0, 30.0)  # to connect; between two pieces of an answer
TRIES = 3
WAIT_SECONDS = 0.5  # before the second try; twice as long before the third
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


def new_session(connections: int = 1) -> requests.Session:
    """A session for so many simultaneous requests, whose answers are not compressed further."""
    session = requests.Session()
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
        with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
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
        with session.get(url, stream=True, timeout=TIMEOUT_SECONDS) as response:
            return b"".join(response.raw.stream(PIECE, decode_content=False)) if _delivers(response) else None

    content = _retried(url, attempt)
    if content and len(content) > limit:
        raise DataError(f"{url} is larger than {limit} bytes, which no file of the dataset is")
    return content


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
        raise _UnfinishedError(f"it answers {response.status_code} {response.reason}")
    return True


def _append(response: requests.Response, part: Path, start: int, limit: int) -> None:
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else 0
    size = start
    try:
        with part.open("r+b" if start else "wb") as file, progress(f"downloading {part.stem}", total, "B") as advance:
            file.seek(start)
            advance(start)
            for chunk in response.raw.stream(PIECE, decode_content=False):
                size += len(chunk)
                if size > limit:
                    raise DataError(f"{response.url} is larger than {limit} bytes, which no file of the dataset is")
                file.write(chunk)
                advance(len(chunk))
    except (DataError, OSError):  # too large, or a full disk: the part is of no use
        part.unlink(missing_ok=True)
        raise
