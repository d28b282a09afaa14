"""Gets HAM10000 from a folder, from archives downloaded by hand, or from a mirror. Archives are not trusted."""

from __future__ import annotations

import io
import lzma
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import requests

from fedbench.datasets import ham10000_files as ham
from fedbench.datasets.download import UnavailableError, get_bytes, mirror, new_session
from fedbench.datasets.ham10000 import NAME
from fedbench.util.advice import data_command
from fedbench.util.errors import DataError
from fedbench.util.files import exclusive, plain_errors, regular, replacing
from fedbench.util.progress import progress

if TYPE_CHECKING:
    import pandas as pd

LARGEST_IMAGE = 8_000_000  # bytes; the originals have about 0.3 million
LARGEST_ARCHIVE = 8_000_000_000  # bytes of one in an archive; the largest of the set has 1.4 billion
CONNECTIONS = 8
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
ARCHIVE = ".zip"
MOST_NESTED = 2  # archives in archives; Dataverse's has the images in two
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
    skin = data_dir / ham.SKIN
    with plain_errors(f"cannot fetch {NAME} into {skin}"), exclusive(skin):
        damaged = ham.damaged_files(skin) if (skin / ham.MANIFEST).exists() else []
        good = {image_id: path for image_id, path in ham.find_images(skin).items() if path not in damaged}
        if source is not None:
            _copy_from(source, skin, good)
        elif damaged or not _is_complete(data_dir):
            _fetch_from_mirror(skin, good, may_be_here=not damaged)
        _, images = ham.read_copy(data_dir)
        if (skin / ham.MANIFEST).exists() and not ham.damaged_files(skin):
            return
        for path in data_dir.glob(f"decoded/{NAME}-*.npz"):
            path.unlink()
        ham.load_images(skin, images)  # so that every image has been decoded before the list vouches for it
        ham.write_manifest(skin, images)


def _is_complete(data_dir: Path) -> bool:
    with suppress(DataError):
        return bool(ham.read_copy(data_dir))
    return False


def _by_hand() -> str:
    return (
        "HAM10000 cannot be downloaded without an account: download it by hand from Kaggle "
        "(kmader/skin-cancer-mnist-ham10000) or Harvard Dataverse (doi:10.7910/DVN/DBW86T), "
        f"then run: {data_command('fetch', NAME)} --from FILE.zip (or a folder)"
    )


def _fetch_from_mirror(skin: Path, good: Mapping[str, Path], may_be_here: bool) -> None:
    """Take the set from the mirror; without one, from what may be in the data folder, such as archives."""
    place = mirror()
    if place is None:
        if not (may_be_here and any(ham.walk(skin))):
            raise DataError(_by_hand())
        try:
            _copy_from(skin, skin, good)
        except DataError as error:
            raise DataError(f"{error}. {_by_hand()}") from error
    elif isinstance(place, Path):
        if not (place / ham.SKIN).is_dir():
            raise DataError(f"FEDBENCH_MIRROR ({place}) has no folder skin: {_by_hand()}")
        _copy_from(place / ham.SKIN, skin, good)
    else:
        try:
            _download_from(f"{place}/{ham.SKIN}", skin, good)
        except UnavailableError as error:
            raise DataError(f"FEDBENCH_MIRROR: {error}: run the command again to resume, or: {_by_hand()}") from error


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


def _copy_from(source: Path, skin: Path, good: Mapping[str, Path]) -> None:
    """Copy the table and its images from a folder or an archive, but not the `good` ones that are as large there.

    A source may have only some of the images: the next one adds the others.
    """
    with _open_offers(source, skin) as offers:
        ids = _table_from(offers, source, skin).image_id.tolist()
        with progress("copying HAM10000", len(ids), "images") as advance:
            for image_id in ids:
                offer = offers.get(image_id)
                target = good.get(image_id, ham.image_path(skin, image_id))
                if offer and not (image_id in good and target.stat().st_size == offer.size):
                    _install_image(offer.read(LARGEST_IMAGE), offer.origin, target)
                advance()
        missing = [image_id for image_id in ids if image_id not in offers and image_id not in good]
    if missing:
        raise DataError(
            f"{source} lacks {len(missing)} of {len(ids)} images (first: {missing[0]}.jpg): give the others too, with "
            f"{data_command('fetch', NAME)} --from FILE.zip (or a folder); images are found in folders and .zip "
            f"files, by names such as {missing[0]}.jpg"
        )


