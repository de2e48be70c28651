import pytest

from benchmarks.report import Bar, Report
from benchmarks.summary import markdown
from benchmarks.timing import Timing


def test_tables_hold_bars_rows_and_machines(tmp_path, monkeypatch):
    # Oracle: by hand.
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123")
    report = Report("pq", {"segments": 40}, skipped=["No peer."])
    report.add("40 segments", {"ours": Timing(0.005, 0.004, 0.006, 0.005, 3)}, {"ours": {"difference": 0.25}})
    report.bars += [Bar("times faster", 12.0, ">=", 10.0), Bar("share", 0.9, "<=", 0.5)]
    report.write(tmp_path / "pq.json")
    lines = markdown([tmp_path / "pq.json"]).splitlines()
    assert lines[2:4] == [
        "| times faster | 12 | >= 10 | yes | pq.json |",
        "| share | 0.9 | <= 0.5 | **no** | pq.json |",
    ]
    assert lines[7] == "| pq | 40 segments | ours | 5 ms | 4 ms - 6 ms | difference 0.25 |"
    assert lines[11].startswith("| pq.json | ")
    assert lines[11].endswith(", MALLOC_TRIM_THRESHOLD_=123 | segments 40 | No peer. |")


@pytest.mark.parametrize(("text", "message"), [("{", "is not valid JSON"), ("[]", "is no report"), (None, "not exist")])
def test_what_is_no_report_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        markdown([tmp_path / "a.json"])
