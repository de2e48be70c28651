"""Write text of any alphabet into pictures, each character with a font that has it.

Pillow's own font has the characters of ASCII. Any other text is written with the first of these fonts that has all of
its characters: those that the environment variable ``EFFICIENTPS_FONTS`` names, DejaVu Sans, which matplotlib brings
along (Latin, Greek, Cyrillic, Arabic, Hebrew), and those that are installed. Where no font has them all, each part of
the text has its own. Pillow joins and orders the letters of Arabic and of Indic scripts where it has libraqm.
"""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from PIL import Image, ImageDraw, ImageFont, features

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

FONTS_VARIABLE = "EFFICIENTPS_FONTS"
"""Environment variable with the paths of font files that are tried first, separated as those in ``PATH``."""

_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_UNUSABLE = re.compile(r"last.?resort|adobe.?blank|emoji", re.IGNORECASE)
"""Names of fonts that draw a box, nothing, or a coloured bitmap for a character that they claim to have."""

_SPECIAL = re.compile(
    r"bold|black|heavy|italic|oblique|light|thin|medium|condensed|narrow|mono|serif|display|book", re.IGNORECASE
)
"""Parts of the names of fonts that are taken only where no plain one has the character."""

_JOINED = (range(0x0900, 0x0E00), range(0x0F00, 0x10A0), range(0x1780, 0x1800))
"""Scripts besides those from right to left whose letters are joined and reordered: Indic, Tibetan, Burmese, Khmer."""


class Run(NamedTuple):
    """Characters that follow each other and are written with one font; ``None`` is that of Pillow."""

    text: str
    font: str | None


def text_width(text: str, size: int) -> float:
    """Return the width of a text in pixels, for letters of a size in pixels."""
    return sum(_font(run.font, size).getlength(run.text) for run in _runs(text))


def draw_text(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], text: str, size: int, fill: tuple[int, ...]
) -> None:
    """Write a text around a point.

    Args:
        draw: writes into a picture.
        centre: x and y in pixels.
        text: one line, in any alphabet.
        size: size of the letters in pixels.
        fill: their colour.
    """
    runs = _runs(text)
    if len(runs) == 1 and runs[0].font is None:
        draw.text(centre, text, font=_font(None, size), fill=fill, anchor="mm")
        return
    x, baseline = centre[0] - text_width(text, size) / 2, centre[1] + 0.36 * size  # half of a capital letter
    for run in runs:
        font = _font(run.font, size)
        draw.text((x, baseline), run.text, font=font, fill=fill, anchor="ls")
        x += font.getlength(run.text)


def text_picture(text: str, size: int) -> Image.Image:
    """Return a text in black on a transparent picture that fits it, RGBA."""
    picture = Image.new("RGBA", (max(1, round(text_width(text, size)) + 2), round(1.5 * size)), (0, 0, 0, 0))
    draw_text(ImageDraw.Draw(picture), (picture.width / 2, picture.height / 2), text, size, (0, 0, 0, 255))
    return picture


def check_fonts() -> None:
    """Check the fonts that ``EFFICIENTPS_FONTS`` names.

    Raises:
        FileNotFoundError: one of them does not exist.
        ValueError: one of them is not a font.
    """
    for path in given_fonts():
        if not Path(path).is_file():
            raise FileNotFoundError(f"The font '{path}', which {FONTS_VARIABLE} names, does not exist.")
        if _face(path) is None:
            raise ValueError(f"The file '{path}', which {FONTS_VARIABLE} names, is not a font that can be scaled.")


def given_fonts() -> list[str]:
    """Return the paths in ``EFFICIENTPS_FONTS``."""
    return [path for path in os.environ.get(FONTS_VARIABLE, "").split(os.pathsep) if path]


