"""Fixtures of all tests. That this file stands here also puts `tests` on the path, for `helpers`."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Before torch is loaded: see `cli/entry.py`. And no test asks a hub for anything.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
os.environ["HF_HUB_OFFLINE"] = "1"

settings.register_profile("here", deadline=None, database=None)  # machines may be busy; nothing is left behind
settings.load_profile("here")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of tests are on loopback, whatever proxy the machine has."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
