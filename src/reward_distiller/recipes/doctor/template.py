"""A chat template, looked at for what goes wrong without a word: a second BOS, a date, no generation prompt, a prompt
that is rendered otherwise once it has its answer. Knows no models; `ChatFormat` refuses what cannot be used at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jinja2

from reward_distiller.errors import ModelError
from reward_distiller.model.chat import FROZEN_DATE, ChatFormat
from reward_distiller.recipes.doctor.findings import Finding, ok, problem, warning

QUESTION, ANSWER = "How tall is an oak?", "Taller than you."
PROMPT = [{"role": "user", "content": QUESTION}]
DIALOGUE = [*PROMPT, {"role": "assistant", "content": ANSWER}, {"role": "user", "content": "And a birch?"}]
SYSTEM = {"role": "system", "content": "Be brief."}
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_DATE = re.compile(rf"\d{{4}}-\d\d-\d\d|\d{{1,2}} {_MONTH},? \d{{4}}|{_MONTH} \d{{1,2}},? \d{{4}}")


def check_template(check: str, tokenizer: Any) -> Iterator[Finding]:
    """`tokenizer` carries the template; it is left with its date frozen, as everywhere in this package."""
    asks_for_date = "strftime_now" in (tokenizer.chat_template or "")
    try:
        ChatFormat(tokenizer, check)
    except ModelError as error:
        yield problem(check, str(error))
        return
    found = list(_faults(check, tokenizer, asks_for_date))
    yield from found
    if not found:
        yield ok(check, "one BOS at most, no date, and a generation prompt that the whole conversation begins with")


def _faults(check: str, tokenizer: Any, asks_for_date: bool) -> Iterator[Finding]:
    whole = _render(tokenizer, [*PROMPT, {"role": "assistant", "content": ANSWER}])
    yield from _bos(check, tokenizer, whole)
    if asks_for_date:
        yield warning(
            check,
            "writes today's date into every chat",
            f"Here it is {FROZEN_DATE} for good, also in the exported template; elsewhere give the same",
        )
    elif date := _DATE.search(whole):
        yield warning(check, f"writes a date into every chat ({date[0]})", "Take it out of the template, if you can")
    for name, messages in {"": PROMPT, " of several turns": DIALOGUE, " with a system turn": [SYSTEM, *PROMPT]}.items():
        try:
            yield from _opening(check, tokenizer, messages, name)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            yield warning(check, f"cannot render a prompt{name} ({error})", "Such prompts would stop the run")


def _bos(check: str, tokenizer: Any, text: str) -> Iterator[Finding]:
    bos = tokenizer.bos_token_id
    if bos is None:
        return
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    plain = tokenizer("a")["input_ids"]
    if ids[:2] == [bos, bos]:
        yield problem(check, "begins with two BOS tokens", "Take one out of the template")
    elif ids[:1] != [bos] and plain[:1] == [bos]:
        yield warning(
            check,
            "writes no BOS, which the tokenizer puts before plain text",
            "The model was likely trained with one: write {{ bos_token }} at the template's start",
        )


def _opening(check: str, tokenizer: Any, messages: list[dict[str, str]], name: str) -> Iterator[Finding]:
    """What stands before the answer: with the generation prompt, without it, and in the whole conversation."""
    asked = _render(tokenizer, messages)
    opening = _render(tokenizer, messages, generate=True)
    whole = _render(tokenizer, [*messages, {"role": "assistant", "content": ANSWER}])
    if not whole.startswith(opening):
        yield problem(
            check,
            f"renders a prompt{name} otherwise once it has an answer, so the model would not be trained on what it "
            "is asked",
            "Write the template so that its generation prompt begins the assistant's turn",
        )
    elif opening == asked and not whole[len(opening) :].lstrip().startswith(ANSWER):
        yield problem(
            check,
            f"has no generation prompt{name}: a model asked to answer would first have to open its turn",
            "End the template with {% if add_generation_prompt %}...{% endif %}",
        )


def _render(tokenizer: Any, messages: list[dict[str, str]], generate: bool = False) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate))
