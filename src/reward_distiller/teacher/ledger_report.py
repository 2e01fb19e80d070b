"""What the calls in a ledger came to: attempts and tokens by model and step, and money where prices are given.

What an attempt of unknown outcome may have been billed is counted at its worst case, beside what is known. What cannot
be known (no price, an answer whose server said no usage) is None, and `unknown` in the table, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any

from reward_distiller.config import ChatModel, Price
from reward_distiller.teacher.cost import money_of
from reward_distiller.teacher.endpoint import printable
from reward_distiller.teacher.ledger import LedgerReader

Prices = Mapping[str, Price | None]

# total() is a float, and so exact up to 2^53 tokens and no error above.
_LINES = """
    SELECT coalesce(q.model, '(no request)'), a.step, count(*),
        total(a.outcome = 'committed'), total(a.outcome = 'imported'), total(a.outcome = 'failed'),
        total(a.outcome IS NULL), total(r.input_tokens), total(r.output_tokens),
        total(a.outcome = 'committed' AND (r.input_tokens IS NULL OR r.output_tokens IS NULL)),
        total(CASE WHEN a.outcome IS NULL THEN a.worst_input END),
        total(CASE WHEN a.outcome IS NULL THEN a.worst_output END),
        total(a.outcome IS NULL AND (a.worst_input IS NULL OR a.worst_output IS NULL)),
        total(r.input_tokens * r.price_factor), total(r.output_tokens * r.price_factor),
        total(CASE WHEN a.outcome IS NULL THEN a.worst_input * coalesce(b.price_factor, 1.0) END),
        total(CASE WHEN a.outcome IS NULL THEN a.worst_output * coalesce(b.price_factor, 1.0) END)
    FROM attempts a LEFT JOIN requests q ON q.key = a.key
        LEFT JOIN responses r ON r.key = a.key AND r.attempt = a.id LEFT JOIN batches b ON b.id = a.batch
    GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Line:
    """The attempts of one model in one step. Tokens are those that committed answers were billed for.

    In the fields `..._at_price`, which money is made of, a token that was billed at half its price counts as half.
    """

    model: str
    step: str
    attempts: int
    committed: int
    imported: int
    failed: int
    unknown: int
    input_tokens: int
    output_tokens: int
    without_usage: int  # committed answers whose tokens are not known, and not in the sums
    worst_input: int  # tokens of the attempts of unknown outcome, at most
    worst_output: int
    without_worst: int  # attempts of unknown outcome whose worst case is not known, and not in the sums
    input_at_price: float
    output_at_price: float
    worst_input_at_price: float
    worst_output_at_price: float

    def money(self, price: Price | None) -> Decimal | None:
        """What the committed answers cost; None where it cannot be known."""
        return _money(price, self.input_at_price, self.output_at_price, self.committed, self.without_usage)

    def worst_money(self, price: Price | None) -> Decimal | None:
        """What the attempts of unknown outcome cost at most; None where it cannot be known."""
        return _money(price, self.worst_input_at_price, self.worst_output_at_price, self.unknown, self.without_worst)


