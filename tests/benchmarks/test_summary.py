import pytest

from benchmarks.summary import markdown
from tests.sweep import sweep


@sweep("text, message", [("{", "is not valid JSON"), ("[]", "is not a report"), (None, "not exist")])
def test_what_is_no_report_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        markdown([tmp_path / "a.json"])
