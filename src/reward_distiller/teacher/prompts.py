"""The prompts sent to the teacher: Jinja files, packaged in `templates/` and replaceable one by one.

Each template gets `conversation` (the prompt as text), `mark` (the suffix of every tag, see
`parsing.fresh_mark`) and the texts that it is about. Values are put in as they are: nothing in them is
read as a template.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from reward_distiller.errors import ConfigError
from reward_distiller.records import Prompt
from reward_distiller.teacher.parsing import fresh_mark

PACKAGED = Path(__file__).parent / "templates"
# Template -> the values that it must use; `conversation` and `mark` it may use.
VALUES: dict[str, tuple[str, ...]] = {
    "pairwise_scores": ("response_1", "response_2"),
    "refinement": ("preferred", "rejected"),
    "calibrated_score": ("anchor",),
    "critique": ("response",),
    "attribute_scores": ("response", "attributes"),
    "rewrite": ("response", "direction", "aspects"),
}


class Templates:
    """The packaged templates, each replaced by a file of the same name in the user's folder where there is one."""

    def __init__(self, folder: str | None = None):
        if folder and not Path(folder).is_dir():
            raise ConfigError(f"annotation.templates: there is no folder {folder}")
        folders: Sequence[Path] = [Path(folder), PACKAGED] if folder else [PACKAGED]
        self._environment = SandboxedEnvironment(
            loader=jinja2.FileSystemLoader(folders), undefined=jinja2.StrictUndefined, keep_trailing_newline=False
        )
        sample = Prompt.from_text("conversation")
        for name, values in VALUES.items():  # a template that cannot work is found before the first call
            try:
                text, _ = self.render(name, sample, **{v: f"<{v} value>" for v in values})
            except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError) as error:
                raise ConfigError(f"template {name}.jinja: {error}") from error
            missing = [v for v in values if f"<{v} value>" not in text]
            if missing:
                raise ConfigError(f"template {name}.jinja does not use {', '.join(missing)}")

    def render(self, name: str, prompt: Prompt, **values: str) -> tuple[str, str]:
        """The text to send, and the mark of its tags."""
        conversation = conversation_text(prompt)
        mark = fresh_mark((conversation, *values.values()))
        template = self._environment.get_template(f"{name}.jinja")
        return template.render(conversation=conversation, mark=mark, **values).strip(), mark


def conversation_text(prompt: Prompt) -> str:
    """A single user's turn as it is; anything longer as turns under the names of their roles."""
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    return "\n\n".join(f"[{m.role}]\n{m.content}" for m in prompt.messages)
