"""Pictures of panoptic segmentations: maps of colours, overlays with names, comparisons; pure functions on arrays.

Pictures are uint8 ``[h, w, 3]``, RGB. Colours ``(r, g, b)`` and names of classes come as sequences indexed by
train_id. Lines and letters grow with the picture.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from efficientps.lettering import draw_text, text_width, warn_of_missing
from efficientps.structures import VOID, PanopticSegmentation, Segment

Picture: TypeAlias = NDArray[np.uint8]
Color: TypeAlias = tuple[int, int, int]

_BACKGROUND: Color = (20, 22, 26)
_TEXT: Color = (236, 238, 240)
# Steps of the lightness and the hue from one instance to the next: multiples of irrational numbers fill an interval
# evenly however many there are, and two that are independent fill it together.
_LIGHTNESS_STEP, _HUE_STEP = 0.6180339887, 0.4142135624


def colorize(panoptic: PanopticSegmentation, colors: Sequence[Color]) -> Picture:
    """Paint a panoptic map: stuff in the colours of its classes, each instance in a shade of its own, void hatched.

    Crowd regions are hatched in the colour of their class. The same map gives the same picture every time.

    Args:
        panoptic: the map, ``[h, w]``.
        colors: colour of each class by train_id.
    """
    segment_ids = panoptic.segment_ids.cpu().numpy()
    palette = [(0, 0, 0), *_segment_colors(panoptic.segments, colors)]
    index = _segment_index(segment_ids, panoptic.segments)
    picture = np.array(palette, dtype=np.uint8)[index]
    hatched = np.array([True, *(segment.is_crowd for segment in panoptic.segments)])[index]
    stripes = hatched & _stripes(segment_ids.shape)
    picture[stripes] = (0.6 * picture[stripes] + 56).astype(np.uint8)
    return picture


def overlay(
    image: Picture,
    panoptic: PanopticSegmentation,
    colors: Sequence[Color],
    names: Sequence[str] | None = None,
    *,
    alpha: float = 0.55,
) -> Picture:
    """Lay the colours of a panoptic map over its image, with the outlines of segments and the names of classes.

    Args:
        image: uint8 ``[h, w, 3]``.
        panoptic: the map, ``[h, w]``.
        colors: colour of each class by train_id.
        names: name of each class by train_id; without them nothing is written.
        alpha: weight of the colours, 0 shows the image alone.

    Raises:
        ValueError: if image and map are of different sizes.
    """
    if image.shape[:2] != tuple(panoptic.segment_ids.shape):
        raise ValueError(
            f"The image has the size {image.shape[:2]} and the panoptic map {tuple(panoptic.segment_ids.shape)}; "
            "resize one of them."
        )
    paint = colorize(panoptic, colors)
    picture = np.asarray(cv2.addWeighted(image, 1 - alpha, paint, alpha, 0), dtype=np.uint8)
    index = _segment_index(panoptic.segment_ids.cpu().numpy(), panoptic.segments)
    is_thing = np.array([False, *(segment.is_thing for segment in panoptic.segments)])
    _draw_outlines(picture, index, is_thing)
    return picture if names is None else _write_names(picture, index, panoptic.segments, colors, names)


def comparison(
    image: Picture,
    prediction: PanopticSegmentation,
    target: PanopticSegmentation,
    colors: Sequence[Color],
    names: Sequence[str] | None = None,
) -> Picture:
    """Show image, prediction and ground truth side by side, under their titles."""
    views = {
        "image": image,
        "prediction": overlay(image, prediction, colors, names),
        "ground truth": overlay(image, target, colors, names),
    }
    return grid([_entitle(view, title) for title, view in views.items()], columns=len(views))


def grid(figures: Sequence[Picture], *, columns: int = 1) -> Picture:
    """Arrange pictures in rows; those of other sizes are scaled to the width of the widest, and centred.

    Raises:
        ValueError: if there is no picture or no column.
    """
    if not figures or columns < 1:
        raise ValueError(f"A grid needs a picture and a column; there are {len(figures)} and {columns}.")
    width = max(figure.shape[1] for figure in figures)
    scaled = [_scale_to_width(figure, width) for figure in figures]
    height = max(figure.shape[0] for figure in scaled)
    gap = max(2, width // 128)
    rows = -(-len(figures) // columns)
    columns = min(columns, len(figures))
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), _BACKGROUND, dtype=np.uint8)
    for place, figure in enumerate(scaled):
        top = gap + place // columns * (height + gap) + (height - figure.shape[0]) // 2
        left = gap + place % columns * (width + gap)
        sheet[top : top + figure.shape[0], left : left + width] = figure
    return sheet


def _segment_index(segment_ids: NDArray[np.int32], segments: Sequence[Segment]) -> NDArray[np.int32]:
    """Return 1 + the position of each pixel's segment in the list, ``[h, w]``; 0 where it is void or not listed."""
    table = np.zeros(int(segment_ids.max(initial=VOID)) + 1, dtype=np.int32)
    for position, segment in enumerate(segments, start=1):
        if segment.id < len(table):
            table[segment.id] = position
    return table[segment_ids]


def _segment_colors(segments: Sequence[Segment], colors: Sequence[Color]) -> list[Color]:
    """Return the colour of each segment; the shades of a class follow the order of its segments' ids."""
    shades: dict[int, Color] = {}
    instances_of_class: dict[int, int] = {}
    for segment in sorted(segments, key=lambda segment: segment.id):
        color = colors[segment.train_id]
        if segment.is_thing and not segment.is_crowd:
            number = instances_of_class.get(segment.train_id, 0)
            instances_of_class[segment.train_id] = number + 1
            color = _shade(color, number)
        shades[segment.id] = color
    return [shades[segment.id] for segment in segments]


