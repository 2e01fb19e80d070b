"""A Chromium for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import launched


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """While it is open playwright runs an event loop in this thread, so nothing else there can: make runs before it."""
    with launched() as browser:
        yield browser
