r"""Final answers of arithmetic tasks (GSM8K, GSM-Plus): where they stand, and which numbers they are.

The last statement of a text counts: `\boxed{x}`, `#### x`, "the answer is x", "Answer: x"; without one, its last
number. A response that was cut off inside a box, or never left its thoughts, has no answer.
Numbers are exact fractions: 4.50 is 9/2, 0.33 is not 1/3. Percent signs, currencies and units are dropped, as GSM8K's
gold answers have none: 25% is 25, and 2:00 pm is 2. A comma groups thousands, and never is a decimal one; words are no
numbers, so "5 million" is 5, and "it cannot be answered" (GSM-Plus's critical thinking) is no answer. Other expressions
are read by `expressions.py`. Answers are written as fractions: "18", "-9/2", or as the expression stands.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from reward_distiller.answers.expressions import harmless, read_expression, same_value
from reward_distiller.answers.protocol import MARKERS, boxes, final_part, statement_behind

_DIGITS = 60  # of a number, at most
_POWER = 60  # of ten, at most

_SIGNS = {
    **dict.fromkeys("\u2212\uff0d\ufe63", "-"),
    **dict.fromkeys("\uff0c\u066c", ","),
    **dict.fromkeys("\uff0e\u066b", "."),
    **dict.fromkeys("\u00a0\u202f\u2009\u2007", " "),
    **dict.fromkeys("\u2019\u2018", "'"),
    **dict.fromkeys("\uff05\u066a", "%"),
    **dict.fromkeys("\u2044\u2215\uff0f", "/"),
    "\uff04": "$",
    "\uff1a": ":",
    "\uff1d": "=",
    "×": "*",
    "·": "*",
    "÷": "/",
    "π": r"\pi ",
    "°": " ",
    "²": "^2",
    "³": "^3",
}
_FRACTION_SIGN = re.compile(r"(\d?)([¼½¾⅐-⅞↉])")
_LATEX = (
    (re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr|Bigl?|Bigr)(?![A-Za-z])"), ""),
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\,)(?=\d{3})"), ","),
    (re.compile(r"\\[,;:! ]|~"), " "),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"\^\s?(?:\\circ|\{\s?\\circ\s?\})|\\degree"), " "),
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\frac\s?(\d)\s?(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"(-?)\s?\\frac\s?\{\s?(\d{1,15})\s?\}\s?\{\s?(\d{1,15})\s?\}"), r" \1\2/\3"),
    (re.compile(r"√\s?(\d+)|√\s?\(([^()]*)\)"), r"\\sqrt{\1\2}"),
    (re.compile(r"\\(?:approx|simeq|Rightarrow|implies)|[≈⇒]"), "="),
    (re.compile(r"\\[()\[\]]"), " $ "),
    (re.compile(r"(?<![\d:])(\d{1,2}):00(?= ?(?:[ap]\.?m\b|o'clock))", re.IGNORECASE), r"\1"),
)

_CURRENCY = r"$€£¥₹₽₩₪₫₱"
_INTEGER = r"\d{1,3}(?:,\d{2,3})*,\d{3}(?![\d,]{0,3}\d)|\d{1,3}(?:'\d{3})+(?!\d)|\d{1,3}(?: \d{3})+(?! ?\d)|\d+"
# Versions, dates, and commas that group nothing: seen, so that no part of them is read.
_ODD = r"\d+(?:\.\d+){2,}|\d+(?:/\d+){2,}|\d+(?:,\d+){0,9},\d{4,}|\d{1,3}(?:,\d{3})+,\d\d?(?!\d)"
_SIGN = rf"(?<![\w)}}\]%])(?:-[{_CURRENCY}]?|[{_CURRENCY}]\s?-)"
_MIXED = r"(?P<whole>\d{1,15})(?: | and )(?P<top>\d{1,15})/(?P<bottom>[1-9]\d{0,14})(?![\d/.])"
_FRACTION = rf"(?P<over>{_INTEGER}) ?/ ?[{_CURRENCY}]?(?P<under>-?\d{{1,15}}(?:\.\d+)?)(?![\d/])"
_PLAIN = rf"(?P<plain>(?:{_INTEGER})(?:\.\d+)?|\.\d+)"
_OF_TEN = r"[eE](?P<e>[+-]?\d{1,4})(?![\w.])| ?(?:\*|x|\\times|\\cdot) ?10 ?(?:\^|\*\*) ?\{?(?P<ten>[+-]?\d{1,4})\}?"
_NUMBER = re.compile(
    rf"(?<![A-Za-z\d_.])(?P<odd>{_ODD})"
    rf"|(?P<sign>{_SIGN})?(?<![A-Za-z\d_^])(?<!\^\{{)(?:{_MIXED}|{_FRACTION}|{_PLAIN}(?:{_OF_TEN})?)"
)
_MARKER = re.compile(
    r"(?P<hashes>####+)|\banswers?\b(?: (?:to|for) [^.\n:]{1,80}?)?"
    r"(?:[*_]{0,3} ?(?:is|are|was|would be|will be|equals|=|:)[*_]{0,3} ?:?)+|^[#*_ ]*answer[*_:]*$",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING = re.compile(r"\s?\d{1,2}[.):]\s+\D*[A-Za-z]")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)")
_LEAD = re.compile(rf"(?:[\s*_`\"'(\[:~{_CURRENCY}]|about |approximately |around |exactly |only )*")
_MATH = re.compile(r"[\s*_:]*\$\$?([^$\n]{1,200})\$\$?(?!\d)")
_POWERED = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-z]{2,}|m) ?\^ ?\{?[23]\}?")
_LISTED = re.compile(rf"\s*(?:,|;|:|or|and)\s*[{_CURRENCY}]?\d")
_UNITS = re.compile(
    r"\([A-Za-z ]+\)|\b(?:m|g|l|[A-Za-z]{2,}) ?/ ?[A-Za-z]+|/ ?[A-Za-z]{2,}|(?<![\\A-Za-z])[A-Za-z]{2,}|%"
)
_PLAIN_UNIT = re.compile(r"[A-WYZa-w]?")


class NumberAnswers:
    """Answers that are one number, or one short expression."""

    def extract(self, response: str) -> str | None:
        text = _clean(final_part(response))
        found, cut = boxes(text)
        if cut:
            return None
        box_start, box = (found[-1][0], found[-1][2]) if found else (-1, "")
        for match in reversed([*_MARKER.finditer(text)][-MARKERS:]):
            if match.start() < box_start:
                break
            statement = statement_behind(text, match.end())
            if match["hashes"] and _HEADING.match(statement):
                continue
            answer = _said(statement)
            if answer is not None:
                return answer or None
            if match["hashes"] and text.rstrip().endswith(statement.strip()):
                return None
        return _whole(box) if found else _written(_last_number(text))

    def same(self, a: str, b: str) -> bool:
        return a == b or (not (_is_number(a) and _is_number(b)) and same_value(*sorted((a, b))))


def _is_number(answer: str) -> bool:
    return re.fullmatch(r"-?\d+(?:/\d+)?", answer) is not None


def _written(number: Fraction | None) -> str | None:
    return None if number is None else str(number)


@lru_cache(maxsize=4096)
def _sign(character: str) -> str:
    """A character as it is read: digits of every script, and signs that have more than one form."""
    digit = unicodedata.decimal(character, None)
    return str(digit) if digit is not None else _SIGNS.get(character, character)


def _clean(text: str) -> str:
    """In one form for each sign, LaTeX's plain fractions as 3/4."""
    text = _FRACTION_SIGN.sub(lambda match: f"{match[1]} {unicodedata.normalize('NFKC', match[2])}", text)
    text = "".join(map(_sign, text)) if not text.isascii() else text
    for pattern, written in _LATEX:
        text = pattern.sub(written, text)
    return text