def _shade(color: Color, number: int) -> Color:
    """Return a shade of a colour; numbers that follow each other get lightnesses and hues far from each other."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in color))
    step = number * _LIGHTNESS_STEP % 1
    swing = number * _HUE_STEP % 1
    low, high = min(lightness, 0.36), max(lightness, 0.76)
    lightness = low + (lightness - low + step * (high - low)) % (high - low)
    hue = (hue + 0.1 * (swing if swing < 0.5 else swing - 1)) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation * (1 - 0.25 * step))
    return round(255 * red), round(255 * green), round(255 * blue)


def _stripes(size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return diagonal stripes, bool ``[h, w]``."""
    height, width = size
    period = max(6, min(height, width) // 48)
    return (np.add.outer(np.arange(height), np.arange(width)) % period) < max(1, period // 4)


def _draw_outlines(picture: Picture, index: NDArray[np.int32], is_thing: NDArray[np.bool_]) -> None:
    """Brighten the borders between segments in place: strongly around instances, softly between stuff."""
    strength = np.where(is_thing[index], 2, 1).astype(np.uint8)
    border = np.zeros(index.shape, dtype=np.uint8)
    for here, there in ((np.s_[:-1, :], np.s_[1:, :]), (np.s_[:, :-1], np.s_[:, 1:])):
        border[here] = np.maximum(
            border[here], np.maximum(strength[here], strength[there]) * (index[here] != index[there])
        )
    thickness = max(1, round(min(index.shape) / 400))
    border = np.asarray(cv2.dilate(border, np.ones((thickness, thickness), dtype=np.uint8)), dtype=np.uint8)
    for level, weight in ((1, 0.35), (2, 0.75)):
        where = border == level
        picture[where] = (picture[where] * (1 - weight) + 255 * weight).astype(np.uint8)


def _write_names(
    picture: Picture,
    index: NDArray[np.int32],
    segments: Sequence[Segment],
    colors: Sequence[Color],
    names: Sequence[str],
) -> Picture:
    """Write the name of each segment's class on it or, beside small instances, above or below it.

    The largest segments come first; a name that would cover another one, or hide what it names, is left out.
    """
    height, width = index.shape
    size = max(11, round(min(height, width / 2) / 36))
    warn_of_missing(tuple(names))
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas, "RGBA")
    areas = np.bincount(index.ravel(), minlength=len(segments) + 1)
    written: list[tuple[int, int, int, int]] = []
    for position in sorted(range(1, len(segments) + 1), key=lambda i: -areas[i]):
        if areas[position] < size**2:
            break
        segment = segments[position - 1]
        name = names[segment.train_id]
        label = (round(text_width(name, size)) + size // 2 * 2, round(1.45 * size))
        for box in _places_for(label, index == position, beside=segment.is_thing):
            if not any(_overlap(box, other) for other in written):
                written.append(box)
                draw.rounded_rectangle(box, radius=size / 3, fill=(*_darken(colors[segment.train_id]), 200))
                draw_text(draw, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), name, size, _TEXT)
                break
    return np.asarray(canvas)


def _places_for(label: tuple[int, int], mask: NDArray[np.bool_], *, beside: bool) -> list[tuple[int, int, int, int]]:
    """Return boxes ``(x0, y0, x1, y1)`` for the label (width, height) of a mask, the best first.

    The first place is on the mask, where it is widest, if half of the label lies on the mask and hides less than half
    of it. With ``beside``, places above and below the mask's box follow.
    """
    label_width, label_height = label
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    window = mask[top : top + height, left : left + width]
    distances = cv2.distanceTransform(np.pad(window, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = divmod(int(distances.argmax()), width)

    def box(x: float, y: float) -> tuple[int, int, int, int]:
        x0 = round(min(max(x - label_width / 2, 1), max(mask.shape[1] - label_width - 1, 1)))
        y0 = round(min(max(y - label_height / 2, 1), max(mask.shape[0] - label_height - 1, 1)))
        return x0, y0, x0 + label_width, y0 + label_height

    centre = box(left + column, top + row)
    covered = int(mask[centre[1] : centre[3], centre[0] : centre[2]].sum())
    places = [centre] if 2 * covered >= label_width * label_height and 2 * covered < mask.sum() else []
    if beside:
        x = left + width / 2
        places += [box(x, top - 0.6 * label_height), box(x, top + height + 0.6 * label_height)]
    return places


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether two boxes ``(x0, y0, x1, y1)`` share a pixel."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _darken(color: Color) -> Color:
    """Return a dark shade of a colour, on which light letters can be read."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in color))
    red, green, blue = colorsys.hls_to_rgb(hue, min(lightness, 0.18), saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def _entitle(picture: Picture, title: str) -> Picture:
    """Add a strip with a title above a picture."""
    size = max(12, round(min(picture.shape[0], picture.shape[1] / 2) / 22))
    strip = Image.new("RGB", (picture.shape[1], round(1.7 * size)), _BACKGROUND)
    draw_text(ImageDraw.Draw(strip), (strip.width / 2, strip.height / 2), title, size, _TEXT)
    return np.concatenate([np.asarray(strip), picture])


def _scale_to_width(picture: Picture, width: int) -> Picture:
    """Scale a picture to a width; its aspect ratio is kept."""
    if picture.shape[1] == width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
