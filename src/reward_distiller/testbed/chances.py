"""How likely each thing was that a scripted model said: log-probabilities of its tokens, in OpenAI's format.

A teacher draws grades, or a letter that two grades decide; those have the chances of its own noise. All other tokens
follow from what was drawn, and are certain. Knows no prompts and no worlds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

LOWEST, HIGHEST = 1, 10  # grades
LEAST = 1e-12  # chances below it are left out: no draw shows them, and log 0 cannot be sent
END = "<|im_end|>"  # what stands for the end of the text where that was an alternative
# Numbers, words with the space before them, other space: together they are the whole text.
_TOKEN = re.compile(r"[0-9]{1,3}| ?[^\s0-9]+|\s+")


class Drawn(Protocol):
    """Something that was drawn, as the text of one token."""

    def chances(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class Grade:
    """Points with normal noise (`deviation` in points), rounded and kept on the scale."""

    points: float
    deviation: float

    def chances(self) -> dict[str, float]:
        below = [0.0, *(self._below(grade + 0.5) for grade in range(LOWEST, HIGHEST)), 1.0]
        found = {str(grade): below[n + 1] - below[n] for n, grade in enumerate(range(LOWEST, HIGHEST + 1))}
        return {grade: chance for grade, chance in found.items() if chance >= LEAST}

    def _below(self, bound: float) -> float:
        if not self.deviation:
            return float(round(self.points) < bound)
        return math.erfc((self.points - bound) / (self.deviation * math.sqrt(2))) / 2


@dataclass(frozen=True)
class Preference:
    """Which of two grades is higher, as a word: for the first, for the second, for neither (None: a coin decides)."""

    first: Grade
    second: Grade
    words: tuple[str, str, str | None]

    def chances(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for a, p in self.first.chances().items():
            for b, q in self.second.chances().items():
                won = [int(a) > int(b), int(a) < int(b), a == b]
                shares = won if self.words[2] else [won[0] + won[2] / 2, won[1] + won[2] / 2]
                for word, share in zip(self.words, shares):
                    found[str(word)] = found.get(str(word), 0.0) + p * q * share
        return {word: chance for word, chance in found.items() if chance >= LEAST}


def log_probabilities(text: str, drawn: Sequence[Drawn], top: int, split_ten: bool = False) -> dict[str, Any]:
    """OpenAI's `logprobs` of an answer; `top` alternatives a token, as far as there were any.

    `drawn` in the order of the text, each at the first token that can be it. With `split_ten`, 10 is the two tokens
    1 and 0: then the token 1 has the chances of both grades, and what follows it might have been the 0.
    """
    waiting, content, went_on = list(drawn), [], 0.0
    for match in _TOKEN.finditer(text):
        token = match[0]
        chances = waiting[0].chances() if waiting and _stands_alone(text, match) else {}
        if token not in chances:
            content.append(_entry(token, {token: 1 - went_on, "0": went_on} if went_on else {token: 1.0}, top))
            went_on = 0.0
            continue
        waiting.pop(0)
        zero = 0.0
        if split_ten and "10" in chances:
            ten = chances.pop("10")
            chances["1"] = chances.get("1", 0.0) + ten
            zero = ten / chances["1"]
        content.append(_entry("1" if zero and token == "10" else token, chances, top))
        went_on = zero if token == "1" else 0.0
        if zero and token == "10":
            following = _TOKEN.match(text, match.end())
            content.append(_entry("0", {"0": zero, following[0] if following else END: 1 - zero}, top))
    return {"content": content, "refusal": None}


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    """Not part of a name, such as the 1 of score_1."""
    before, after = text[: match.start()][-1:], text[match.end() :][:1]
    return not any(c.isalnum() or c == "_" for c in (before, after))


def _entry(token: str, chances: Mapping[str, float], top: int) -> dict[str, Any]:
    likeliest = sorted((t for t in chances if chances[t] >= LEAST), key=lambda t: -chances[t])[:top]
    return {**_chance(token, chances[token]), "top_logprobs": [_chance(t, chances[t]) for t in likeliest]}


def _chance(token: str, chance: float) -> dict[str, Any]:
    return {"token": token, "logprob": min(0.0, math.log(chance)), "bytes": list(token.encode())}
