"""A local store that was moved or copied: its artifacts are those next to it, not those of the place it was made in.

MLflow keeps whole addresses. Left as they are, a copy would write into, and delete from, the original.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote

from fedbench.util.errors import StoreError
from fedbench.util.locks import is_locked

ARTIFACTS = "artifacts"
PLACES = (  # the columns of MLflow's that hold the address of a folder
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)

logger = logging.getLogger("fedbench")


def follow_move(database: Path, shown: str, for_reading: bool = False) -> dict[str, str]:
    """Let the experiments of a SQLite store, if they were made elsewhere, have their artifacts next to it.

    Returns, of a store that can only be read, the address of the folder it is in, by those in which it was made. Raises
    `StoreError` if the artifacts were left behind, or a command uses the store in its other place.
    """
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
        moved = {old for name, location in found if (old := _made_in(name, location)) and not _is_same(old, database)}
        if not moved:
            return {}
        here = database.parent
        if for_reading and not all(_is_writable(each) for each in (database, here)):
            return dict.fromkeys(moved, f"{here.as_uri()}/")
        for old in moved:
            there = Path(unquote(old.removeprefix("file://")))
            left = [
                name
                for name, location in found
                if _made_in(name, location) == old
                and (there / ARTIFACTS / name).is_dir()
                and not (here / ARTIFACTS / name).is_dir()
            ]
            if left:
                raise StoreError(
                    f"tracking store {shown} was made in {there}, and the artifacts of {left[0]} are still there: copy "
                    f"or move the folder {there / ARTIFACTS} too, to {here / ARTIFACTS}"
                )
        if any(map(is_locked, (here / "checkpoints").glob("*.lock"))):
            raise StoreError(f"tracking store {shown} is in use under another path: end the command that does so first")
        with connection:
            for old in moved:
                new = f"{here.as_uri()}/"
                logger.warning(
                    "fedbench: tracking store %s was made in %s: its artifacts are now those here", shown, old
                )
                for table, column in PLACES:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608 - names of ours
                        (new, len(old) + 1, len(old), old),
                    )
    return {}


def _made_in(name: str, location: str | None) -> str | None:
    """The address of the folder, with "/", in which fedbench made an experiment; None if it was made otherwise."""
    end = f"{ARTIFACTS}/{quote(name)}"
    if not location or not location.startswith("file:///") or not location.endswith(f"/{end}"):
        return None
    return location.removesuffix(end)


def _is_same(address: str, database: Path) -> bool:
    """Whether an address is the database's folder, by whatever path."""
    folder = Path(unquote(address.removeprefix("file://")))
    return folder == database.parent or (folder.is_dir() and folder.samefile(database.parent))


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
