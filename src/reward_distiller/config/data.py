"""The sections of data: where rows come from, and the testbed's world."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from reward_distiller.config.base import Section, fill_data_folder
from reward_distiller.config.whole_run import Made

TaskName = Literal["facts", "repeat", "reverse", "choose", "count"]  # of the testbed's prompts


class TestbedData(Section):
    """Prompts or pairs of the testbed's own world."""

    split: Literal["train", "test"] = Field("train", description="no prompt is in both")
    count: int = Field(ge=1, description="rows")
    tasks: list[TaskName] | None = Field(None, min_length=1, description="what the prompts ask for; unset: all tasks")


class DataSource(Section):
    """Rows from a local file (`path`), a Hub data set (`hub`), the testbed (`testbed`) or a file of another run
    (`made_by`): name exactly one."""

    path: str | None = Field(None, description=".jsonl, .json or .parquet; $REWARD_DISTILLER_DATA is filled in")
    hub: str | None = Field(None, description="data set id; needs the extra `hub`")
    subset: str | None = Field(None, description="of the Hub data set: its configuration")
    split: str = Field("train", description="of the Hub data set")
    testbed: TestbedData | None = None
    made_by: Made | None = None
    run_file: str | None = Field(None, description="which file of the folder of the run of made_by")
    columns: dict[str, str] = Field({}, description="our field -> their column; dots reach into objects and lists")
    shuffle: bool = Field(False, description="take rows in an order drawn by the seed")
    limit: int | None = Field(None, ge=1, description="so many rows at most")

    @model_validator(mode="after")
    def _one_source(self) -> DataSource:
        if sum(x is not None for x in (self.path, self.hub, self.testbed, self.made_by)) != 1:
            raise ValueError("name exactly one of path, hub, testbed and made_by")
        if (self.run_file is None) != (self.made_by is None):
            raise ValueError("made_by and run_file go together")
        if self.run_file is not None and Path(self.run_file).name != self.run_file:
            raise ValueError("run_file is the bare name of a file in the folder of the run of made_by")
        return self

    @property
    def file(self) -> Path:
        """`path` with $REWARD_DISTILLER_DATA (default ../shared/data) filled in."""
        return Path(fill_data_folder(self.path or ""))


class World(Section):
    """The testbed's miniature world; read only where something above says `testbed`."""

    seed: int = Field(0, description="of the world itself: its facts, words and models; not of a run")
    tasks: list[TaskName] = Field(
        ["facts", "repeat", "reverse", "choose"], min_length=1, description="that its language has"
    )
    style_bias: float = Field(1.0, ge=0, le=1, description="how far style goes with skill in the candidates")
    verbosity_bias: float = Field(0.8, description="points the teacher adds for a long response")
    position_bias: float = Field(0.3, description="points the teacher adds for the response it sees first")
    noise: float = Field(0.8, ge=0, description="standard deviation of the teacher's noise, in points")
    garble: float = Field(0.005, ge=0, le=1, description="share of the teacher's answers that keep no format")
    cache: str = Field("runs/testbed", description="folder of the models pretrained for the testbed")
    pretrain_steps: int = Field(1000, ge=1, description="optimizer steps of the student's pretraining")
    pretrain_threads: int = Field(2, ge=1, description="CPU threads of the pretraining")
