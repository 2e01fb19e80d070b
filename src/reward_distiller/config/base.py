"""What every section of a config is: a frozen set of fields; unknown keys and wrong types are errors."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict


def fill_data_folder(path: str) -> str:
    """A path with $REWARD_DISTILLER_DATA (default ../shared/data) filled in."""
    return path.replace("$REWARD_DISTILLER_DATA", os.environ.get("REWARD_DISTILLER_DATA", "../shared/data"))


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
