"""RewardBench 2 (Malik et al., 2025): one right response among several, and prompts with many right ones (Ties).

Outside Ties the right response must be at the top; where n responses share it, they share the credit: 1/n. Ties asks
more of prompts in two forms, `ref:N` with one right response and `tied:N` with many. Of a prompt, `gap` is the worst
right response less the best wrong one, and `spread` the best right response less the worst right one. Then (upstream's
`process_single_model`)

    ties = 0.3 · [gap > 0] of tied + 0.3 · [gap > 0] of ref + 0.2 · [gap > spread] of tied
         + 0.2 · [smaller gap > spread] + 0.01 · tanh(smaller gap / spread - 1)

each a mean over prompts, the last three over the N that are there in both forms; the smaller gap is of the two forms,
the spread that of the tied one. Without spread the last term is its limit, the sign of the gap, and 0 where both are 0
(as upstream). `ties` can thus reach 1.01. `average` is the plain mean of the subsets that are there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Hub, Outcome, Scores
from reward_distiller.evaluate.metrics import Metric, average, combined, grouped, mean
from reward_distiller.rows import Fields

SUBSETS = {
    "Factuality": "factuality",
    "Focus": "focus",
    "Math": "math",
    "Precise IF": "precise_if",
    "Safety": "safety",
    "Ties": "ties",
}


def read(rows: Sequence[Fields]) -> list[Example]:
    return [_example(fields) for fields in rows]


def _example(fields: Fields) -> Example:
    theirs, name = fields.require("subset"), str(fields.require("id"))
    subset = SUBSETS.get(str(theirs))
    if subset is None:
        raise fields.wrong("subset", f"{theirs!r:.60} is no subset", f"Name it {', '.join(SUBSETS)}")
    chosen, rejected = fields.texts("chosen"), fields.texts("rejected")
    if fields.get("num_correct") not in (None, len(chosen)):
        raise fields.wrong("num_correct", f"{fields.get('num_correct')!r:.20} of {len(chosen)} chosen", "Mend either")
    labels = {"subset": subset}
    if subset == "ties":
        labels["form"], _, labels["number"] = name.partition(":")
        if labels["form"] not in ("ref", "tied") or not labels["number"].isdecimal():
            raise fields.wrong("id", f"{name!r:.60} is no prompt of Ties", "Write ref:NUMBER or tied:NUMBER")
    several = labels.get("form") == "tied"
    if several != (len(chosen) > 1):
        mend = "A tied prompt has several right texts" if several else "Write the one right text"
        raise fields.wrong("chosen", f"{len(chosen)} texts", mend)
    return Example(f"{subset}:{name}", fields.prompt(), (*chosen, *rejected), right=len(chosen), labels=labels)


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    subset_of = {o.example.id: o.example.labels["subset"] for o in outcomes}
    found = grouped({o.example.id: _credit(o) for o in outcomes if subset_of[o.example.id] != "ties"}, subset_of)
    of_ties, notes = _ties([o for o in outcomes if subset_of[o.example.id] == "ties"])
    found |= of_ties
    present = [subset for subset in SUBSETS.values() if subset in found]
    absent = [subset for subset in SUBSETS.values() if subset not in found]
    if present:
        found["average"] = average([found[subset] for subset in present])
    if absent:
        notes.append(f"subsets not there: {', '.join(absent)}; average is over {', '.join(present) or 'none'}")
    return Scores(found, notes)


def _credit(outcome: Outcome) -> float:
    """1/n where the right response shares the top with n - 1 others, 0 where one of them is above it."""
    margin_W = outcome.margin_NN[0, 1:]
    return 1 / (1 + int((margin_W == 0).sum())) if bool((margin_W >= 0).all()) else 0.0


def _ties(outcomes: Sequence[Outcome]) -> tuple[dict[str, Metric], list[str]]:
    """The accuracies of both forms and, where all of its terms are there, `ties`."""
    forms: dict[str, dict[str, Outcome]] = {"tied": {}, "ref": {}}
    for o in outcomes:
        forms[o.example.labels["form"]][o.example.labels["number"]] = o
    found = {
        f"ties.{form}": mean({o.example.id: float(_gap(o) > 0) for o in of_form.values()})
        for form, of_form in forms.items()
        if of_form
    }
    preferred, preferred_hard, closeness = {}, {}, {}
    for number in sorted(forms["tied"].keys() & forms["ref"].keys()):
        tied, ref = forms["tied"][number], forms["ref"][number]
        spread, gap, smaller = _spread(tied), _gap(tied), min(_gap(tied), _gap(ref))
        if np.isnan(spread):
            return found, ["ties has no figure: the right responses were not compared with each other"]
        preferred[tied.example.id] = float(gap > spread)
        preferred_hard[tied.example.id] = float(smaller > spread)
        closeness[tied.example.id] = float(np.tanh(smaller / spread - 1) if spread else np.sign(smaller))
    if not preferred:
        return found, ["ties has no figure: no prompt is there in both forms, ref and tied"] if outcomes else []
    margins = [(0.2, mean(preferred)), (0.2, mean(preferred_hard)), (0.01, mean(closeness))]
    found["ties"] = combined([(0.3, found["ties.tied"]), (0.3, found["ties.ref"]), *margins])
    return found, []


def _gap(outcome: Outcome) -> float:
    right = outcome.example.right
    return float(outcome.margin_NN[:right, right:].min())


def _spread(outcome: Outcome) -> float:
    """NaN where the right responses were not compared with each other."""
    right = outcome.example.right
    margins = outcome.margin_NN[:right, :right][~np.eye(right, dtype=bool)]
    return float(margins.max())


BENCHMARK = Benchmark(
    name="rewardbench2",
    about="the right response among four in five skills, and prompts with many right ones",
    files=("data/test*", "test*.parquet", "test*.json*", "reward*bench*2*"),
    expects="id, subset, prompt, chosen and rejected (lists of texts)",
    read=read,
    metrics=metrics,
    hub=Hub("allenai/reward-bench-2", ("test",)),
)
