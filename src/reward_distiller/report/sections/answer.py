"""What the report opens with: how good it is, against what, how sure that is, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from reward_distiller.recipes.comparison_figures import title as metric_title
from reward_distiller.recipes.comparison_table import TRIVIAL, p_value
from reward_distiller.report.markup import facts, figure, joined, table
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section
from reward_distiller.report.text import ahead, between, name, percent, points, shown, spent

ONE_SEED = "One run with one seed: the interval is over prompts, and says nothing of what another seed would give."


def answer(run: Run) -> Section | None:
    of_kind = {
        "reward_model": _reward_model,
        "evaluate": _evaluation,
        "compare": _comparison,
        "rl": _policy,
        "data_and_rewards": _data_and_rewards,
        "pseudo_rewards": _pseudo_rewards,
    }
    html = of_kind[run.kind](run)
    return Section("answer", "The answer", html) if html else None


def _reward_model(run: Run) -> Markup:
    results = run.results
    lines = _tests(results)
    cost = ("What it cost", spent(results.get("cost") or []))
    if not lines:
        return joined(
            figure("–", "not evaluated", "Nothing says how good this reward model is: the config names no test."),
            facts([cost]),
        )
    (test, first), *_ = lines
    against = (results.get("ahead") or {}).get("held_out", {})
    sentences = [ahead(difference, _trivial(scorer)) for scorer, difference in against.items()]
    if test != "held-out pairs":
        sentences = []
    verdict = f"On {test}, {between(first)} over {first['n']:,} prompts" + (
        f"; {' and '.join(sentences)}." if sentences else ". Guessing has 50."
    )
    rows = [[what, percent(found), f"{found['n']:,}"] for what, found in lines]
    heads = ["test or scorer", "percent (95% interval)", "prompts"]
    sure = f"Intervals are 95%, over prompts. {ONE_SEED}"
    return joined(
        figure(f"{first['value']:.1f}%", "of comparisons in the right order", verdict),
        table("Against what: accuracy on every test, and what trivial scorers get", heads, rows),
        facts([("How sure", sure), cost]),
    )


def _tests(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each test's main figure, the one that is asked for first in front; trivial scorers behind the test of theirs."""
    found = []
    held_out = results.get("held_out") or {}
    if "accuracy" in held_out:
        found.append(("held-out pairs", held_out["accuracy"]))
        found += [(_trivial(scorer), held_out[scorer]) for scorer in held_out if f"held_out.{scorer}" in TRIVIAL]
    testbed = results.get("testbed") or {}
    found += [(f"testbed, {level}", testbed[level]) for level in ("average", "hard") if level in testbed]
    benchmarks = [group for group in results.get("contamination") or {} if results.get(group)]
    return found + [(name(group), next(iter(results[group].values()))) for group in benchmarks]


def _trivial(scorer: str) -> str:
    return TRIVIAL.get(f"held_out.{scorer}", name(scorer))


def _evaluation(run: Run) -> Markup:
    benchmarks = run.results["benchmarks"]
    cost = ("What it cost", spent(run.results.get("cost") or []))
    mains = {bench: next(iter(found["metrics"].items())) for bench, found in benchmarks.items() if found["metrics"]}
    if not mains:
        return facts([cost])
    (bench, (metric, first)), *_ = mains.items()
    against = _identity(run.results.get("against"))
    changes = {b: benchmarks[b].get("difference", {}).get(m) for b, (m, _) in mains.items()}
    change = changes[bench]
    verdict = f"{name(bench)}, {name(metric)}: {between(first)} over {first['n']:,} prompts" + (
        f"; {ahead(change, against)}, p {p_value(change['p'])}." if change else "."
    )
    heads = ["benchmark", "percent (95% interval)", "prompts", *([f"points to {against}", "p"] if against else [])]
    rows = [
        [f"{name(b)}, {name(m)}", percent(found), f"{found['n']:,}", *(_change(changes[b]) if against else [])]
        for b, (m, found) in mains.items()
    ]
    sure = "Intervals are 95%, over prompts." + (" p: paired test over prompts." if against else "")
    return joined(
        figure(f"{first['value']:.1f}%", "of comparisons in the right order", verdict),
        table(f"Scorer: {_identity(run.results['scorer'])}", heads, rows),
        facts([("How sure", sure), cost]),
    )


def _change(change: dict[str, Any] | None) -> list[str]:
    return [points(change), p_value(change["p"])] if change else ["–", "–"]