def _table_from(offers: Mapping[str, Offer], source: Path, skin: Path) -> pd.DataFrame:
    if ham.TABLE in offers:
        return _install_table(offers[ham.TABLE].read(ham.LARGEST_TABLE), offers[ham.TABLE].origin, skin)
    if (skin / ham.TABLE).is_file():
        return ham.parse_table(regular(skin / ham.TABLE, ham.LARGEST_TABLE).read_bytes(), str(skin / ham.TABLE))
    raise DataError(f"{source} has no {ham.TABLE}: fetch the table first, or give a folder that holds it too")


@contextmanager
def _open_offers(source: Path, skin: Path) -> Iterator[dict[str, Offer]]:
    """What `source` has of HAM10000, whatever its layout: the table by its name, images by their ids.

    What is packed in an archive of an archive is unpacked in `skin`, into a file without a name.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist: give the folder or the .zip that holds HAM10000")
    with ExitStack() as stack:
        files = [path for path in ham.walk(source) if path.is_file()] if source.is_dir() else [source]
        candidates = list(_of_files(files))
        unreadable: list[str] = []
        for path in files:
            if path.suffix.lower() == ARCHIVE or (path == source and not candidates):
                candidates += _in_archive(regular(path), str(path), stack, skin, unreadable)
        if not candidates:
            hint = f" ({', '.join(unreadable)} is not a whole .zip file)" if unreadable else ""
            raise DataError(f"{source} has nothing of HAM10000{hint}: give the folder or the .zip that holds it")
        yield dict(reversed(candidates))  # some archives hold everything twice: the first counts


def _of_files(files: Sequence[Path]) -> Iterator[tuple[str, Offer]]:
    for path in sorted(files, key=lambda path: _is_other_table(path.name)):
        if key := ham.key_of(path.name):
            yield key, Offer(str(path), regular(path).stat().st_size, partial(io.FileIO, path))


def _in_archive(
    file: Path | IO[bytes], name: str, stack: ExitStack, skin: Path, unreadable: list[str], depth: int = 0
) -> Iterator[tuple[str, Offer]]:
    """The members that have a name of the set. Their paths are not used, so none can lead out of the data folder."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
    except ARCHIVE_ERRORS:
        unreadable.append(name)
        return
    for member in sorted(archive.infolist(), key=lambda member: _is_other_table(member.filename)):
        inside = PurePosixPath(member.filename.replace("\\", "/"))
        origin = f"{member.filename} in {name}"
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        if member.is_dir() or is_link or ".." in inside.parts or inside.name.startswith("."):
            continue
        if key := ham.key_of(inside.name):
            yield key, Offer(origin, member.file_size, partial(archive.open, member))
        elif inside.suffix.lower() == ARCHIVE and depth < MOST_NESTED and member.file_size <= LARGEST_ARCHIVE:
            unpacked = stack.enter_context(tempfile.TemporaryFile(dir=skin))  # noqa: SIM115 - the stack closes it
            try:
                with archive.open(member) as packed:
                    shutil.copyfileobj(packed, unpacked)
            except ARCHIVE_ERRORS:
                unreadable.append(origin)
            else:
                yield from _in_archive(unpacked, origin, stack, skin, unreadable, depth + 1)


def _is_other_table(name: str) -> bool:
    """Sorts the table's own name before its other names: a source may hold several forms of it."""
    return not name.lower().endswith(ham.TABLE.lower())


# From a server


def _download_from(address: str, skin: Path, good: Mapping[str, Path]) -> None:
    """Download the table, then the images that are missing, several at once."""
    with new_session(CONNECTIONS) as session:
        content = get_bytes(session, f"{address}/{ham.TABLE}", ham.LARGEST_TABLE)
        if content is None:
            raise DataError(f"FEDBENCH_MIRROR has no {address}/{ham.TABLE}: {_by_hand()}")
        table = _install_table(content, f"{address}/{ham.TABLE}", skin)
        wanted = [each for each in table.image_id if each not in good or not _is_whole(good[each])]
        _download_images(session, address, skin, wanted)


def _download_images(session: requests.Session, address: str, skin: Path, wanted: Sequence[str]) -> None:
    def download(image_id: str) -> None:
        target = ham.image_path(skin, image_id)
        for folder in sorted(ham.IMAGE_FOLDERS, key=lambda folder: folder != target.parent.name):
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
    if (sign := ham.separator(content)) != b",":
        import pandas as pd

        try:
            unsorted = pd.read_csv(io.BytesIO(content), sep=sign.decode(), dtype=str, keep_default_na=False)
        except ValueError as error:
            raise DataError(f"{origin} is not a table ({str(error).splitlines()[0]})") from error
        content = str(unsorted.to_csv(index=False)).encode()
    table = ham.parse_table(content, origin)
    target = skin / ham.TABLE
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
