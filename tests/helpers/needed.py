"""What a test needs of the machine: where it is missing the test is skipped, and fails in continuous integration."""

from __future__ import annotations

import os

import pytest


def needs(why_not: str | None) -> pytest.MarkDecorator:
    """A mark for tests that need something; `why_not` says what is missing and how to come by it, None: nothing is.

    With ``CI=true`` in the environment nothing is skipped: there a test that cannot run is one that fails.
    """
    is_skipped = why_not is not None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(is_skipped, reason=why_not or "")
