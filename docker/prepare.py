"""What MLflow needs before it starts: a database that answers, and the bucket BUCKET, which is made if it is not there.

MLflow itself would ask a database that it cannot use for minutes. Every error is one line.
"""

from __future__ import annotations

import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError


def require_database(uri: str) -> None:
    """Connect to the database once."""
    try:
        create_engine(uri).connect().close()
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", error)).split())
        sys.exit(f"error: the database {uri} cannot be used ({reason}): check it and its password")


def make_bucket(name: str, address: str) -> None:
    """Ask for the bucket, and make it where the store says that there is none."""
    patience = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 4})
    store = boto3.client("s3", endpoint_url=address, config=patience)
    try:
        try:
            store.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
            store.create_bucket(Bucket=name)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"error: the bucket {name} at {address} cannot be used ({error}): check the store and its keys")


if __name__ == "__main__":
    require_database(os.environ["MLFLOW_BACKEND_STORE_URI"])
    make_bucket(os.environ["BUCKET"], os.environ["MLFLOW_S3_ENDPOINT_URL"])