def _identity(scorer: dict[str, Any] | None) -> str:
    """A scorer in a few words; of a model's many hex digits, the first."""
    if not scorer:
        return ""
    kind, value = next(iter(scorer.items()))
    text = value if isinstance(value, str) else str(value)
    return shown(f"{name(kind)} {text[:12] if kind == 'model' and len(text) == 64 else text}")


def _comparison(run: Run) -> Markup:
    results = run.results
    compared, arms = results["compare_on"], results["arms"]
    if compared is None:
        return facts([("What was compared", "No run has a figure.")])
    first = next(iter(arms))
    with_figures = {arm: s for arm, entry in arms.items() if (s := entry["summary"].get(compared))}
    best = max(with_figures, key=lambda arm: with_figures[arm]["mean"])
    others = {arm: d for arm, entry in arms.items() if (d := entry["difference"].get(compared))}
    said = [f"{arm}: {_difference(d, first)}" for arm, d in others.items()]
    seeds = results["seeds"]
    sure = (
        f"{len(seeds)} seeds; intervals and p are Student's t over seeds."
        if len(seeds) > 1
        else "One seed: there is no p-value, and nobody knows what another seed would give."
    )
    cost = [row for entry in arms.values() for made in entry["runs"].values() for row in made["cost"]]
    verdict = f"{metric_title(compared)}: {best} has the highest mean of {len(with_figures)} arms. " + "; ".join(said)
    return joined(
        figure(f"{with_figures[best]['mean']:.1f}", f"{metric_title(compared)}, {best}", verdict),
        facts([("How sure", sure), ("What it cost", f"{spent(cost)}; what arms share was bought once")]),
    )


def _difference(d: dict[str, Any], first: str) -> str:
    if d["low"] is None:
        return f"{d['mean']:+.1f} to {first}"
    p = "" if d["p"] is None else f", p {p_value(d['p'])}"
    return f"{d['mean']:+.1f} [{d['low']:+.1f}, {d['high']:+.1f}] to {first}{p}"


def _policy(run: Run) -> Markup:
    ours, start = run.results.get("policy") or {}, run.results.get("start") or {}
    cost = ("What it cost", spent(run.results.get("cost") or []))
    if not ours:
        return facts([("How good", "No evaluation prompts, so there are no figures of the policy itself."), cost])
    main = next(n for n in ("quality", "accuracy", "reward", *ours) if n in ours)
    unit = f"{'percent, ' if main in ('quality', 'accuracy') else ''}{name(main)} of its responses"
    before = start.get(main)
    verdict = f"{between(ours[main], 2)} over {ours[main]['n']:,} prompts" + (
        f"; it started from {before['value']:.2f} ({between(before, 2)})." if before else "."
    )
    return joined(figure(f"{ours[main]['value']:.2f}", unit, verdict), facts([("How sure", ONE_SEED), cost]))


def _data_and_rewards(run: Run) -> Markup:
    results = run.results
    policy = results.get("policy") or {}
    cost = ("What it cost", spent(results.get("cost") or []))
    rows = _figure_rows([(which, results[which]) for which in results["runs"]])
    opening = Markup()
    if policy:
        main = next(n for n in ("accuracy", "quality", "reward", *policy) if n in policy)
        said = f"{between(policy[main], 2)} over {policy[main].get('n', 0):,} prompts."
        opening = figure(f"{policy[main]['value']:.2f}", f"{name(main)} of the last policy", said)
    heads = ["run", "figure", "value (95% interval)"]
    return joined(
        opening,
        table("The runs that it is made of, in their order", heads, rows, texts=2),
        facts([("How sure", ONE_SEED), cost]),
    )


def _pseudo_rewards(run: Run) -> Markup:
    results = run.results
    groups = [(group, results[group]) for group in ("responses", "vote", "chosen") if group in results]
    counts = results["counts"]
    what = f"labeled responses to {counts['queries']:,} queries, by {results['sampler']}"
    right = (results.get("responses") or {}).get("labels_right")
    verdict = (
        f"{percent(right)} percent of the labels are right, held against a truth that labeling never saw."
        if right
        else "No truth is known to hold the labels against."
    )
    return joined(
        figure(f"{counts['responses']:,}", what, verdict),
        table("Figures in percent", ["group", "figure", "percent (95% interval)"], _figure_rows(groups), texts=2),
        facts([("How sure", ONE_SEED), ("What it cost", spent(results.get("cost") or []))]),
    )


def _figure_rows(groups: Sequence[tuple[str, dict[str, Any]]]) -> list[list[str]]:
    return [[name(group), name(n), percent(found)] for group, figures in groups for n, found in figures.items()]
