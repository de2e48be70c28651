"""``summary``: Markdown tables of reports in JSON files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import readable


def markdown(paths: Sequence[Path]) -> str:
    """Return a table of all bars, a table of all rows, and a table of the files with commit, machine and options.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a file is not a report.
    """
    reports = [(path, _read(path)) for path in paths]
    lines = ["| bar | measured | limit | reached | file |", "|---|---|---|---|---|"]
    for path, report in reports:
        for bar in report["bars"]:
            reached = "yes" if bar["reached"] else "**no**"
            limit = f"{bar['relation']} {bar['limit']:.4g}"
            lines.append(f"| {bar['claim']} | {bar['value']:.3g} | {limit} | {reached} | {path.name} |")
    lines += ["", "| benchmark | case | side | median | quartiles | other figures |", "|---|---|---|---|---|---|"]
    for _, report in reports:
        for row in report["rows"]:
            timing, figures = row["timing"], ", ".join(f"{name} {_number(x)}" for name, x in row["figures"].items())
            median = readable(timing["seconds"]) if timing else ""
            spread = f"{readable(timing['low'])} - {readable(timing['high'])}" if timing else ""
            lines.append(f"| {report['benchmark']} | {row['case']} | {row['side']} | {median} | {spread} | {figures} |")
    lines += ["", "| file | commit | machine | options | left out |", "|---|---|---|---|---|"]
    for path, report in reports:
        options = ", ".join(f"{name} {value}" for name, value in report["options"].items())
        skipped = " ".join(report["skipped"])
        lines.append(f"| {path.name} | {report['commit']} | {_machine(report['machine'])} | {options} | {skipped} |")
    return "\n".join(lines)


def _machine(machine: dict[str, Any]) -> str:
    device = machine.get("gpu") or f"{machine['processor']}, {machine['cores']} cores, load {_load(machine)}"
    settings = "".join(f", {name}={value}" for name, value in machine.get("allocator", {}).items())
    return f"{device}, {machine['torch_threads']} threads, torch {machine['packages'].get('torch')}{settings}"


def _load(machine: dict[str, Any]) -> str:
    return str(machine.get("load_of_the_last_minute", "unknown"))


def _number(value: float | int | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"Report '{path}' does not exist.") from None
    except ValueError as error:
        raise ValueError(f"Report '{path}' is not valid JSON ({error}); measure it again.") from None
    if not isinstance(report, dict) or not {"benchmark", "commit", "machine", "options", "rows", "bars"} <= set(report):
        raise ValueError(f"'{path}' is not a report of scripts/benchmark.py; measure it again.")
    return report
