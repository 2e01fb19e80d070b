"""Final answers of verifiable tasks, by format, and the majority vote over them. Knows no teacher and no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reward_distiller.answers.choices import ChoiceAnswers
from reward_distiller.answers.numbers import NumberAnswers
from reward_distiller.answers.pattern import PatternAnswers
from reward_distiller.answers.protocol import AnswerFormat
from reward_distiller.answers.voting import Vote, vote
from reward_distiller.errors import ConfigError

FORMATS: dict[str, Callable[..., AnswerFormat]] = {
    "number": NumberAnswers,
    "choice": ChoiceAnswers,
    "pattern": PatternAnswers,
}

__all__ = ["FORMATS", "AnswerFormat", "Vote", "answer_format", "vote"]


def answer_format(name: str, **options: Any) -> AnswerFormat:
    """`number`; `choice` (options=10); `pattern` (pattern=...). Raises ConfigError for another name or option."""
    if name not in FORMATS:
        raise ConfigError(f"unknown answer format {name!r}. Use one of: {', '.join(FORMATS)}")
    try:
        return FORMATS[name](**options)
    except TypeError as error:
        raise ConfigError(f"answer format {name!r}: {error}. Give the options that this format has") from error
