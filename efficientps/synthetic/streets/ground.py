"""The street's cross-section and its surface: asphalt with markings, pavements, verges, and the shadows on them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from efficientps.synthetic.streets.camera import Array, Camera
from efficientps.synthetic.streets.canvas import Canvas
from efficientps.synthetic.streets.labels import ROAD, SIDEWALK, TERRAIN
from efficientps.synthetic.streets.lighting import Rgb
from efficientps.synthetic.streets.texture import noise_at, noise_nearest

LANE = 3.4
"""Width of a traffic lane, metres."""

_BLOCK = 2  # the ground's grain is computed for blocks of this many pixels

END = 150.0
"""Distance along the street at which the world ends, metres."""


@dataclass
class Side:
    """One side of the street, seen from the carriageway outwards; widths in metres."""

    kerb: float  # lateral position of the kerb's foot (absolute value)
    verge: float  # strip of grass behind the kerb; 0 is none
    pavement: float
    lawn: float  # strip of grass between pavement and frontage; 0 is none
    parking: float  # parking lane before the kerb, inside the carriageway; 0 is none
    openings: list[tuple[float, float]] = field(default_factory=list)  # side streets: intervals along the street

    @property
    def frontage(self) -> float:
        """Lateral position (absolute value) of the building line."""
        return self.kerb + self.verge + self.pavement + self.lawn

    def is_open(self, along: float, margin: float = 0.0) -> bool:
        """Whether a side street joins here."""
        return any(start - margin < along < end + margin for start, end in self.openings)


@dataclass
class Street:
    """A street: its bend, its two sides, its markings and materials."""

    curvature: float
    left: Side
    right: Side
    lanes: list[float]  # lateral positions of lane boundaries that carry a dashed line
    solid: list[float]  # lateral positions of solid lines
    crossings: list[float]  # distances along the street of zebra crossings
    tram_tracks: list[float]  # lateral positions of the centres of tram tracks
    asphalt: Rgb
    paving: Rgb
    grass: Rgb
    paving_tile: float  # side of a paving stone, metres
    wetness: float  # 0 dry .. 1 wet
    patches: list[tuple[float, float, float, float]]  # repairs: lateral, along, width, length


def ground_row(camera: Camera) -> int:
    """Return the first row below the horizon on which the ground is painted."""
    return int(np.ceil(camera.horizon + camera.focal * camera.y / (END * 6)))


def paint_ground(canvas: Canvas, street: Street, shadow: Array) -> None:
    """Paint everything below the horizon as ground, in colour and in ownership.

    Args:
        canvas: is painted on.
        street: layout.
        shadow: float32 ``[H, W]``, brightness factor of the ground's light.
    """
    camera, light = canvas.camera, canvas.light
    first = ground_row(camera)
    if first >= camera.height:
        return
    _lay_materials(canvas, street, first)
    _lay_markings(canvas, street)
    x, along, depth = camera.ground(first, _BLOCK)
    lateral = x - np.float32(street.curvature / 2) * along**2
    owner = canvas.owner[first::_BLOCK, ::_BLOCK]
    brightness = _grain(canvas, street, owner, lateral, along, depth) * shadow[first::_BLOCK, ::_BLOCK]
    veil: Array = (1 - np.exp(-depth / np.float32(light.haze))).astype(np.float32)
    glare: Array = veil
    if street.wetness > 0:
        shine = np.float32(0.3 * street.wetness) * noise_at(lateral * 2.1, along * 0.7, 1.0)
        glare = veil + shine * (owner == canvas.stuff(ROAD))
    rows, columns = camera.height - first, camera.width
    size = (len(depth) * _BLOCK, lateral.shape[1] * _BLOCK)
    brightness = cv2.resize(brightness * (1 - veil), size[::-1], interpolation=cv2.INTER_LINEAR)[:rows, :columns]
    glare = np.broadcast_to(glare, lateral.shape)
    glare = cv2.resize(np.ascontiguousarray(glare), size[::-1], interpolation=cv2.INTER_LINEAR)[:rows, :columns]
    full = np.array(light.ambient, np.float32) + np.array(light.sun_colour, np.float32) * np.float32(light.sun[1])
    lit = canvas.image[first:] * brightness[..., None]
    lit *= full
    lit += glare[..., None] * (np.array(light.horizon, np.float32) * np.float32(255))
    canvas.image[first:] = np.minimum(lit, 255, out=lit).astype(np.uint8)


def _strip(canvas: Canvas, street: Street, lateral: tuple[float, float], along: tuple[float, float]) -> Array:
    """Project a strip of the street to pixels ``[n, 2]`` (n may be 0), following the bend."""
    near, far = max(along[0], -4.0), along[1]
    count = 2 if far - near < 12 or abs(street.curvature) < 1e-5 else 9
    s = near + (far - near) * np.linspace(0, 1, count) ** 2
    bend = street.curvature * s**2 / 2
    there = np.stack([lateral[0] + bend, np.zeros(count), s], axis=1)
    back = np.stack([lateral[1] + bend, np.zeros(count), s], axis=1)[::-1]
    return canvas.outline(canvas.camera.to_camera(np.concatenate([there, back])))


def _lay_materials(canvas: Canvas, street: Street, first: int) -> None:
    """Paint owners and albedo of the ground: road, pavements beside it, and the verges and lawns on them."""
    canvas.owner[first:] = canvas.stuff(ROAD)
    canvas.image[first:] = _albedo(street.asphalt)
    paving, green = _albedo(street.paving), _albedo(street.grass)
    wide, end = 120.0, END * 6
    for sign, side in ((-1, street.left), (1, street.right)):
        stretches = [-4.0]
        for start, stop in side.openings:
            stretches += [start, stop]
        stretches.append(end)
        for near, far in zip(stretches[::2], stretches[1::2], strict=True):
            canvas.fill(
                _strip(canvas, street, (sign * side.kerb, sign * wide), (near, far)), paving, canvas.stuff(SIDEWALK)
            )
            grass = canvas.stuff(TERRAIN)
            if side.lawn > 0:
                inner = side.kerb + side.verge + side.pavement
                canvas.fill(_strip(canvas, street, (sign * inner, sign * wide), (near, far)), green, grass)
            if side.verge > 0:
                lateral = (sign * (side.kerb + 0.25), sign * (side.kerb + side.verge))
                cuts = [near]
                for crossing in street.crossings:
                    if near < crossing < far:
                        cuts += [crossing - 2.5, crossing + 2.5]
                cuts.append(far)
                for begin, stop in zip(cuts[::2], cuts[1::2], strict=True):
                    canvas.fill(_strip(canvas, street, lateral, (begin, stop)), green, grass)


def _grain(canvas: Canvas, street: Street, owner: Array, lateral: Array, along: Array, depth: Array) -> Array:
    """Brightness of the ground's own texture, float32 ``[h, w]`` around 1."""
    camera = canvas.camera
    across = (depth / camera.focal).astype(np.float32)
    fade = np.clip(0.06 / across, 0.0, 1.0)
    coarse = noise_at(lateral * 5.3 + 91, along * 3.1 + 17, 1.0) - 0.5
    fine = np.zeros_like(coarse)
    near = int(np.argmax(fade[:, 0] > 0.25)) if (fade > 0.25).any() else len(fade)
    fine[near:] = (noise_at(lateral[near:] * 38, along[near:] * 38, 0.5) - 0.5) * fade[near:]
    grain = 1 + coarse * np.float32(0.22) + fine * np.float32(0.30)
    grass = np.nonzero(owner == canvas.stuff(TERRAIN))
    blades = noise_nearest(lateral[grass] * 21, along[grass] * 9, 0.4) - 0.5
    grain[grass] = 1 + coarse[grass] * 0.75 + blades * 0.55 + fine[grass] * 0.5
    road = owner == canvas.stuff(ROAD)
    grain *= np.where(
        road, 1 - np.float32(0.06) * np.cos((lateral + 0.2) * np.float32(2 * np.pi / 1.75)), np.float32(1)
    )
    paving = np.nonzero(owner == canvas.stuff(SIDEWALK))
    lengthwise = (depth**2 / (camera.focal * camera.y)).astype(np.float32)
    grain[paving] *= _paving(street, lateral[paving], along[paving], across[paving[0], 0], lengthwise[paving[0], 0])
    return grain


