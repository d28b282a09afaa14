"""What a folder or an archive has of HAM10000, whatever its layout. Archives are not trusted."""

from __future__ import annotations

import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from fedbench.datasets.ham10000_files import IMAGE_ID, TABLE
from fedbench.util.errors import DataError

TABLE_NAMES = {"ham10000_metadata", "ham10000_metadata.csv", "ham10000_metadata.tab"}  # Kaggle's and Dataverse's
# What reading a damaged, encrypted or exotic archive raises.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # encrypted, or packed in a way that this Python cannot unpack
    ValueError,
)


@dataclass(frozen=True)
class Offer:
    """A file that a source has: where, how large, and how to open it."""

    origin: str
    size: int
    open: Callable[[], IO[bytes]]

    def read(self, limit: int) -> bytes:
        """The content, if it is no larger than `limit`."""
        try:
            with self.open() as file:
                content = file.read(limit + 1)
        except ARCHIVE_ERRORS as error:
            raise DataError(f"{self.origin} cannot be unpacked ({error})") from error
        if len(content) > limit:
            raise DataError(f"{self.origin} is larger than {limit} bytes, which no such file of HAM10000 is")
        return content


@contextmanager
def open_offers(source: Path) -> Iterator[dict[str, Offer]]:
    """What `source` has of HAM10000: the table under its name, images under their ids."""
    if not source.exists():
        raise DataError(f"{source} does not exist: give the folder or the .zip that holds HAM10000")
    with ExitStack() as stack:
        archives = sorted(source.rglob("*.zip")) if source.is_dir() else [source]
        candidates = list(_in_folder(source)) if source.is_dir() else []
        unreadable = []
        for path in archives:
            try:
                candidates += _in_archive(stack.enter_context(zipfile.ZipFile(path)), path)
            except ARCHIVE_ERRORS:
                unreadable.append(str(path))
        offers: dict[str, Offer] = {}
        for key, offer in candidates:  # some archives hold everything twice: the first is taken
            offers.setdefault(key, offer)
        if not offers:
            hint = f" ({', '.join(unreadable)} is not a whole .zip file)" if unreadable else ""
            raise DataError(f"{source} has nothing of HAM10000{hint}: give the folder or the .zip that holds it")
        yield offers


def _in_folder(source: Path) -> Iterator[tuple[str, Offer]]:
    for folder, subfolders, names in os.walk(source):
        subfolders.sort()
        for name in sorted(names, key=_table_first):
            key, path = _key(name), Path(folder) / name
            if key and path.is_file():
                yield key, Offer(str(path), path.stat().st_size, _opener(path))


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _in_archive(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, Offer]]:
    """The members that have a name of the set. Their paths are not used, so none can lead out of the data folder."""
    for member in sorted(archive.infolist(), key=lambda member: _table_first(member.filename)[0]):
        inside = PurePosixPath(member.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        key = _key(inside.name)
        if key and not member.is_dir() and not is_link and ".." not in inside.parts:
            yield key, Offer(f"{member.filename} in {path}", member.file_size, _member_opener(archive, member))


def _member_opener(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(member)


def _table_first(name: str) -> tuple[bool, str]:
    """Sorts the table by its own name before the other names that it has: a source may hold several forms of it."""
    return not name.lower().endswith(TABLE.lower()), name


def _key(name: str) -> str | None:
    if name.lower() in TABLE_NAMES:
        return TABLE
    stem, _, ending = name.partition(".")
    return stem if ending == "jpg" and IMAGE_ID.fullmatch(stem) else None