def _whole(content: str) -> str | None:
    """What a box, or mathematics in dollars, holds: one number with its unit, or an expression; else None."""
    content = content.replace("$", "").rpartition("=")[2].strip(" .*\n\t")
    content = re.sub(r"^-\s+", "-", _POWERED.sub("", content))
    numbers = list(_NUMBER.finditer(content))
    if len(numbers) == 1:
        rest = _UNITS.sub("", content[: numbers[0].start()] + " " + content[numbers[0].end() :])
        if _PLAIN_UNIT.fullmatch(rest.strip(f" .,:*{_CURRENCY}")):
            return _written(_value(numbers[0]))
    found = read_expression(_UNITS.sub("", content) if not harmless(content) else content)
    return str(found) if found is not None else None


def _said(statement: str) -> str | None:
    """The number that a sentence behind a marker begins with, else its last one; "" where it begins with several."""
    math = _MATH.match(statement)
    if math and (answer := _whole(math[1])) is not None:
        return answer
    end = _SENTENCE_END.search(statement)
    sentence = statement[: end.start()] if end else statement
    bare = sentence.strip(" *_`$\t\r").rpartition("=")[2].strip()
    if re.search(r"\d ?[-+*/^(]|\\", bare) and not _NUMBER.fullmatch(bare) and harmless(bare):
        found = read_expression(bare)
        if found is not None:
            return str(found)
    rest = sentence.rpartition("=")[2]
    if not _NUMBER.search(rest):
        rest = sentence
    lead = _LEAD.match(rest)
    first = _NUMBER.match(rest, lead.end() if lead else 0) or _NUMBER.match(rest.lstrip(" *_:"))
    if first is not None:
        return "" if _LISTED.match(rest, first.end()) else _written(_value(first)) or ""
    return _written(_last_number(rest))


def _last_number(text: str) -> Fraction | None:
    last = None
    for last in _NUMBER.finditer(text):  # noqa: B007  the last one is wanted
        pass
    return None if last is None else _value(last)


def _value(match: re.Match[str]) -> Fraction | None:
    """None for what is no number (a version, a date), or a longer one than anybody means."""
    if match["odd"] or sum(map(str.isdigit, match[0])) > _DIGITS:
        return None
    if match["whole"]:
        number = int(match["whole"]) + Fraction(int(match["top"]), int(match["bottom"]))
    elif match["over"]:
        under = Fraction(match["under"])
        if not under:
            return None
        number = _decimal(match["over"]) / under
    else:
        power = int(match["e"] or match["ten"] or 0)
        if abs(power) > _POWER:
            return None
        number = _decimal(match["plain"]) * Fraction(10) ** power
    return -number if match["sign"] else number


def _decimal(written: str) -> Fraction:
    return Fraction(re.sub("[,' ]", "", written))
