"""Gets HAM10000 from a folder, from archives downloaded by hand, or from a mirror. Archives are not trusted."""

from __future__ import annotations

import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import requests

from fedbench.datasets.download import UnavailableError, get_bytes, mirror, new_session
from fedbench.datasets.ham10000 import NAME
from fedbench.datasets.ham10000_files import (
    IMAGE_FOLDERS,
    IMAGE_ID,
    LARGEST_TABLE,
    TABLE,
    build_cache,
    damaged_files,
    find_images,
    has_manifest,
    image_path,
    parse_table,
    read_copy,
    skin_folder,
    write_manifest,
)
from fedbench.util.errors import DataError
from fedbench.util.files import exclusive, plain_errors, regular, replacing
from fedbench.util.progress import progress

if TYPE_CHECKING:
    import pandas as pd

LARGEST_IMAGE = 8_000_000  # bytes; the originals have about 0.3 million
CONNECTIONS = 8
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
TABLE_NAMES = {"ham10000_metadata", "ham10000_metadata.csv", "ham10000_metadata.tab"}  # Kaggle's and Dataverse's
BY_HAND = (
    "HAM10000 cannot be downloaded without an account: download it by hand from Kaggle "
    "(kmader/skin-cancer-mnist-ham10000) or Harvard Dataverse (doi:10.7910/DVN/DBW86T), "
    f"then run: fedbench data fetch {NAME} --from FILE.zip|FOLDER"
)
# What reading a damaged, encrypted or exotic archive raises.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # encrypted, or compressed in a way that this Python cannot read
    ValueError,
)


def fetch(data_dir: Path, source: Path | None) -> None:
    """Get what is missing or damaged, decode all images once, and list all files."""
    skin = skin_folder(data_dir)
    with plain_errors(f"cannot fetch {NAME} into {skin}"), exclusive(skin):
        damaged = damaged_files(skin) if has_manifest(skin) else []
        if source is not None:
            _copy_from(source, skin, damaged)
        elif damaged or not _is_complete(data_dir):
            _fetch_from_mirror(skin, damaged)
        _, images = read_copy(data_dir)
        if has_manifest(skin) and not damaged_files(skin):
            return
        build_cache(skin, images)  # so that every image has been decoded before the list vouches for it
        write_manifest(skin, images)


def _is_complete(data_dir: Path) -> bool:
    try:
        read_copy(data_dir)
    except DataError:
        return False
    return True


def _fetch_from_mirror(skin: Path, damaged: Collection[Path]) -> None:
    place = mirror()
    if place is None:
        raise DataError(BY_HAND)
    if isinstance(place, Path):
        if not (place / "skin").is_dir():
            raise DataError(f"FEDBENCH_MIRROR ({place}) has no folder skin: {BY_HAND}")
        _copy_from(place / "skin", skin, damaged)
        return
    try:
        _download_from(f"{place}/skin", skin, damaged)
    except UnavailableError as error:
        raise DataError(f"FEDBENCH_MIRROR: {error}: run the command again to resume, or: {BY_HAND}") from error


# From a folder or an archive


@dataclass(frozen=True)
class Offer:
    """A file that a source has."""

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


def _copy_from(source: Path, skin: Path, damaged: Collection[Path]) -> None:
    """Copy the table and its images from a folder or an archive.

    Images that exist in the same size, and are not known to be damaged, are not copied again. A source may have only
    some of the images: the next one adds the others.
    """
    with _open_offers(source) as offers:
        ids = _table_from(offers, source, skin).image_id.tolist()
        here = {image_id: path for image_id, path in find_images(skin).items() if path not in damaged}
        with progress("copying HAM10000", len(ids), "images") as advance:
            for image_id in ids:
                offer = offers.get(image_id)
                target = here.get(image_id, image_path(skin, image_id))
                if offer and not (image_id in here and target.stat().st_size == offer.size):
                    _install_image(offer.read(LARGEST_IMAGE), offer.origin, target)
                advance()
        missing = [image_id for image_id in ids if image_id not in offers and image_id not in here]
    if missing:
        raise DataError(f"{source} lacks {len(missing)} of {len(ids)} images (first: {missing[0]}.jpg)")


def _table_from(offers: Mapping[str, Offer], source: Path, skin: Path) -> pd.DataFrame:
    if TABLE in offers:
        return _install_table(offers[TABLE].read(LARGEST_TABLE), offers[TABLE].origin, skin)
    if (skin / TABLE).is_file():
        return parse_table(regular(skin / TABLE, LARGEST_TABLE).read_bytes(), str(skin / TABLE))
    raise DataError(f"{source} has no {TABLE}: fetch the table first, or give a folder that holds it too")


