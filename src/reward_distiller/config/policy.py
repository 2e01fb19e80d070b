"""The section of a policy: a causal LM that is sampled from, and trained."""

from __future__ import annotations

from pydantic import Field, model_validator

from reward_distiller.config.base import Section
from reward_distiller.config.whole_run import Made


class Policy(Section):
    """A causal LM. As it stands at the start of a training it is also the reference of the KL."""

    model: str | None = Field(None, description="folder or Hub id; or `testbed`")
    made_by: Made | None = Field(None, description="a run of recipe rl whose policy is taken")
    revision: str | None = Field(None, description="of a Hub model: branch, tag or commit")
    trust_remote_code: bool = Field(False, description="run code that comes with the model; off unless you say so")
    chat_template: str | None = Field(None, description="file with a Jinja template, for models that have none")

    @model_validator(mode="after")
    def _one(self) -> Policy:
        exactly_one(self, "model", "made_by")
        return self


def exactly_one(section: Section, *names: str) -> None:
    if sum(getattr(section, name) is not None for name in names) != 1:
        raise ValueError(f"name exactly one of {', '.join(names)}")
