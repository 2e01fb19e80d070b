"""Answers as JSON by a schema, where the server holds the model to it (OpenAI, vLLM, SGLang: `response_format`).

The schema goes with the request and a last paragraph with the prompt, so a server that ignores the first can still
answer rightly; what comes back is read as strictly as any answer. Knows no endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reward_distiller.teacher.parsing import HIGHEST, LOWEST, Refinement, answer_of
from reward_distiller.teacher.questions import Unparsable


@dataclass(frozen=True)
class Schema:
    """Field -> what it holds. An answer has all of them and no other."""

    name: str
    fields: Mapping[str, Literal["number", "string"]]

    @property
    def request(self) -> dict[str, Any]:
        """Fields of a chat-completions request."""
        schema = {
            "type": "object",
            "properties": {name: {"type": kind} for name, kind in self.fields.items()},
            "required": list(self.fields),
            "additionalProperties": False,
        }
        wrapped = {"name": self.name, "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}}

    @property
    def described(self) -> str:
        return "\n".join(f'"{name}": {kind}' for name, kind in self.fields.items())

    def read(self, text: str) -> dict[str, Any]:
        """The object of an answer. Raises Unparsable for anything else, a field given twice among it."""
        try:
            found = json.loads(answer_of(text), object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise Unparsable("not one JSON object") from error
        if not isinstance(found, dict) or set(found) != set(self.fields):
            raise Unparsable(f"not an object with the fields {', '.join(self.fields)} alone")
        for name, kind in self.fields.items():
            if type(found[name]) not in ((int, float) if kind == "number" else (str,)):
                raise Unparsable(f"{name} is no {kind}")
        return found


PAIR_SCORES = Schema("pair_scores", {"score_1": "number", "score_2": "number"})
SCORE = Schema("score", {"score": "number"})
REFINEMENT = Schema("refinement", {"reasoning": "string", "edited_response": "string"})


def read_scores(schema: Schema, text: str) -> tuple[float, ...]:
    """The schema's numbers in its order, each on the scale."""
    found = schema.read(text)
    scores = tuple(float(found[name]) for name in schema.fields)
    outside = [score for score in scores if not LOWEST <= score <= HIGHEST]  # also what is no number, such as NaN
    if outside:
        raise Unparsable(f"score {outside[0]:g} is outside {LOWEST:g} to {HIGHEST:g}")
    return scores


def read_refinement(text: str) -> Refinement:
    """Diagnosis and edited response. As in tags, an empty response is none."""
    found = REFINEMENT.read(text)
    if not found["edited_response"].strip():
        raise Unparsable("empty edited response")
    return Refinement(found["reasoning"].strip(), found["edited_response"].strip())


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands twice")
    return found
