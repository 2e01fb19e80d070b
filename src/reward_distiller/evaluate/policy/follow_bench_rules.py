"""FollowBench's rules: which rows need no judge, and when a response satisfies them (Jiang et al., 2024).

They decide as the benchmark's own scripts do, row by row, oddities included, since figures would not compare otherwise:
a full stop ends a sentence wherever it stands, words are counted at single spaces, the suffix -ly counts only behind a
hyphen, and no response satisfies levels 4 and 5 of format group 22, where a paragraph's number is a sentence too short.
A rule says of all constraints of a level at once whether they are satisfied. Knows one response at a time.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Sequence

Check = Callable[[str], bool]

_SENTENCE = re.compile(r"[.!?]")
_SPACE_BEHIND_AN_END = re.compile(r"(?<=[.?])\s")
_ABBREVIATED = re.compile(r"(?:\w\.\w[.?]|[A-Z][a-z]\.)\Z")
CLOSING = "Those are suggestions"


def _sentences(text: str) -> list[str]:
    return [part for part in _SENTENCE.split(text) if part]


def _count(low: int, high: int) -> Check:
    return lambda text: low <= len(_sentences(text)) <= high


def _words(low: int, high: int) -> Check:
    """As many single spaces as stand between that many words."""
    return lambda text: low <= text.count(" ") + 1 <= high


def _has(word: str) -> Check:
    return lambda text: re.search(rf"\b{re.escape(word)}\b", text) is not None


def _no(check: Check) -> Check:
    return lambda text: not check(text)


def _nth(number: int, check: Check) -> Check:
    """The sentence of that number (from 1) is there, and is so."""
    return lambda text: len(found := _sentences(text)) >= number and check(found[number - 1])


def _each_sentence(low: int, high: float) -> Check:
    return lambda text: all(low <= len(sentence.split()) <= high for sentence in _sentences(text))


def _marks(low: int, high: int) -> Check:
    return lambda text: low <= sum(character in string.punctuation for character in text) <= high


def _matches(pattern: str, flags: re.RegexFlag = re.NOFLAG) -> Check:
    return lambda text: re.search(pattern, text, flags) is not None


def _all(*checks: Check) -> Check:
    return lambda text: all(check(text) for check in checks)


# Source -> the check that each level adds. Level n is satisfied where the first n are.
ADDED: dict[str, tuple[Check, ...]] = {
    "cnn_dailymail": (
        _count(3, 3),
        _each_sentence(0, 14),
        _all(_nth(1, _has("Potter")), _nth(2, _has("actor")), _nth(3, _has("films"))),
        _no(_nth(2, _has("lavish"))),
        _nth(3, _matches(r"\b(?:has|have)\s+\w+")),
    ),
    "xsum": (
        _count(1, 1),
        _words(0, 19),
        _no(_has("Newton Stewart")),
        _matches(r"\b(?:am|is|are)\s+\w+ing\b"),
        _has("operation"),
    ),
    "samsum": (
        _count(1, 1),
        _words(0, 14),
        _has("stuff"),
        _no(_matches("procrast", re.IGNORECASE)),
        _marks(1, 1),
    ),
    "gigaword": (_words(8, 8), _marks(0, 0), str.islower, _no(_has("bus")), _has("in")),
    "arxiv": (
        _count(1, 1),
        _words(0, 20),
        lambda text: text.startswith("We"),
        _has("activations"),
        _no(_has("transformer")),
    ),
}


def _last(pattern: str) -> Callable[[str, str], bool]:
    """What the pattern finds last is the target."""
    return lambda text, target: re.findall(pattern, text)[-1:] == [target]


# Source -> whether a response is the target, whose text differs from level to level.
TARGETS: dict[str, Callable[[str, str], bool]] = {
    "E2E": str.__eq__,
    "text_editing": str.__eq__,
    "WIKIEVENTS": lambda text, target: set(text.split("\n")) <= set(target.split("\n")),
    "CONLL2003": lambda text, target: text in listed(target),
    "BBH_logical": _last(r"\([A-Z]\)"),
    "BBH_time": _last(r"\d{2}/\d{2}/\d{4}"),
    "self_made_space": lambda text, target: target in text,
    "gsm_8k": _last(r"\$\d+"),
}


def listed(target: str) -> list[str]:
    """Raises ValueError for a target that is no list of texts."""
    try:
        found = ast.literal_eval(target)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("not a list") from error
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError("not a list of texts")
    return found


def _table_care(text: str, level: int) -> bool:
    """Format group 22: three paragraphs of at most two sentences, each of over 20 words; numbers; closing words."""
    paragraphs = text.split("\n\n")
    numbered = all(re.match(r"\d+\.", start) for part in paragraphs if (start := part.lstrip()))
    checks = (
        len(paragraphs) == (3 if level < 5 else 4),
        all(len(_sentences(part)) < 3 for part in paragraphs[:3]),
        _each_sentence(21, float("inf"))(text),
        numbered,
        text.endswith(CLOSING),
    )
    return all(checks[:level])


def _speech(text: str, level: int) -> bool:
    """Format group 30: bold markers; five numbered keywords; a sentence a point, of 10 to 15 words; no suffix -ly."""
    sentences = _split_at_ends(text)
    points = [sentence for sentence in sentences if any(f"{number}." in sentence for number in range(1, 6))]
    checks = (
        "**" in text,
        len(re.findall(r"\*\*\d.+?:", text)) == 5,
        all(point.count(".") < 2 for point in points),
        all(10 <= len(sentence.split()) <= 15 for sentence in sentences),
        not any(word.endswith("-ly") for word in text.split()),
    )
    return all(checks[:level])


def _split_at_ends(text: str) -> Sequence[str]:
    """Sentences: cut at a white space behind a full stop or question mark that belongs to no abbreviation."""
    found, start = [], 0
    for space in _SPACE_BEHIND_AN_END.finditer(text):
        if not _ABBREVIATED.search(text[max(0, space.start() - 4) : space.start()]):
            found.append(text[start : space.start()])
            start = space.end()
    return [*found, text[start:]]


FORMATS: dict[int, Callable[[str, int], bool]] = {22: _table_care, 30: _speech}


def follows_example(response: str, target: str) -> bool:
    """Whether a response has the form that the examples have, on one line wherever the answer stands.

    `target` is {instruction}, then the form, with {answer} in it and braces doubled.
    """
    form = target.replace("{instruction}\n", "").replace("{{", "{").replace("}}", "}")
    pattern = ".*".join(re.escape(part) for part in form.split("{answer}"))
    return re.fullmatch(pattern, response) is not None


def decided(category: str, group: int, source: str) -> bool:
    """Whether a rule decides. `category` is that of the file: the same sources stand in others as well."""
    return category == "example" or source in ADDED or source in TARGETS or (category == "format" and group in FORMATS)


def satisfied(category: str, group: int, source: str, level: int, target: str, response: str) -> bool:
    """Whether all constraints of a level (1 to 5) are satisfied. Raises ValueError where no rule decides."""
    if category == "example":
        return follows_example(response, target)
    if source in ADDED:
        return all(check(response) for check in ADDED[source][:level])
    if source in TARGETS:
        return TARGETS[source](response, target)
    if category == "format" and group in FORMATS:
        return FORMATS[group](response, level)
    raise ValueError(f"no rule decides group {group} of {category}")
