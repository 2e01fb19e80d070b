"""An evaluation's results as Markdown: a section a benchmark, a row a figure. Knows only what results.json holds."""

from __future__ import annotations

from typing import Any


def table(results: dict[str, Any], *, details: bool = True) -> str:
    """`details` are the figures with a dot in their names, parts of the others. A judge's own are always shown."""
    parts: list[str] = []
    for name, found in results["benchmarks"].items():
        parts += [f"## {name}", "", *_figures(found, details), "", rows_line(found["rows"])]
        parts += [f"Note: {note}." for note in found["notes"]]
        parts.append("")
    for name, found in results.get("calibration", {}).items():
        parts += [f"## Calibration: {name}", "", "| | value (95% interval) | prompts |", "|---|---:|---:|"]
        parts += [f"| {figure} | {interval(v)} | {v['n']:,} |" for figure, v in found.get("figures", {}).items()]
        parts += [
            "",
            f"{found.get('pairs', 0):,} pairs, {found.get('ties', 0):,} of them ties; in {found['unit']}.",
            "",
        ]
    for name, found in results.get("bias_audit", {}).items():
        parts += [
            f"## Bias audit: {name}",
            "",
            "| style | partial correlation | pairs that differ |",
            "|---|---:|---:|",
        ]
        parts += [f"| {style} | {interval(v)} | {v['differing']:,} |" for style, v in found["style"].items()]
        parts += ["", "| edit | of the response that is | orders that flip | shift of its reward, sd | pairs |"]
        parts += ["|---|---|---:|---:|---:|"]
        for edit in found["edits"]:
            figures = " | ".join(interval(edit[figure]) for figure in ("flips", "shift"))
            parts.append(f"| {edit['edit']} | {edit['side']} | {figures} | {edit['pairs']:,} |")
        parts.append("")
    return "\n".join([*parts, *_contamination(results["contamination"]), ""])


def _figures(found: dict[str, Any], details: bool) -> list[str]:
    compared = found.get("difference", {})
    lines = ["| | percent (95% interval) | prompts |" + (" difference | p |" if compared else "")]
    lines.append("|---|---:|---:|" + ("---:|---:|" if compared else ""))
    for name, value in found["metrics"].items():
        if "." in name and not (details or name.startswith("judge.")):
            continue
        line = f"| {name} | {value['value']:.1f} [{value['low']:.1f}, {value['high']:.1f}] | {value['n']:,} |"
        if change := compared.get(name):
            line += f" {change['value']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}] | {change['p']:.4f} |"
        elif compared:
            line += " – | – |"
        lines.append(line)
    return lines


def rows_line(rows: dict[str, Any]) -> str:
    """What became of a benchmark's rows, in one line."""
    parts = [f"{rows['in']:,} rows: {rows['kept']:,} used, in {rows['examples']:,} examples"]
    parts += [f"{count:,} {reason}" for reason, count in rows["reasons"].get("dropped", {}).items()]
    parts += [f"{count:,} without an answer ({reason})" for reason, count in rows["no_answer"].items()]
    return "; ".join(parts) + "."


def interval(figure: dict[str, Any] | None, decimals: int = 3) -> str:
    """A value with its interval where it has one, a dash where it is not defined."""
    if figure is None or figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.{decimals}f}"
    return f"{figure['value']:.{decimals}f} [{figure['low']:.{decimals}f}, {figure['high']:.{decimals}f}]"


def _contamination(found: dict[str, Any]) -> list[str]:
    if not found["checked"]:
        return [f"Contamination was not checked: {found['why']}."]
    lines = [
        "## Training prompts that the benchmarks ask as well",
        "",
        "| | equal | nearly equal | of |",
        "|---|---:|---:|---:|",
    ]
    for name, count in found["benchmarks"].items():
        lines.append(f"| {name} | {count['exact']:,} | {count['near']:,} | {count['benchmark']:,} prompts |")
    return [*lines, "", f"{found['training_prompts']:,} training prompts; contamination.jsonl lists the matches."]
