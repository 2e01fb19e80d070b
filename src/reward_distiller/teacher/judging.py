"""How a chat model is asked to judge responses, and what its verdict says: the table of formats.

`pairwise_scores`, `pairwise_ranking` and `pointwise` are ours, bare or with the judge's reasoning before its verdict
(pairwise comparison and grading of single answers: Zheng et al., 2023). `gram` (Wang et al., 2025) and `judgelrm` (Chen
et al., 2025) follow the answers that these generative reward models were trained to give. GRAM's own margin comes of
the probability of its letter; here it is the letter alone, since that is what every chat endpoint gives. Knows no
benchmarks, and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from reward_distiller.errors import ConfigError
from reward_distiller.records import Prompt
from reward_distiller.teacher.parsing import (
    parse_answer_blocks,
    parse_choice,
    parse_pair_scores,
    parse_ranking,
    parse_score,
    parse_verdict,
)
from reward_distiller.teacher.prompts import SWITCHES, VALUES, Templates
from reward_distiller.teacher.questions import Question


@dataclass(frozen=True)
class JudgeFormat:
    """A template and how its bare verdict is read.

    `read` gives the lead of the response shown first where two are shown, else the response's score.
    """

    template: str
    read: Callable[[str], float]

    @property
    def shown(self) -> int:
        """How many responses the judge sees at once: 2 or 1."""
        return len(VALUES[self.template])

    @property
    def pairwise(self) -> bool:
        return self.shown == 2

    @property
    def may_reason(self) -> bool:
        """Whether it can be asked for reasoning in our tags; a published format has its own way."""
        return "reasoning" in SWITCHES.get(self.template, ())

    def question(
        self, identity: str, prompt: Prompt, responses: Sequence[str], templates: Templates, reasoning: bool = False
    ) -> Question[float]:
        """One question about `shown` responses, in the order given."""
        values = dict(zip(VALUES[self.template], responses, strict=True))
        if not reasoning:
            text, _ = templates.render(self.template, prompt, **values)
            return Question(identity, [{"role": "user", "content": text}], self.read)
        text, mark = templates.render(self.template, prompt, **values, reasoning="yes")
        read = partial(parse_verdict, read=self.read, mark=mark)
        return Question(identity, [{"role": "user", "content": text}], read)


def _lead(parse: Callable[[str], tuple[float, float]]) -> Callable[[str], float]:
    """A parser of two scores as one of their difference."""

    def read(text: str) -> float:
        first, second = parse(text)
        return first - second

    return read


FORMATS: dict[str, JudgeFormat] = {
    "pairwise_scores": JudgeFormat("judge_pairwise_scores", _lead(parse_pair_scores)),
    "pairwise_ranking": JudgeFormat("judge_pairwise_ranking", parse_ranking),
    "pointwise": JudgeFormat("judge_pointwise", parse_score),
    "gram": JudgeFormat("judge_gram", parse_choice),
    "judgelrm": JudgeFormat("judge_judgelrm", _lead(parse_answer_blocks)),
}


def format_named(name: str, reasoning: bool = False) -> JudgeFormat:
    """Raises ConfigError for a name that is none, and for reasoning where the format leaves no room for it."""
    if name not in FORMATS:
        raise ConfigError(f"{name!r} is no judge format. Use one of {', '.join(FORMATS)}")
    if reasoning and not FORMATS[name].may_reason:
        able = ", ".join(other for other, form in FORMATS.items() if form.may_reason)
        raise ConfigError(f"judge format {name} has a form of its own. Ask for reasoning with one of {able}")
    return FORMATS[name]
