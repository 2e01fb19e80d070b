"""Final answers that a regular expression of the user's finds. Knows nothing of what they mean.

The last match counts. A pattern that backtracks without end is the user's own matter: Python's `re` knows no time
limit, so keep unbounded repetitions out of each other.
"""

from __future__ import annotations

import re

from reward_distiller.errors import ConfigError

_GROUP = "answer"


class PatternAnswers:
    """Answers are what one group matched, stripped, casefolded, and with single spaces."""

    def __init__(self, pattern: str) -> None:
        """Raises ConfigError for a pattern that does not compile, or does not say which group is the answer."""
        try:
            self._pattern = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(f"pattern {pattern!r} is no regular expression ({error}). Mend it") from error
        if _GROUP in self._pattern.groupindex:
            self._group: str | int = _GROUP
        elif self._pattern.groups == 1:
            self._group = 1
        else:
            raise ConfigError(
                f"pattern {pattern!r} has {self._pattern.groups} groups, so which is the answer is not known. "
                "Put the answer in one group, or name its group: (?P<answer>...)"
            )

    def extract(self, response: str) -> str | None:
        found = None
        for found in self._pattern.finditer(response):  # noqa: B007  the last one is wanted
            pass
        if found is None or found[self._group] is None:
            return None
        return " ".join(found[self._group].casefold().split()) or None

    def same(self, a: str, b: str) -> bool:
        return a == b
