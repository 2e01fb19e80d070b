"""RLfR's reward on the testbed (arXiv 2507.22219): minus the share of words that a teacher's edit changes.

A rule for `function:` of a reward term. The testbed's fallible teacher edits the policy's own response as little as it
can. Of the paper's reward this is the edit distance alone: its other half, COMET, is about translation. What the
teacher was asked stands in no ledger; it is one refinement a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from reward_distiller.records import Message, Prompt
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.parsing import parse_refinement
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Unparsable
from reward_distiller.testbed.models import reply

TEMPLATES = Templates()
ASKS = 5


def minus_edits(messages: list[dict[str, str]], responses: Sequence[str], row: dict[str, Any]) -> list[float]:
    """From -1 (no word stays) to 0 (the teacher leaves the response as it is)."""
    prompt = Prompt.of(tuple(Message.model_validate(turn) for turn in messages))
    pairs = [(response.split(), _refined(prompt, response).split()) for response in responses]
    return [-Levenshtein.distance(old, new) / max(len(old), len(new), 1) for old, new in pairs]


def _refined(prompt: Prompt, response: str) -> str:
    """Raises Unparsable where no edit can be read of several answers."""
    text, mark = TEMPLATES.render("refinement", prompt, preferred=response, rejected=response)
    for sample in range(ASKS):
        request = {"model": "fallible", "messages": [{"role": "user", "content": text}], "sample": sample}
        try:
            return parse_refinement(read_completion(reply({**request, "testbed": {}})).text, mark).response
        except Unparsable as error:
            unread = error
    raise unread
