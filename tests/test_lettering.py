"""Names of classes in all alphabets, in pictures, charts and tables."""

import io
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTCollection, TTFont
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont, features

from efficientps.cli.output_encoding import escape_what_cannot_be_encoded
from efficientps.lettering import _runs, check_fonts, draw_text, text_picture, text_width, warn_of_missing
from efficientps.metrics.panoptic_quality_result import PanopticQualityResult
from efficientps.reporting.class_chart import class_figure

BUNDLED = Path(get_data_path(), "fonts/ttf")
NAMES = {
    "accents": "véhicule français",
    "Vietnamese": "xe đạp điện",
    "Cyrillic": "автомобиль",
    "Greek": "αυτοκίνητο",
    "Arabic": "سيارة",
    "Hebrew": "מכונית",
    "Chinese": "汽车",
    "Japanese": "じどうしゃ 自動車",
    "Korean": "자동차",
    "several": "car 汽车 سيارة",
}
ALWAYS = ("accents", "Vietnamese", "Cyrillic", "Greek", "Arabic", "Hebrew")
"""Those that the fonts which matplotlib brings along can write."""


def characters_of(path):
    """Return the characters of a font file, as fontTools reads them."""
    fonts = TTCollection(path).fonts if path.endswith(".ttc") else [TTFont(path)]
    return fonts[0].getBestCmap()


def skip_without_font(name):
    """Skip a test where nothing on this machine can write a name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            warn_of_missing.__wrapped__((name,))
        except UserWarning:
            pytest.skip(f"no font on this machine has {name}")


@pytest.mark.parametrize("alphabet", NAMES)
def test_each_character_is_drawn_by_a_font_that_has_it(alphabet):
    """Oracle: fontTools' reading of the fonts' tables; every character is drawn once, in its order."""
    name = NAMES[alphabet]
    if alphabet not in ALWAYS:
        skip_without_font(name)
    runs = _runs(name)
    assert "".join(run.text for run in runs) == name
    for run in runs:
        assert {ord(character) for character in run.text if character != " "} <= set(characters_of(run.font))
    ink = np.asarray(text_picture(name, 40))[..., 3] > 128
    assert not ink[0].any() and not ink[-1].any() and not ink[:, 0].any() and not ink[:, -1].any()  # nothing is cut
    assert ink.sum() > 40 * len(name)


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no libraqm here")
def test_arabic_letters_are_joined_from_right_to_left():
    """Oracle: by hand; Unicode's codes of the joined forms of the five letters, the last letter first."""
    seen, yeh, alef, reh, teh = "\ufeb3", "\ufef4", "\ufe8e", "\ufead", "\ufe93"
    font = ImageFont.truetype(BUNDLED / "DejaVuSans.ttf", 64, layout_engine=ImageFont.Layout.BASIC)
    joined = teh + reh + alef + yeh + seen
    expected, written = (Image.new("L", (320, 120)) for _ in range(2))
    width = font.getlength(joined)
    ImageDraw.Draw(expected).text((160 - width / 2, 60 + 0.36 * 64), joined, font=font, fill=255, anchor="ls")
    draw_text(ImageDraw.Draw(written), (160, 60), "سيارة", 64, (255,))
    assert text_width("سيارة", 64) == pytest.approx(width, abs=2)
    difference = np.abs(np.asarray(written, dtype=float) - np.asarray(expected, dtype=float))
    assert difference.mean() < 0.1 * np.asarray(expected).mean()


def test_marks_stay_with_their_letter_and_spaces_are_one():
    """Oracle: Unicode; a letter with its accent is the same text in one code or in two, a line break is a space."""
    for text, same in (("e\u0301tat", "état"), ("й\n  к", "й к")):
        np.testing.assert_array_equal(np.asarray(text_picture(text, 30)), np.asarray(text_picture(same, 30)))
    (run,) = _runs("q\u0301\u0323")  # there is no code for the whole
    assert len(run.text) == 3


@pytest.mark.parametrize("name", ["\U000f1234", "car \U000f1234 é", "\U000f1234\u0301"])
def test_a_character_that_no_font_has_is_said_and_drawn_as_a_box(name):
    with pytest.warns(UserWarning, match=r"No font on this machine has 1 of the characters .*EFFICIENTPS_FONTS"):
        warn_of_missing.__wrapped__((name, "road"))
    assert np.asarray(text_picture(name, 30))[..., 3].any()


def test_missing_libraqm_is_said_for_the_scripts_that_need_it(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: name != "raqm")
    with pytest.warns(UserWarning, match=r"Pillow has no libraqm here: .* 'سيارة' are neither joined"):
        warn_of_missing.__wrapped__(("road", "سيارة"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_missing.__wrapped__(("road", "véhicule"))


def test_the_users_font_is_taken_first(monkeypatch):
    """Oracle: Pillow's width of the text in that font."""
    _runs.cache_clear()
    monkeypatch.setenv("EFFICIENTPS_FONTS", str(BUNDLED / "DejaVuSerif.ttf"))
    check_fonts()
    assert text_width("été", 30) == ImageFont.truetype(BUNDLED / "DejaVuSerif.ttf", 30).getlength("été")
    _runs.cache_clear()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, r"The font '.*a\.ttf', which EFFICIENTPS_FONTS names, does not exist"),
        (b"no font", ValueError, r"The file '.*a\.ttf', .* is not a font that can be scaled"),
        (b"", ValueError, r"The file '.*a\.ttf', .* is not a font that can be scaled"),
    ],
)
def test_fonts_of_the_user_are_checked(tmp_path, monkeypatch, content, error, message):
    path = tmp_path / "a.ttf"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("EFFICIENTPS_FONTS", str(path))
    with pytest.raises(error, match=message):
        check_fonts()


def quality(names):
    ones = np.ones(len(names), dtype=int)
    return PanopticQualityResult.from_counts(0.8 * ones, ones, 0 * ones, 0 * ones, num_stuff=1)


def test_columns_of_a_table_stand_below_each_other():
    """Oracle: Unicode's widths of characters; each line of the classes ends in the same cell of a terminal."""
    names = ["road", "véhicule", "汽车", "自動車 (じどうしゃ)", "автомобиль"]
    lines = quality(names).table(names).splitlines()[2 : 2 + len(names)]
    widths = {sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in line) for line in lines}
    assert len(widths) == 1


def test_a_chart_leaves_other_alphabets_and_dollars_to_no_one_else():
    """Oracle: matplotlib's own warnings of missing glyphs, and its refusal of broken formulas."""
    names = ["$road^", "汽车", "سيارة", "véhicule"]
    skip_without_font("汽车")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = class_figure(quality(names), names, [(10, 20, 30)] * 4)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100)
    left = np.asarray(Image.open(picture).convert("L"))[:, :60]
    assert (left < 128).any(axis=1).sum() > 30  # rows with ink beside the bars


def test_an_output_of_another_encoding_gets_escapes(monkeypatch):
    """Oracle: Python's own escape of the character."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    escape_what_cannot_be_encoded()
    print("é 汽", flush=True)
    assert raw.getvalue() == b"\xe9 \\u6c7d\n"