def _paving(street: Street, lateral: Array, along: Array, across: Array, lengthwise: Array) -> Array:
    """Return the brightness of a pavement: stones vary a little, joints are dark, and both fade with distance."""
    tile = np.float32(street.paving_tile)
    u, v = lateral / tile, along / tile
    cells = np.sin(np.floor(u) * 12.9898 + np.floor(v) * 78.233) * 43758.547
    stone = 1 + (cells - np.floor(cells) - 0.5) * 0.16 * np.clip(tile / lengthwise - 0.6, 0, 1)
    joint_u = (np.abs(u - np.round(u)) * tile < 0.012 + across * 0.5) * np.clip(0.05 * tile / across, 0, 1)
    joint_v = (np.abs(v - np.round(v)) * tile < 0.012 + lengthwise * 0.5) * np.clip(0.05 * tile / lengthwise, 0, 1)
    return (stone * (1 - 0.3 * np.maximum(joint_u, joint_v))).astype(np.float32)


def _lay_markings(canvas: Canvas, street: Street) -> None:
    """Paint the albedo of repairs, kerbs, lines, crossings and rails on the ground."""

    def lay(lateral: tuple[float, float], along: tuple[float, float], albedo: Rgb) -> None:
        canvas.fill(_strip(canvas, street, lateral, along), _albedo(albedo), None)

    red, green, blue = street.asphalt
    worn: Rgb = (red * 0.82, green * 0.82, blue * 0.82)
    white: Rgb = (0.80, 0.80, 0.78)
    for lateral, along, width, length in street.patches:
        lay((lateral, lateral + width), (along, along + length), worn)
    lay((0.30, 0.36), (-4, 60), worn)
    for sign, side in ((-1, street.left), (1, street.right)):
        stretches = [-4.0, *(edge for opening in side.openings for edge in opening), 120.0]
        for near, far in zip(stretches[::2], stretches[1::2], strict=True):
            lay((sign * side.kerb, sign * (side.kerb + 0.22)), (near, far), (0.58, 0.57, 0.54))
            lay((sign * (side.kerb - 0.16), sign * side.kerb), (near, far), worn)
    for position in street.lanes:
        for start in range(0, 90, 9):
            lay((position - 0.08, position + 0.08), (start + 1.5, start + 4.7), white)
    for position in street.solid:
        lay((position - 0.07, position + 0.07), (-4, 120), white)
    left, right = -street.left.kerb + 0.3, street.right.kerb - 0.3
    for crossing in street.crossings:
        lay((left, right), (crossing - 2.2, crossing + 2.2), street.asphalt)
        for bar in np.arange(left, right - 0.3, 1.0):
            lay((bar, bar + 0.5), (crossing - 1.7, crossing + 1.7), white)
        lay((-LANE / 2 + 0.2, right), (crossing - 3.4, crossing - 3.0), white)
    for centre in street.tram_tracks:
        for rail in (centre - 0.72, centre + 0.72):
            lay((rail - 0.11, rail + 0.11), (-4, 140), (red * 0.7, green * 0.7, blue * 0.7))
            lay((rail - 0.05, rail + 0.02), (-4, 140), (0.56, 0.56, 0.57))


