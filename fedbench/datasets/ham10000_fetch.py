"""Bringing HAM10000 from a folder, from archives that were downloaded by hand, or from a mirror."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from fedbench.datasets.download import UnavailableError, get_bytes, mirror, new_session
from fedbench.datasets.ham10000_files import (
    IMAGE_FOLDERS,
    NAME,
    TABLE,
    Row,
    find_images,
    image_path,
    parse_table,
    read_copy,
    skin_folder,
)
from fedbench.datasets.ham10000_images import build_cache
from fedbench.datasets.ham10000_manifest import damaged_files, has_manifest, write_manifest
from fedbench.datasets.ham10000_sources import Offer, open_offers
from fedbench.util.errors import DataError
from fedbench.util.files import exclusive, plain_errors, replacing
from fedbench.util.progress import progress

LARGEST_TABLE = 16_000_000  # bytes; the published one has 0.6 million
LARGEST_IMAGE = 8_000_000  # bytes; the originals have about 0.3 million
CONNECTIONS = 8
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
BY_HAND = (
    "HAM10000 cannot be downloaded without an account: download it by hand from Kaggle "
    "(kmader/skin-cancer-mnist-ham10000) or Harvard Dataverse (doi:10.7910/DVN/DBW86T), "
    f"then run: fedbench data fetch {NAME} --from FILE.zip|FOLDER"
)


def fetch(data_dir: Path, source: Path | None) -> None:
    """Bring what is missing or damaged, decode all images once, and list all files."""
    skin = skin_folder(data_dir)
    with plain_errors(f"cannot fetch {NAME} into {skin}"), exclusive(skin):
        damaged = damaged_files(skin) if has_manifest(skin) else []
        if source is not None:
            _bring_from_path(source, skin, damaged)
        elif damaged or not _is_complete(data_dir):
            _bring_from_mirror(skin, damaged)
        _, images = read_copy(data_dir)
        if has_manifest(skin) and not damaged_files(skin):
            return
        build_cache(skin, images)  # anew, so that every image has been decoded before the list vouches for it
        write_manifest(skin, images)


def _is_complete(data_dir: Path) -> bool:
    try:
        read_copy(data_dir)
    except DataError:
        return False
    return True


def _bring_from_mirror(skin: Path, damaged: Collection[Path]) -> None:
    place = mirror()
    if place is None:
        raise DataError(BY_HAND)
    if isinstance(place, Path):
        if not (place / "skin").is_dir():
            raise DataError(f"FEDBENCH_MIRROR ({place}) has no folder skin: {BY_HAND}")
        _bring_from_path(place / "skin", skin, damaged)
        return
    try:
        _bring_from_url(f"{place}/skin", skin, damaged)
    except UnavailableError as error:
        raise DataError(f"FEDBENCH_MIRROR: {error}: run the command again to go on, or: {BY_HAND}") from error


def _bring_from_path(source: Path, skin: Path, damaged: Collection[Path]) -> None:
    """Copy the table and its images from a folder or an archive.

    Images that are here in the same size, and not known to be damaged, are not copied again. A source that has only
    some of the images will do: the next one goes on from there.
    """
    with open_offers(source) as offers:
        rows = _table_from(offers, source, skin)
        here = {image_id: path for image_id, path in find_images(skin).items() if path not in damaged}
        with progress("copying HAM10000", len(rows), "images") as advance:
            for row in rows:
                offer = offers.get(row.image_id)
                target = here.get(row.image_id, image_path(skin, row.image_id))
                if offer and not (row.image_id in here and target.stat().st_size == offer.size):
                    _install_image(offer.read(LARGEST_IMAGE), offer.origin, target)
                advance()
        missing = [row.image_id for row in rows if row.image_id not in offers and row.image_id not in here]
    if missing:
        raise DataError(f"{source} lacks {len(missing)} of {len(rows)} images (first: {missing[0]}.jpg)")


def _table_from(offers: Mapping[str, Offer], source: Path, skin: Path) -> list[Row]:
    if TABLE in offers:
        return _install_table(offers[TABLE].read(LARGEST_TABLE), offers[TABLE].origin, skin)
    if (skin / TABLE).is_file():
        return parse_table((skin / TABLE).read_bytes(), str(skin / TABLE))
    raise DataError(f"{source} has no {TABLE}: bring the table first, or give a folder that holds it too")


def _bring_from_url(address: str, skin: Path, damaged: Collection[Path]) -> None:
    """Download the table, then the images that are not here, several at once."""
    with new_session(CONNECTIONS) as session:
        content = get_bytes(session, f"{address}/{TABLE}", LARGEST_TABLE)
        if content is None:
            raise DataError(f"FEDBENCH_MIRROR has no {address}/{TABLE}: {BY_HAND}")
        rows = _install_table(content, f"{address}/{TABLE}", skin)
        good = {image_id for image_id, path in find_images(skin).items() if path not in damaged and _is_whole(path)}
        wanted = [row.image_id for row in rows if row.image_id not in good]
        _download_images(session, address, skin, wanted)


def _download_images(session: requests.Session, address: str, skin: Path, wanted: Sequence[str]) -> None:
    def bring(image_id: str) -> None:
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
        progress("fetching HAM10000", len(wanted), "images") as advance,
    ):
        for _ in pool.map(bring, wanted):
            advance()


def _install_table(content: bytes, origin: str, skin: Path) -> list[Row]:
    if b"\t" in content.partition(b"\n")[0]:
        content = _from_tabs(content, origin)
    rows = parse_table(content, origin)
    target = skin / TABLE
    if not target.is_file() or target.read_bytes() != content:
        with replacing(target) as file:
            file.write(content)
    return rows


def _from_tabs(content: bytes, origin: str) -> bytes:
    """Turn Dataverse's table, which has tabs, into one with commas."""
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(content), sep="\t", dtype=str, keep_default_na=False)
    except ValueError as error:
        raise DataError(f"{origin} is not a table ({str(error).splitlines()[0]})") from error
    return str(table.to_csv(index=False)).encode()


def _install_image(content: bytes, origin: str, target: Path) -> None:
    if not content.startswith(JPEG_START):
        raise DataError(f"{origin} is not a JPEG image")
    # Not synchronised one by one (10,015 times a disk's delay): all are decoded before the list is written.
    with replacing(target, sync=False) as file:
        file.write(content)


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return content.startswith(JPEG_START) and content.endswith(JPEG_END)
