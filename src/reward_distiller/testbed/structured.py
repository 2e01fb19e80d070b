"""A scripted teacher's answer as the JSON object that a request's schema asks for (`response_format`).

The schema's properties are filled by name: score_1 and score_2, score, an attribute, or the tag that holds a part of
an answer in text. Types beyond text and number, nesting and bounds are not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from reward_distiller.teacher.endpoint import Refused


def schema_properties(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The properties of the schema that a request asks for, None where it asks for text.

    Raises Refused for a form that is neither.
    """
    form = request.get("response_format") or {"type": "text"}
    try:
        if form["type"] == "text":
            return None
        properties = form["json_schema"]["schema"]["properties"] if form["type"] == "json_schema" else None
    except (LookupError, TypeError) as error:
        raise Refused("`response_format` holds no json_schema.schema.properties") from error
    if not isinstance(properties, dict) or not properties:
        raise Refused("`response_format` is neither text nor a json_schema of an object with properties")
    return properties


def as_json(text: str, properties: Mapping[str, Any]) -> str:
    """An answer in text as an object with these properties. Raises Refused for a property that it has nothing for."""
    parts = _parts(text)
    if len(parts) == len(properties) == 1:
        parts = dict(zip(properties, parts.values(), strict=True))
    missing = [name for name in properties if name not in parts]
    if missing:
        raise Refused(f"nothing to say for property {missing[0]!r}; this answer has {', '.join(parts)}")
    found = {name: part for name, part in parts.items() if name in properties}
    texts = {name for name, kind in properties.items() if isinstance(kind, dict) and kind.get("type") == "string"}
    return json.dumps({name: part if name in texts else _number(part) for name, part in found.items()})


def _parts(text: str) -> dict[str, str]:
    """The parts of an answer by name, in the order of the text."""
    first = re.match(r"<[a-z_]+(-[0-9]+)?>\n", text)
    tagged = _tagged(text, first[1] or "") if first else {}
    if tagged:
        verdict = _parts(tagged["verdict"]) if "verdict" in tagged else {}
        return {**tagged, **{name: part for name, part in verdict.items() if name != "text"}}
    lines = [re.fullmatch(r"([a-z_]+): ([0-9]+)", line) for line in text.split("\n")]
    if all(lines):
        return {line[1]: line[2] for line in lines if line}
    scores = text.split(" ")
    if all(re.fullmatch("[0-9]+", score) for score in scores):
        return {"score": text} if len(scores) == 1 else {f"score_{n}": score for n, score in enumerate(scores, 1)}
    return {"text": text}


def _tagged(text: str, mark: str) -> dict[str, str]:
    return dict(re.findall(rf"^<([a-z_]+){mark}>\n(.*?)\n</\1{mark}>$", text, re.DOTALL | re.MULTILINE))


def _number(part: str) -> int | str:
    return int(part) if re.fullmatch("[0-9]+", part) else part