def _albedo(colour: Rgb) -> Rgb:
    return colour[0] * 255, colour[1] * 255, colour[2] * 255


def cast_shadows(canvas: Canvas, outlines: list[tuple[Array, float]]) -> Array:
    """Return the ground's brightness under the shadows of objects.

    Args:
        canvas: gives camera and light.
        outlines: the corners of the footprint ``[n, 2]`` (world x, z) and the height in metres of each object.

    Returns:
        float32 ``[H, W]``; 1 in the open.
    """
    camera, light = canvas.camera, canvas.light
    half = (camera.height // 2, camera.width // 2)
    cast: Array = np.full(half, 255, np.uint8)
    contact: Array = np.full(half, 255, np.uint8)
    dark = round(255 * light.shadow)
    run = -np.array([light.sun[0], light.sun[2]]) / max(0.25, light.sun[1])
    for footprint, height in outlines:
        if light.shadow < 0.88:
            moved = np.concatenate([footprint, footprint + run * height]).astype(np.float32)
            _fill_ground(canvas, cast, cv2.convexHull(moved).reshape(-1, 2).astype(float), dark)
        if height < 5:
            middle = footprint.mean(0)
            _fill_ground(canvas, contact, middle + (footprint - middle) * 1.12, 96)
    blur = max(1, camera.height // 256)
    cast = cv2.blur(cast, (2 * blur + 1, 2 * blur + 1))
    contact = cv2.blur(contact, (4 * blur + 1, 2 * blur + 1))
    shadow = cv2.resize(np.minimum(cast, contact), (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
    return shadow.astype(np.float32) / np.float32(255)


def _fill_ground(canvas: Canvas, mask: Array, outline: Array, value: int) -> None:
    world = np.stack([outline[:, 0], np.zeros(len(outline)), outline[:, 1]], axis=1)
    pixels = canvas.outline(canvas.camera.to_camera(world))
    if len(pixels) >= 3:
        cv2.fillPoly(mask, [np.round(np.clip(pixels / 2, -4000, 8000) * 16).astype(np.int32)], value, cv2.LINE_AA, 4)
