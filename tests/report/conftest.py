"""One Chromium for all tests of the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import launched


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    with launched() as browser:
        yield browser
