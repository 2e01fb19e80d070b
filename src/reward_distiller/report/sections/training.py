"""How a reward model was trained: the parts of the loss, accuracy, margins and the gradient's norm over the steps."""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.evaluate.plots import Curve
from reward_distiller.report.charts import Chart, curves, thinned
from reward_distiller.report.markup import charts, joined, paragraph
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section

STEP = "optimizer step, number"
PANELS = (  # id, title, what is drawn under which name, factor, y with its unit, caption
    (
        "loss",
        "Loss and what it is made of",
        {
            "loss": "loss",
            "pair_loss": "pair loss",
            "center": "centring, unweighted",
            "validation_pair_loss": "pair loss, validation",
        },
        1.0,
        "loss, mean over pairs",
        "The whole loss of a step, and its parts before they are weighted. The pair loss is what teaches the order of "
        "responses; its unit is the objective's own.",
    ),
    (
        "lm-loss",
        "What keeps the LM head",
        {"nll": "negative log-likelihood", "kl": "KL to the teacher"},
        1.0,
        "regularization, nats a token",
        "How well the language-model head still predicts the teacher's responses.",
    ),
    (
        "accuracy",
        "Accuracy",
        {"accuracy": "training pairs of the step", "validation_accuracy": "validation"},
        100.0,
        "pairs in the right order, percent",
        "Before the step's update. Pairs seen for the first time are a fair test; those of later epochs are not.",
    ),
    (
        "reward-margin",
        "Margin of the rewards",
        {"reward_margin": "chosen − rejected"},
        1.0,
        "mean margin, units of reward",
        "By how much the chosen responses of a step are ahead. It should grow, and then level off.",
    ),
    (
        "grad-norm",
        "Gradient norm",
        {"grad_norm": "before clipping"},
        1.0,
        "gradient norm, L2 (log scale)",
        "Spikes, or a norm that grows without end, say that the learning rate is too high.",
    ),
    (
        "learning-rate",
        "Learning rate",
        {"learning_rate": "learning rate"},
        1.0,
        "learning rate, per step",
        "Warm-up and decay, as they were.",
    ),
)


def training(run: Run) -> Section | None:
    parts = []
    for stage, rows in run.training.items():
        drawn = _drawn(stage, rows) if rows else []
        if drawn and len(run.training) > 1:
            parts.append(paragraph(f"Stage “{stage}”, {len(rows):,} steps.", "stage"))
        parts.append(charts(drawn))
    html = joined(*parts)
    return Section("training", "How it was trained", html) if html else None


def _drawn(stage: str, rows: Sequence[dict[str, float]]) -> list[Chart]:
    found = []
    for at, title, names, factor, y, caption in PANELS:
        lines = {shown: points for field, shown in names.items() if (points := points_of(rows, field, factor))}
        if not lines:
            continue
        several = len(rows) > len(next(iter(lines.values())))
        note = " Each point is a mean of neighbouring steps." if several else ""
        prefix = "training" if stage == "train" else f"training-{stage}"
        logarithmic = at == "grad-norm"
        found.append(curves(f"{prefix}-{at}", title, caption + note, lines, STEP, y, logarithmic=logarithmic))
    return found


def points_of(rows: Sequence[dict[str, float]], field: str, factor: float = 1.0) -> Curve:
    """The field's values over the steps that have it; nothing where it is always 0, and so not a part of this run."""
    points = [(row["step"], factor * row[field]) for row in rows if field in row]
    return thinned(points) if any(value for _, value in points) else []
