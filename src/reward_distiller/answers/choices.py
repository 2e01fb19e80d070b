r"""Final answers of multiple-choice tasks (MMLU-Pro: letters A to J). Knows letters, and not the options' texts.

The last statement counts: `\boxed{C}`, "the answer is (C)", "Answer: C". Without one, the last line: "C", "C. text",
"**C**", or one letter in brackets somewhere in it. A bare "A" or "I" before further words is an article or a pronoun;
two letters in one statement, or a "not", are no answer, nor is the last of several lines "A. text", "B. text", nor the
first line under "the possible answers:".
"""

from __future__ import annotations

import re
import string
import unicodedata

from reward_distiller.answers.protocol import MARKERS, boxes, final_part, statement_behind
from reward_distiller.errors import ConfigError

_FULL_WIDTH = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)}
_MARKER = re.compile(
    r"\banswers?\b(?: (?:to|for) [^.\n:]{1,80}?)?(?:[*_]{0,3} ?(?:is|would be|=|:)[*_]{0,3} ?:?)+"
    r"|^[#*_ ]*answer[*_:]*$",
    re.IGNORECASE | re.MULTILINE,
)
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textsf|mathsf)\s?")
_LEAD = r"(?:(?:the|option|choice|letter|answer|most likely|probably|therefore|clearly)\s)*"
_BOLD = re.compile(r"\*\*\(?([A-Z])\)?[.:]?\*\*")
_LABEL = re.compile(r"\(?([A-Z])(?:\)[.:]?|[.:])(?=\s|$)")
_NOT = re.compile(r"\bnot\b|n't\b|n’t\b|\bneither\b|\bnone\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)(?<!\b[A-Za-z]\.)")


class ChoiceAnswers:
    """Letters from A on, one for each of the `options`."""

    def __init__(self, options: int = 10) -> None:
        """Raises ConfigError for a number of options that letters cannot name."""
        if not 2 <= options <= 26:
            raise ConfigError(f"options is {options}: give how many there are, from 2 to 26")
        upper = string.ascii_uppercase[:options]
        both = upper + upper.lower()
        letter = rf"(?:[(\[{{]\s?(?P<opened>[{both}])\s?[)\]}}]|(?P<bare>[{both}])(?![\w'’-]))"
        other = r"(?:\s?(?:,|/|&|;|\bor\b|\band\b|,\s?or\b|,\s?and\b)\s?)(?:(?:option|choice)\s)?"
        self._start = re.compile(rf"\s*{_LEAD}{letter}", re.IGNORECASE)
        self._joined = re.compile(rf"{other}(?:[(\[{{]\s?)?([{both}])(?![\w'’])")
        self._bracketed = re.compile(rf"[(\[{{]\s?([{both}])\s?[)\]}}]")
        self._upper = set(upper)

    def extract(self, response: str) -> str | None:
        text = final_part(response).translate(_FULL_WIDTH).replace("\u00a0", " ")
        found, cut = boxes(text)
        statements = [(start, content) for start, _, content in found]
        markers = [match.end() for match in _MARKER.finditer(text) if not _heads_list(match, text)][-MARKERS:]
        statements += [(place, statement_behind(text, place)) for place in markers]
        if cut:
            return None
        for _, statement in sorted(statements, reverse=True):
            letters = self._read(_plain(statement))
            if letters is not None:
                return letters.pop() if len(letters) == 1 else None
        return self._last_line(text)

    def same(self, a: str, b: str) -> bool:
        return a == b

    def _read(self, statement: str) -> set[str] | None:
        """The letters that a statement names; several or none at all is no answer, None is no statement on letters."""
        match = self._start.match(statement)
        if match is None or not self._is_letter(match, statement):
            sentence = _sentence(statement)
            letters = {letter.upper() for letter in self._bracketed.findall(sentence)}
            return (set() if _NOT.search(sentence) else letters) if letters else None
        letters = {(match["opened"] or match["bare"]).upper()}
        place = match.end()
        while further := self._joined.match(statement, place):
            if further[1] == "a" or (further[1] == "I" and statement[further.end() :][:2].strip().isalpha()):
                break  # "(C), a kind of", "C, and I am sure"
            letters.add(further[1].upper())
            place = further.end()
            place += statement[place : place + 1] in {")", "]", "}"}
        return letters

    def _is_letter(self, match: re.Match[str], statement: str) -> bool:
        letter = match["bare"]
        if letter is None:
            return True
        rest = statement[match.end() :]
        ends = not rest.strip() or rest.lstrip(" ")[0] in "\n.,;:)]}/&("
        if letter.islower() or letter in "AI":
            return ends or re.match(r"\s(?:because|since|as|and|or)\b", rest) is not None
        return True

    def _last_line(self, text: str) -> str | None:
        lines = [line for line in map(str.strip, text.splitlines()) if line]
        if not lines:
            return None
        last = _plain(lines[-1]).strip()
        if label := _LABEL.match(last):
            others = {found[1] for line in lines[:-1] if (found := _LABEL.match(_plain(line)))}
            return label[1] if label[1] in self._upper and not others - {label[1]} else None
        if re.fullmatch(r"[A-Za-z]|\([A-Za-z]\)", last):
            letter = last.strip("()").upper()
            return letter if letter in self._upper else None
        letters = {letter for letter in self._bracketed.findall(last) if letter in self._upper}  # (c) may be a list's
        letters |= {letter for letter in _BOLD.findall(lines[-1]) if letter in self._upper}
        return letters.pop() if len(letters) == 1 and not _NOT.search(last) else None


def _heads_list(match: re.Match[str], text: str) -> bool:
    """Whether a marker is a heading in the plural, with nothing behind it on its line."""
    if not match[0].lower().startswith("answers"):
        return False
    end = text.find("\n", match.end())
    return not text[match.end() : end if end >= 0 else None].strip(" *_#:\r\t")


def _plain(text: str) -> str:
    """Without the marks of Markdown and LaTeX around a letter."""
    text = _TEXT.sub("", text).replace("\\(", "").replace("\\)", "").replace("\\boxed", "")
    return re.sub(r"[*_$`\"'“”\\]+(?![st]\b)", "", text).lstrip(" :")


def _sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text