@dataclass(frozen=True)
class Report:
    """Lines by model and step; the last one is their total. Money beside each where prices were given."""

    requests: int
    lines: list[Line]
    money: list[float | None] | None
    worst_money: list[float | None] | None

    def as_json(self) -> dict[str, Any]:
        """Numbers as they are; amounts of money that cannot be known are null."""
        rows = [asdict(line) for line in self.lines]
        for name, amounts in (("money", self.money), ("worst_money", self.worst_money)):
            for row, amount in zip(rows, amounts or [], strict=False):
                row[name] = amount
        total = {k: v for k, v in rows.pop().items() if k not in ("model", "step")}
        return {"requests": self.requests, "total": total, "lines": rows}

    def as_text(self) -> str:
        header = ["model", "step", "attempts", "committed", "imported", "failed", "unknown"]
        table = [[*header, "input tokens", "output tokens", *_cell("money", self.money)]]
        for number, line in enumerate(self.lines):
            counts = (line.attempts, line.committed, line.imported, line.failed, line.unknown)
            tokens = (line.input_tokens, line.output_tokens)
            known = [_known(sum_, line.committed, line.without_usage) for sum_ in tokens]
            table.append([line.model, line.step, *map(str, counts), *known, *_amount(self.money, number)])
        parts = [f"{self.requests} requests", text_table(table)]
        if self.lines[-1].unknown:
            parts += ["Attempts of unknown outcome (each may have been billed), at their worst case:", self._worst()]
        return "\n\n".join(parts)

    def _worst(self) -> str:
        table = [["model", "step", "attempts", "input tokens", "output tokens", *_cell("money", self.worst_money)]]
        for number, line in enumerate(self.lines):
            if line.unknown:
                tokens = (line.worst_input, line.worst_output)
                known = [_known(sum_, line.unknown, line.without_worst) for sum_ in tokens]
                table.append([line.model, line.step, str(line.unknown), *known, *_amount(self.worst_money, number)])
        return text_table(table)


def report(ledger: LedgerReader, prices: Prices | None = None) -> Report:
    """All calls of one moment. Raises LedgerError where the file cannot be read."""
    with ledger.snapshot():
        lines = [
            Line(model, step, *map(int, counts[:-4]), *counts[-4:]) for model, step, *counts in ledger.rows(_LINES)
        ]
        requests = int(next(ledger.rows("SELECT count(*) FROM requests"))[0])
    sums = {
        f.name: sum(getattr(line, f.name) for line in lines) for f in fields(Line) if f.name not in ("model", "step")
    }
    total = Line("total", "", **sums)
    if prices is None:
        return Report(requests, [*lines, total], None, None)
    money = [_shown(line.money(prices.get(line.model))) for line in lines]
    worst = [_shown(line.worst_money(prices.get(line.model))) for line in lines]
    return Report(requests, [*lines, total], [*money, _total(money)], [*worst, _total(worst)])


def bought(ledger: LedgerReader, model: ChatModel, step: str) -> list[dict[str, Any]]:
    """What a step has bought of a model, whichever run did, in the form of `Engine.cost`: a row, or none."""
    lines = [line for line in report(ledger).lines[:-1] if (line.model, line.step) == (model.model, step)]
    return [
        {
            "step": step,
            "model": model.model,
            "calls": line.committed,
            "input_tokens": line.input_tokens,
            "output_tokens": line.output_tokens,
            "without_usage": line.without_usage,
            "money": _shown(line.money(model.price)),
        }
        for line in lines
    ]


def prices_of(models: Iterable[ChatModel]) -> dict[str, Price | None]:
    """Price by model name; None where there is none, or two entries of one name say different things."""
    prices: dict[str, Price | None] = {}
    for model in models:
        same = prices.get(model.model, model.price) == model.price
        prices[model.model] = model.price if same else None
    return prices


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under the first one, in columns: texts to the left, what is a number or stands for one to the right.

    Control characters are shown as escapes: names come from servers and from other people's files.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    texts = 2  # the first columns
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < texts else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _money(price: Price | None, inputs: float, outputs: float, billed: int, not_known: int) -> Decimal | None:
    if not billed:
        return Decimal(0)
    return None if not_known else money_of(price, inputs, outputs)


def _shown(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


def _total(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def _known(number: int, counted: int, not_known: int) -> str:
    """A sum of tokens in which `not_known` of `counted` are missing."""
    if not not_known:
        return str(number)
    return "unknown" if not_known == counted else f"{number} + unknown"


def _cell(title: str, amounts: Sequence[float | None] | None) -> list[str]:
    return [] if amounts is None else [title]


def _amount(amounts: Sequence[float | None] | None, number: int) -> list[str]:
    if amounts is None:
        return []
    amount = amounts[number]
    return ["unknown" if amount is None else f"{amount:.4f}"]
