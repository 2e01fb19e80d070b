r"""Answers that are expressions, such as \sqrt{2}, 2\pi or x+1, read by math-verify. Knows no responses.

What math-verify takes is bounded beforehand, since its own time limit is a signal that only the main thread can have,
and ANTLR and SymPy can run for hours: short texts of known signs, shallow brackets, small exponents, no towers. Its
traps are kept away: it adds numbers that stand side by side (3(4) as 7), and calls them functions (x(2)).
Two expressions are the same where they have the same value to 30 digits at fixed points of their letters: unlike
math-verify's `verify` that is symmetric, has no rounding to six decimals, and simplifies nothing, which has no bound.
"""

from __future__ import annotations

import re
import threading
from fractions import Fraction
from functools import lru_cache
from typing import Any

_LENGTH = 60
_DEPTH = 3
_LETTERS = 3
_EXPONENTS = 12  # their product
_DIGITS = 30  # that two values share where they are the same
_LETTER = "abcdfghkmnpqrstuvwxyz"  # e and i are numbers, l and j and o are misread
_TOKEN = re.compile(
    rf"\d{{1,15}}(?:\.\d{{1,10}})?|\\(?:frac|sqrt|pi|cdot|times|div)(?![A-Za-z])|(?<![A-Za-z])[{_LETTER}](?![A-Za-z])"
    r"|[-+*/(){}\[\]^ ]"
)
_EXPONENT = re.compile(r"\^(?:(\d)|\{(-?\d{1,2})\})(?![\d.]| *\^)")
_INDEX = re.compile(r"\[(\d)\]")
_DECIMAL = re.compile(r"(\d+)\.(\d+)")
_SIDE_BY_SIDE = re.compile(r"(?<=[\d)}A-Za-z]) *(?=\()|(?<=\)) *(?=[\d\\A-Za-z])|(?<=\}) *(?=\d)")
_NUMBERS_APART = re.compile(r"\d +\d|(?<![A-Za-z\\])[a-z] *\d|\d *\\frac")
_SIGNS = re.compile(r"[-+] *[-+] *[-+]")
# A letter's values at the points where expressions are compared.
_POINTS = tuple({name: Fraction(7 * i + 13, 3 * i + k) for i, name in enumerate(_LETTER)} for k in (5, 7, 11))
_LOCK = threading.Lock()  # ANTLR's automata are shared and not guarded


def harmless(text: str) -> bool:
    """Whether an expression is so plain that reading it, and working it out, takes no time."""
    if len(text) > _LENGTH or _SIGNS.search(text) or _NUMBERS_APART.search(text) or not re.search(r"[a-z\d]", text):
        return False
    if _TOKEN.sub("", text) or len(set(re.findall(rf"(?<!\\)\b[{_LETTER}]\b", text))) > _LETTERS:
        return False
    exponents = [abs(int(one or other)) for one, other in _EXPONENT.findall(text)]
    indices = [int(index) for index in _INDEX.findall(text)]
    if len(exponents) != text.count("^") or len(indices) != text.count("["):
        return False
    product = 1
    for factor in (*exponents, *indices):
        product *= max(factor, 1)
    return product <= _EXPONENTS and _depth(text) <= _DEPTH


def _depth(text: str) -> int:
    """Of the brackets, whatever their kinds."""
    depth = deepest = 0
    for sign in text:
        depth += (sign in "({[") - (sign in ")}]")
        deepest = max(deepest, depth)
    return deepest


def read_expression(text: str) -> str | Fraction | None:
    """A number where the expression is one, else its text, which `same_value` takes; None where it cannot be read."""
    text = " ".join(text.split())
    found = _parsed(text)
    if found is None:
        return None
    if not found.free_symbols:
        import sympy

        number = sympy.expand(found.doit())
        if number.is_Rational:
            return Fraction(int(number.p), int(number.q))
    return text if _values(text) is not None else None


def same_value(a: str, b: str) -> bool:
    """Whether two answers (of `read_expression`, or numbers as text) have the same values. Symmetric; never raises."""
    if a == b:
        return True
    ours, theirs = _values(a), _values(b)
    if ours is None or theirs is None:
        return False
    import sympy

    bound = sympy.Float(10, _DIGITS) ** -_DIGITS
    return all(bool(abs(x - y) <= bound * max(abs(x), abs(y))) for x, y in zip(ours, theirs, strict=True))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """SymPy's expression, or None."""
    if not harmless(text):
        return None
    text = _DECIMAL.sub(lambda match: rf"\frac{{{match[1]}{match[2]}}}{{1{'0' * len(match[2])}}}", text)
    text = _SIDE_BY_SIDE.sub(r" \\cdot ", text)
    import sympy
    from math_verify import parse
    from sympy.core.function import AppliedUndef

    with _LOCK:
        found = parse(f"${text}$", [_latex()], fallback_mode="no_fallback", parsing_timeout=None)
    if len(found) != 1 or not isinstance(found[0], sympy.Expr) or found[0].has(AppliedUndef, sympy.zoo, sympy.nan):
        return None
    return found[0]


@lru_cache(maxsize=1)
def _latex() -> Any:
    """math-verify's settings: it finds the expression between the dollars and changes nothing in it."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parser

    parser.TIMEOUT_WARNING_SHOWN = True  # the bound that it asks for is ours
    return LatexExtractionConfig(normalization_config=NormalizationConfig(basic_latex=False, boxed="none"))


@lru_cache(maxsize=4096)
def _values(text: str) -> tuple[Any, ...] | None:
    """At each of the points, to more digits than are compared; None where one of them is no finite number."""
    import sympy

    if re.fullmatch(r"-?\d+(?:/\d+)?", text):
        number = Fraction(text)
        return (sympy.Rational(number.numerator, number.denominator).n(_DIGITS + 20),) * len(_POINTS)
    found = _parsed(text)
    if found is None:
        return None
    values = []
    for point in _POINTS:
        known = {
            symbol: sympy.Rational(point[symbol.name].numerator, point[symbol.name].denominator)
            for symbol in found.free_symbols
            if symbol.name in point
        }
        values.append(found.doit().subs(known).evalf(_DIGITS + 20, maxn=400))
    return tuple(values) if all(value.is_number and value.is_finite for value in values) else None
