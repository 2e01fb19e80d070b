"""What every section of a config is: a frozen set of fields; unknown keys and wrong types are errors."""

from __future__ import annotations

import copy
import os
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr


def fill_data_folder(path: str) -> str:
    """A path with $REWARD_DISTILLER_DATA (default ../shared/data) filled in."""
    return path.replace("$REWARD_DISTILLER_DATA", os.environ.get("REWARD_DISTILLER_DATA", "../shared/data"))


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class WholeRun(Section):
    """The config of one run; it remembers how it was written."""

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """What was written, before defaults were filled in; a copy."""
        return copy.deepcopy(self._given)
