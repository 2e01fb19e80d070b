"""The prompts sent to the teacher: Jinja files, packaged in `templates/` and replaceable one by one.

Each template gets `conversation` (the prompt as text), `mark` (the suffix of every tag, see
`parsing.fresh_mark`) and the texts that it is about. Values are put in as they are: nothing in them is
read as a template. Some templates have a switch, which is "" or "yes" and never shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from reward_distiller.errors import ConfigError
from reward_distiller.records import Prompt
from reward_distiller.teacher.parsing import TAGS, fresh_mark
from reward_distiller.teacher.questions import Messages
from reward_distiller.teacher.structured import Schema

PACKAGED = Path(__file__).parent / "templates"
# Template -> the values that it must use; `conversation` and `mark` it may use.
VALUES: dict[str, tuple[str, ...]] = {
    "pairwise_scores": ("response_1", "response_2"),
    "refinement": ("preferred", "rejected"),
    "calibrated_score": ("anchor",),
    "critique": ("response",),
    "attribute_scores": ("response", "attributes"),
    "rewrite": ("response", "direction", "aspects"),
    "structured": ("fields",),
    "judge_pairwise_scores": ("response_1", "response_2"),
    "judge_pairwise_ranking": ("response_1", "response_2"),
    "judge_pointwise": ("response",),
    "judge_gram": ("response_1", "response_2"),
    "judge_judgelrm": ("response_1", "response_2"),
    "judge_preference": ("response_1", "response_2"),
    "judge_added_constraints": ("response", "count", "about", "step_0", "step_1", "step_2", "step_3", "step_4"),
    "judge_criteria": ("response", "criteria", "count", "reference"),
}
# Template -> its switches, off unless given as "yes"; each must make a difference.
SWITCHES: dict[str, tuple[str, ...]] = {
    "judge_pairwise_scores": ("reasoning",),
    "judge_pairwise_ranking": ("reasoning",),
    "judge_pointwise": ("reasoning",),
}
_MARKED = re.compile(r"</?([a-z0-9_]+)\{\{-? *mark *-?\}\}>")


class Templates:
    """The packaged templates, each replaced by a file of the same name in the user's folder where there is one."""

    def __init__(self, folder: str | None = None):
        if folder and not Path(folder).is_dir():
            raise ConfigError(f"annotation.templates: there is no folder {folder}")
        folders: Sequence[Path] = [Path(folder), PACKAGED] if folder else [PACKAGED]
        self._environment = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(folders), undefined=jinja2.StrictUndefined, keep_trailing_newline=False
        )
        self._tags: dict[str, frozenset[str]] = {}
        sample = Prompt.from_text("conversation")
        for name, values in VALUES.items():  # a template that cannot work is found before the first call
            given = {v: f"<{v} value>" for v in values}
            try:
                self._tags[name] = frozenset(TAGS).union(_MARKED.findall(self.source(name)))
                text, _ = self.render(name, sample, **given)
                switched = {s: self.render(name, sample, **given, **{s: "yes"})[0] for s in SWITCHES.get(name, ())}
            except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError) as error:
                raise ConfigError(f"template {name}.jinja: {error}") from error
            missing = [v for v in values if not all(f"<{v} value>" in t for t in (text, *switched.values()))]
            missing += [s for s, other in switched.items() if other == text]
            if missing:
                raise ConfigError(f"template {name}.jinja does not use {', '.join(missing)}")

    def render(self, name: str, prompt: Prompt, **values: str) -> tuple[str, str]:
        """The text to send, and the mark of its tags."""
        conversation = conversation_text(prompt)
        mark = fresh_mark((conversation, *values.values()), self._tags[name])
        template = self._environment.get_template(f"{name}.jinja")
        switches = dict.fromkeys(SWITCHES.get(name, ()), "")
        return template.render(conversation=conversation, mark=mark, **{**switches, **values}).strip(), mark

    def with_form(self, messages: Messages, schema: Schema) -> list[dict[str, str]]:
        """The messages, the last of which says that the answer is to be JSON of that schema."""
        form = self._environment.get_template("structured.jinja").render(fields=schema.described).strip()
        *before, last = messages
        return [*before, {**last, "content": f"{last['content']}\n\n{form}"}]

    def source(self, name: str) -> str:
        """The template itself, as it was found."""
        assert self._environment.loader is not None
        return self._environment.loader.get_source(self._environment, f"{name}.jinja")[0]


def conversation_text(prompt: Prompt) -> str:
    """A single user's turn as it is; anything longer as turns under the names of their roles."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n\n".join(f"[{m.role}]\n{m.content}" for m in prompt.messages)
