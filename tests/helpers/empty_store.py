"""A new SQLite store by a copy: making one takes MLflow's some hundred migrations, a second of a core."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy.engine import make_url

from fedbench.tracking.mlflow.store import open_store


@cache
def empty_store() -> bytes:
    """The bytes of a new store; made once in each process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        open_store(f"sqlite:///{path}")
        return path.read_bytes()


def put_empty_store(uri: str) -> str:
    """Put a new store where this address says, if there is none yet; gives the address."""
    path = Path(make_url(uri).database or "")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(empty_store())
    return uri
