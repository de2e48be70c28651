"""Writes the files of ``scripts/gpu_report.sh``: a summary line after each step, and one report after the last step.

It imports the standard library only, so it works even if a package is missing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

_LINES_OF_A_LOG = 400
"""Number of last lines of a step's output that are kept."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``add`` after a step or ``finish`` after the last one."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add")
    for name in ("folder", "part", "step", "log", "report"):
        add.add_argument(name)
    add.add_argument("code", type=int)
    add.add_argument("seconds", type=int)
    finish = commands.add_parser("finish")
    finish.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "finish":
        print(f"All figures are in {finish_report(options.folder)}.")
        return 0
    print(
        add_step(
            Path(options.folder), options.part, options.step,
            code=options.code, seconds=options.seconds, log=Path(options.log), report=Path(options.report),
        )
    )  # fmt: skip
    return 0


def add_step(folder: Path, part: str, step: str, *, code: int, seconds: int, log: Path, report: Path) -> str:
    """Add the results of a step to ``steps_PART.jsonl``, ``log_PART.txt`` and ``summary_PART.txt``.

    Args:
        folder: folder of the report.
        part: A or B.
        step: name of the step.
        code: exit code of the step; 124 and 137 mean that ``timeout`` ended it, -1 that it did not run.
        seconds: duration of the step.
        log: file with the step's output; it may be missing.
        report: file with the step's measurements as JSON; it may be missing, and is deleted.

    Returns:
        The line of the summary.
    """
    found: dict[str, Any] | None = None
    if report.is_file():
        try:
            found = json.loads(report.read_text())
        except ValueError:
            found = None
        report.unlink()
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    with (folder / f"log_{part}.txt").open("a") as file:
        print(f"==== {step}: exit code {code}, {seconds} s", *lines[-_LINES_OF_A_LOG:], "", sep="\n", file=file)
    outcome = {0: "ok", -1: "skipped", 124: "out of time", 137: "out of time", 143: "out of time"}.get(code, "failed")
    if outcome == "ok" and found is not None and (found["skipped"] or any(not bar["reached"] for bar in found["bars"])):
        outcome = "ok, with bars missed or sides left out"
    entry = {"step": step, "outcome": outcome, "code": code, "seconds": seconds, "report": found}
    entry |= {"last_lines": lines[-12:] if found is None else []}
    with (folder / f"steps_{part}.jsonl").open("a") as file:
        print(json.dumps(entry), file=file)
    line = f"{step:<16} {outcome}, {seconds} s" + (": " + _figures(found, lines) if found or lines else "")
    with (folder / f"summary_{part}.txt").open("a") as file:
        print(line, file=file)
    return line


def finish_report(folder: Path) -> Path:
    """Write the measurements of both parts into one report, named after the GPU, and return its path."""
    entries = [
        json.loads(line) for path in sorted(folder.glob("steps_*.jsonl")) for line in path.read_text().splitlines()
    ]
    reports = [(entry["step"], entry["report"]) for entry in entries if entry["report"]]
    first = reports[0][1] if reports else {}
    machine = first.get("machine", {})
    merged = {
        "benchmark": "cuda" if "gpu" in machine else "cpu",
        "commit": first.get("commit", "unknown"),
        "machine": machine,
        "options": {},
        "rows": [row | {"case": f"{step}: {row['case']}"} for step, report in reports for row in report["rows"]],
        "bars": [bar for _, report in reports for bar in report["bars"]],
        "skipped": [f"{step}: {sentence}" for step, report in reports for sentence in report["skipped"]],
        "steps": [{key: entry[key] for key in ("step", "outcome", "seconds", "last_lines")} for entry in entries],
    }
    path = folder / f"{merged['benchmark']}_{card_slug(machine.get('gpu', 'none'))}.json"
    path.write_text(json.dumps(merged, indent=1) + "\n")
    return path


def card_slug(name: str) -> str:
    """Return a short form of a GPU's name for a file name.

    >>> card_slug("NVIDIA H100 80GB HBM3"), card_slug("NVIDIA GeForce RTX 4090"), card_slug("Tesla T4")
    ('h100', 'rtx4090', 't4')
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    known = [word for word in words if word not in ("nvidia", "geforce", "tesla", "quadro", "amd")]
    kept = known[:2] if known[:1] in (["rtx"], ["gtx"], ["titan"]) else known[:1]
    return "".join(kept) or "unknown"


def _figures(found: dict[str, Any] | None, lines: Sequence[str]) -> str:
    """Return a report in one line: missed bars, sides that were left out, rows."""
    if found is None:
        return " | ".join(line.strip()[:160] for line in lines[-3:] if line.strip())
    missed = [f"MISSED {bar['claim']} {bar['value']:.4g} ({bar['relation']} {bar['limit']:.4g})"
              for bar in found["bars"] if not bar["reached"]]  # fmt: skip
    reached = sum(bar["reached"] for bar in found["bars"])
    parts = [f"{reached} of {len(found['bars'])} bars reached"] * bool(found["bars"]) + missed
    parts += [f"LEFT OUT {sentence[:200]}" for sentence in found["skipped"]]
    for row in found["rows"]:
        timing = [f"{1000 * row['timing']['seconds']:.1f} ms"] if row["timing"] else []
        figures = [
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in row["figures"].items()
        ]
        parts.append(f"{row['case']}, {row['side']}: {', '.join(timing + figures)}")
    return " | ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
