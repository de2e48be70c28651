import json

from benchmarks.report import Bar, Report
from benchmarks.timing import Timing


def make():
    report = Report("fusion", {"size": [2, 4]})
    report.add("5 instances", {"ours": Timing(0.0123, 0.01, 0.02, 0.011, 7)}, {"ours": {"extra_mb": 1.5}})
    report.bars += [Bar("times faster", 12.0, ">=", 10.0), Bar("MB", 151.0, "<=", 150.0)]
    report.skipped.append("no peer")
    return report


def test_json_holds_the_figures_the_machine_and_the_commit(tmp_path, monkeypatch):
    # Oracle: round trip; the machine names what figures depend on.
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123")
    make().write(tmp_path / "a.json")
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["rows"][0]["timing"]["seconds"] == 0.0123
    assert [bar["reached"] for bar in written["bars"]] == [True, False]
    assert written["machine"]["processor"] and written["machine"]["cores"] >= 1
    assert "torch" in written["machine"]["packages"] and written["commit"]
    assert written["machine"]["allocator"]["MALLOC_TRIM_THRESHOLD_"] == "123"