@contextmanager
def _open_offers(source: Path) -> Iterator[dict[str, Offer]]:
    """What `source` has of HAM10000, whatever its layout: the table by its name, images by their ids."""
    if not source.exists():
        raise DataError(f"{source} does not exist: give the folder or the .zip that holds HAM10000")
    with ExitStack() as stack:
        archives = sorted(source.rglob("*.zip")) if source.is_dir() else [source]
        candidates = list(_in_folder(source)) if source.is_dir() else []
        unreadable = []
        for path in archives:
            try:
                candidates += _in_archive(stack.enter_context(zipfile.ZipFile(regular(path))), path)
            except ARCHIVE_ERRORS:
                unreadable.append(str(path))
        if not candidates:
            hint = f" ({', '.join(unreadable)} is not a whole .zip file)" if unreadable else ""
            raise DataError(f"{source} has nothing of HAM10000{hint}: give the folder or the .zip that holds it")
        yield dict(reversed(candidates))  # some archives hold everything twice: the first counts


def _in_folder(source: Path) -> Iterator[tuple[str, Offer]]:
    for folder, subfolders, names in os.walk(source):
        subfolders.sort()
        for name in sorted(names, key=_table_first):
            key, path = _key(name), Path(folder) / name
            if key and path.is_file():
                yield key, Offer(str(path), path.stat().st_size, partial(io.FileIO, path))


def _in_archive(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, Offer]]:
    """The members that have a name of the set. Their paths are not used, so none can lead out of the data folder."""
    for member in sorted(archive.infolist(), key=lambda member: _table_first(member.filename)[0]):
        inside = PurePosixPath(member.filename.replace("\\", "/"))
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        key = _key(inside.name)
        if key and not member.is_dir() and not is_link and ".." not in inside.parts:
            yield key, Offer(f"{member.filename} in {path}", member.file_size, partial(archive.open, member))


def _table_first(name: str) -> tuple[bool, str]:
    """Sorts the table's own name before its other names: a source may hold several forms of it."""
    return not name.lower().endswith(TABLE.lower()), name


def _key(name: str) -> str | None:
    if name.lower() in TABLE_NAMES:
        return TABLE
    stem, _, ending = name.partition(".")
    return stem if ending == "jpg" and IMAGE_ID.fullmatch(stem) else None


# From a server


def _download_from(address: str, skin: Path, damaged: Collection[Path]) -> None:
    """Download the table, then the images that are missing, several at once."""
    with new_session(CONNECTIONS) as session:
        content = get_bytes(session, f"{address}/{TABLE}", LARGEST_TABLE)
        if content is None:
            raise DataError(f"FEDBENCH_MIRROR has no {address}/{TABLE}: {BY_HAND}")
        table = _install_table(content, f"{address}/{TABLE}", skin)
        good = {image_id for image_id, path in find_images(skin).items() if path not in damaged and _is_whole(path)}
        _download_images(session, address, skin, [each for each in table.image_id if each not in good])


def _download_images(session: requests.Session, address: str, skin: Path, wanted: Sequence[str]) -> None:
    def download(image_id: str) -> None:
        target = image_path(skin, image_id)
        for folder in sorted(IMAGE_FOLDERS, key=lambda folder: folder != target.parent.name):
            url = f"{address}/{folder}/{target.name}"
            content = get_bytes(session, url, LARGEST_IMAGE)
            if content is not None:
                _install_image(content, url, target)
                return
        raise DataError(f"FEDBENCH_MIRROR has {target.name} in neither image folder of {address}")

    with (
        ThreadPoolExecutor(CONNECTIONS) as pool,
        progress("downloading HAM10000", len(wanted), "images") as advance,
    ):
        for _ in pool.map(download, wanted):
            advance()


def _is_whole(path: Path) -> bool:
    content = regular(path, LARGEST_IMAGE).read_bytes()
    return content.startswith(JPEG_START) and content.endswith(JPEG_END)


# Into the data folder


def _install_table(content: bytes, origin: str, skin: Path) -> pd.DataFrame:
    """Write the table, Dataverse's with tabs as one with commas, unless it is there already."""
    if b"\t" in content.partition(b"\n")[0]:
        import pandas as pd

        try:
            unsorted = pd.read_csv(io.BytesIO(content), sep="\t", dtype=str, keep_default_na=False)
        except ValueError as error:
            raise DataError(f"{origin} is not a table ({str(error).splitlines()[0]})") from error
        content = str(unsorted.to_csv(index=False)).encode()
    table = parse_table(content, origin)
    target = skin / TABLE
    if not target.is_file() or target.read_bytes() != content:
        with replacing(target) as file:
            file.write(content)
    return table


def _install_image(content: bytes, origin: str, target: Path) -> None:
    if not content.startswith(JPEG_START):
        raise DataError(f"{origin} is not a JPEG image")
    # Not synchronised one by one (10,015 times a disk's delay): all are decoded before the list is written.
    with replacing(target, sync=False) as file:
        file.write(content)