@lru_cache(maxsize=256)
def warn_of_missing(texts: tuple[str, ...]) -> None:
    """Warn, once for the same texts, of characters that no font has, and of letters that are not joined."""
    missing = {character for text in texts for character in _needed(text) if not _some_font([character])}
    if missing:
        found = "".join(sorted(missing))
        shown = found if len(found) <= 10 else f"{found[:10]}..."
        warnings.warn(
            f"No font on this machine has {len(found)} of the characters in class names ({shown}): they are drawn as "
            "boxes. Install a font that has them, such as fonts-noto-cjk for Chinese, Japanese and Korean on Debian "
            f"and Ubuntu, or name the file of one in the environment variable {FONTS_VARIABLE}.",
            stacklevel=2,
        )
    if not features.check("raqm") and (joined := [text for text in texts if any(map(_is_joined, text))]):
        warnings.warn(
            f"Pillow has no libraqm here: the letters of class names such as '{joined[0]}' are neither joined nor "
            "ordered as their script asks for. Install a wheel of Pillow and, on Linux, the package libfribidi0.",
            stacklevel=2,
        )


def _is_joined(character: str) -> bool:
    """Return whether a character belongs to a script from right to left, or to one with joined letters."""
    is_leftward = unicodedata.bidirectional(character) in ("R", "AL")
    return is_leftward or any(ord(character) in script for script in _JOINED)


@lru_cache(maxsize=4096)
def _runs(text: str) -> tuple[Run, ...]:
    """Divide a text into runs of one font, from left to right."""
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    if text.isascii():
        return (Run(text, None),)
    if fonts := _some_font(_needed(text)):
        return (Run(text, fonts[0]),)
    runs: list[Run] = []
    for cluster in _clusters(text):
        needed = _needed(cluster)
        before = runs[-1].font if runs else None
        fonts = [before] if before and all(_has(before, ord(c)) for c in needed) else _some_font(needed)
        fonts = fonts or _some_font(needed[:1]) or _some_font("é")  # without its accents, or as a box
        font = fonts[0] if fonts else None
        if runs and font == before:
            runs[-1] = Run(runs[-1].text + cluster, font)
        else:
            runs.append(Run(cluster, font))
    strong = next((c for c in text if unicodedata.bidirectional(c) in ("L", "R", "AL")), "")
    return tuple(reversed(runs) if unicodedata.bidirectional(strong or "a") != "L" else runs)


def _clusters(text: str) -> Iterator[str]:
    """Yield each character with the marks that are drawn over or beside it."""
    cluster = ""
    for character in text:
        if cluster and unicodedata.category(character) not in ("Mn", "Mc", "Me", "Cf"):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _needed(text: str) -> list[str]:
    """Return the characters that a font must have to write a text: those that leave a mark."""
    normal = unicodedata.normalize("NFC", text)
    return [c for c in dict.fromkeys(normal) if not c.isspace() and unicodedata.category(c) not in ("Cf", "Cc")]


def _some_font(characters: Iterable[str]) -> list[str]:
    """Return a list with the first font that has all of some characters, an empty list where none has."""
    codes = [ord(character) for character in characters]
    fonts = (path for group in (given_fonts(), _other_fonts()) for path in group)
    return next(([path] for path in fonts if all(_has(path, code) for code in codes)), [])


@lru_cache(maxsize=1)
def _other_fonts() -> Sequence[str]:
    """Return DejaVu Sans, and the installed fonts, plain ones first."""
    from matplotlib import font_manager, get_data_path

    installed = [path for path in font_manager.findSystemFonts() if not _UNUSABLE.search(Path(path).name)]
    installed.sort(key=lambda path: (len(_SPECIAL.findall(Path(path).stem)), path))
    return [str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")), *installed]


@lru_cache(maxsize=65536)
def _has(path: str, code: int) -> bool:
    """Return whether a font has a glyph of its own for a character."""
    face = _face(path)
    return face is not None and face.get_char_index(code) != 0


@cache
def _face(path: str) -> FT2Font | None:
    """Open a font to ask for its characters; None if it is damaged, or cannot be scaled."""
    from matplotlib import ft2font

    try:
        face = ft2font.FT2Font(path)
    except (OSError, RuntimeError, ValueError):
        return None
    return face if face.scalable else None


@lru_cache(maxsize=256)
def _font(path: str | None, size: int) -> _Font:
    """Return a font to draw with, that of Pillow for ``None``."""
    return ImageFont.load_default(size=size) if path is None else ImageFont.truetype(path, size)
