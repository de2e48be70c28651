"""The canvas of a scene: colours with antialiasing, and the exact owner of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import hypot
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from efficientps.synthetic.streets.camera import NEAR, Array, Camera, clip_near
from efficientps.synthetic.streets.lighting import Light, Rgb
from efficientps.synthetic.streets.texture import noise_patch

_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates
_CIRCLE = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 12, endpoint=False)), np.sin(np.linspace(0, 2 * np.pi, 12, endpoint=False))],
    axis=1,
)


class Blob(NamedTuple):
    """A prepared convex hull of spheres: fixed-point outlines ``[n, 1, 2]`` and colours in [0, 255]."""

    outline: Array
    shaded: Sequence[float]
    highlight: Array | None
    lit: Sequence[float]


class Canvas:
    """Painter's canvas: later objects cover earlier ones, in colour and in ownership.

    Attributes:
        camera: the projection; its width and height are the canvas'.
        light: the illumination.
        image: uint8 ``[H, W, 3]`` RGB.
        owner: int32 ``[H, W]``; for each pixel the index into ``labels`` of its segment; 0 stands for no segment.
        labels: raw Cityscapes label id of each owner.
        countable: for each owner, whether it is an instance (not stuff, a crowd or void).
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        """Create a black canvas without owners."""
        self.camera = camera
        self.light = light
        self.image: npt.NDArray[np.uint8] = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.owner: npt.NDArray[np.int32] = np.zeros((camera.height, camera.width), np.int32)
        self.labels: list[int] = [0]
        self.countable: list[bool] = [False]
        self._shared: dict[int, int] = {}
        level = max(1e-6, hypot(light.sun[0], light.sun[2]))
        self._sun = (light.sun[0] / level, light.sun[2] / level)  # direction of the sun along the ground

    def stuff(self, label_id: int) -> int:
        """Return the single owner of a label without instances: stuff, a crowd of things, or a void label."""
        if label_id not in self._shared:
            self._shared[label_id] = self._claim(label_id, countable=False)
        return self._shared[label_id]

    def instance(self, label_id: int) -> int:
        """Return a new owner for the next instance of a label."""
        return self._claim(label_id, countable=True)

    def _claim(self, label_id: int, *, countable: bool) -> int:
        self.labels.append(label_id)
        self.countable.append(countable)
        return len(self.labels) - 1

    def fill(self, outline: Array, colour: Sequence[float] | None, owner: int | None, *, convex: bool = False) -> None:
        """Fill a polygon.

        Args:
            outline: ``[n, 2]`` in pixels (u, v), pixel (0, 0) spanning [0, 1].
            colour: in [0, 255]; None leaves the colours.
            owner: None leaves the ownership.
            convex: promises a convex outline, which is faster.
        """
        if len(outline) >= 3:
            self.fill_fixed(to_fixed(outline), colour, owner, convex=convex)

    def fill_fixed(
        self, points: Array, colour: Sequence[float] | None, owner: int | None, *, convex: bool = False
    ) -> None:
        """Fill a polygon whose vertices ``[n, 2]`` went through ``to_fixed``; otherwise as ``fill``."""
        if colour is not None:
            if convex:
                cv2.fillConvexPoly(self.image, points, colour, cv2.LINE_AA, _SHIFT)
            else:
                cv2.fillPoly(self.image, [points], colour, cv2.LINE_AA, _SHIFT)
        if owner is not None:
            if convex:
                cv2.fillConvexPoly(self.owner, points, owner, cv2.LINE_8, _SHIFT)
            else:
                cv2.fillPoly(self.owner, [points], owner, cv2.LINE_8, _SHIFT)

    def outline(self, points: Array) -> Array:
        """Clip a polygon of the camera's frame ``[n, 3]`` and project it: pixels ``[m, 2]``, m may be 0."""
        clipped = clip_near(points)
        return self.camera.project(clipped) if len(clipped) else np.zeros((0, 2))

    def may_see(self, points: Array) -> bool:
        """Return whether an object with these corners (camera frame, ``[n, 3]``) may be in the horizontal view."""
        edge = np.maximum(points[:, 2], NEAR) * (self.camera.width / 2 / self.camera.focal)
        return bool((points[:, 0] < edge).any() and (points[:, 0] > -edge).any())

    def polygon(self, world: Array, colour: Rgb | None, owner: int | None) -> None:
        """Fill a polygon given by world points ``[n, 3]``."""
        self.fill(self.outline(self.camera.to_camera(world)), colour, owner)

    def line(self, world: Array, radius: float, colour: Rgb, owner: int | None = None) -> None:
        """Draw an open polyline of world points ``[n, 3]`` as a tube; thin tubes get a minimum width in pixels."""
        points = self.camera.to_camera(world)
        for start, end in pairwise(points):
            if min(start[2], end[2]) < NEAR:
                continue
            ends = self.camera.project(np.stack([start, end]))
            thick = np.maximum(radius * self.camera.focal / np.array([start[2], end[2]]), 0.3)
            along = ends[1] - ends[0]
            across = np.array([-along[1], along[0]]) / max(1e-6, float(np.hypot(*along)))
            quad = [
                ends[0] + across * thick[0],
                ends[1] + across * thick[1],
                ends[1] - across * thick[1],
                ends[0] - across * thick[0],
            ]
            self.fill(np.stack(quad), colour, owner, convex=True)

    def blob(self, spheres: Array, albedo: Rgb, owner: int) -> None:
        """Draw the convex hull of spheres ``[n, 4]`` (camera frame x, y, depth; radius; metres)."""
        if spheres[:, 2].min() >= NEAR:
            self.draw_blob(self.blobs(spheres, [len(spheres)], [albedo], [0.0])[0], owner)

    def draw_blob(self, blob: Blob, owner: int) -> None:
        """Draw a prepared blob."""
        self.fill_fixed(blob.outline, blob.shaded, owner, convex=True)
        if blob.highlight is not None:
            self.fill_fixed(blob.highlight, blob.lit, None, convex=True)

    def blobs(self, spheres: Array, counts: Sequence[int], albedo: Sequence[Rgb], gloss: Sequence[float]) -> list[Blob]:
        """Prepare the convex hulls of groups of spheres, lit from one side.

        Args:
            spheres: ``[n, 4]``, in the camera's frame x, y, depth (beyond the near plane) and radius, metres.
            counts: how many successive spheres make each blob.
            albedo: albedo of each blob.
            gloss: gloss of each blob.
        """
        centres = self.camera.project(spheres[:, :3])
        radii = spheres[:, 3] * self.camera.focal / spheres[:, 2]
        around = to_fixed(centres[:, None] + np.maximum(radii, 0.5)[:, None, None] * _CIRCLE)
        offset = np.array([self._sun[0], -0.5]) * 0.3 * radii[:, None]
        within = to_fixed((centres + offset)[:, None] + 0.68 * radii[:, None, None] * _CIRCLE)
        starts: npt.NDArray[np.int64] = np.cumsum(counts) - np.array(counts)
        distances = np.add.reduceat(spheres[:, 2], starts) / counts
        large = np.maximum.reduceat(radii, starts) > 1.2
        dark = np.tile([-self._sun[0] * 0.6, -0.2, -0.4], (len(counts), 1))
        bright = np.tile([self._sun[0] * 0.6, 0.5, -0.5], (len(counts), 1))
        shaded = self.light.shade_all(albedo, dark, distances, gloss)
        lit = self.light.shade_all(albedo, bright, distances, gloss)
        prepared = []
        for index, (start, count) in enumerate(zip(starts, counts, strict=True)):
            outline = cv2.convexHull(around[start : start + count].reshape(-1, 2))
            highlight = cv2.convexHull(within[start : start + count].reshape(-1, 2)) if large[index] else None
            prepared.append(Blob(outline, shaded[index], highlight, lit[index]))
        return prepared

    def textured(self, origin: Array, across: Array, up: Array, texture: Array, owner: int) -> None:
        """Draw a texture on the world parallelogram ``origin, origin + across, origin + across + up, origin + up``.

        Args:
            origin: world point of the bottom-left corner ``[3]``.
            across: world vector of the bottom edge ``[3]``.
            up: world vector of the left edge ``[3]``.
            texture: uint8 ``[h, w, 3]``, final colours; row 0 is the top.
            owner: owner of the pixels.
        """
        corners = np.stack([origin, origin + across, origin + across + up, origin + up])
        outline = self.outline(self.camera.to_camera(corners))
        window = self.window(outline)
        if window is None:
            return
        left, top, right, bottom = window
        height, width = texture.shape[:2]
        to_plane = np.array([[1 / width, 0, 0.5 / width], [0, -1 / height, 1 - 0.5 / height], [0, 0, 1.0]])
        shift = np.array([[1, 0, -left - 0.5], [0, 1, -top - 0.5], [0, 0, 1.0]])
        matrix = shift @ self.camera.plane_homography(origin, across, up) @ to_plane
        size = (right - left, bottom - top)
        warped = cv2.warpPerspective(texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros((size[1], size[0]), np.uint8)
        points = to_fixed(outline - [left, top])
        cv2.fillPoly(mask, [points], 255, cv2.LINE_8, _SHIFT)
        cv2.copyTo(warped, mask, self.image[top:bottom, left:right])
        np.copyto(self.owner[top:bottom, left:right], owner, where=mask > 0)

    def paste(self, window: tuple[int, int, int, int], colours: Array, mask: Array, owner: int) -> None:
        """Paste a patch into a window ``(left, top, right, bottom)`` that may extend beyond the canvas.

        Args:
            window: pixel window of the size of the patch.
            colours: uint8 ``[h, w, 3]``.
            mask: bool ``[h, w]``.
            owner: owner of the masked pixels.
        """
        left, top, right, bottom = window
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, self.camera.width), min(bottom, self.camera.height)
        if x0 >= x1 or y0 >= y1:
            return
        inner = np.ascontiguousarray(mask[y0 - top : y1 - top, x0 - left : x1 - left])
        patch = np.ascontiguousarray(colours[y0 - top : y1 - top, x0 - left : x1 - left])
        cv2.copyTo(patch, inner.astype(np.uint8), self.image[y0:y1, x0:x1])
        np.copyto(self.owner[y0:y1, x0:x1], owner, where=inner)

    def weather(self, corners: Array, owner: int, strength: float) -> None:
        """Vary the flat colours of an object just drawn: lighter above, darker below, with blotches of dirt and light.

        Args:
            corners: points ``[n, 3]`` in the camera's frame that enclose the object.
            owner: owner whose pixels are changed.
            strength: contrast of the blotches.
        """
        if corners[:, 2].max() < NEAR:
            return
        corners = corners.copy()
        corners[:, 2] = np.maximum(corners[:, 2], NEAR)
        window = self.window(self.camera.project(corners))
        if window is None or window[3] - window[1] < 14 or window[2] - window[0] < 6:
            return
        left, top, right, bottom = window
        shape = (bottom - top, right - left)
        seed = np.random.default_rng([owner, left, top])
        factor = noise_patch(seed, shape, max(1.0, shape[0] / 56), 1.1) * np.float32(strength)
        factor += np.linspace(1.10, 0.86, shape[0], dtype=np.float32)[:, None] - np.float32(strength / 2)
        np.copyto(factor, 1.0, where=self.owner[top:bottom, left:right] != owner)
        patch = self.image[top:bottom, left:right]
        patch[:] = np.minimum(patch * factor[..., None], 255).astype(np.uint8)

    def window(self, outline: Array) -> tuple[int, int, int, int] | None:
        """Return the pixel window (left, top, right, bottom) of an outline, clipped to the canvas; None if empty."""
        if len(outline) < 3:
            return None
        low = np.floor(np.maximum(outline.min(0), 0)).astype(int)
        high = np.ceil(np.minimum(outline.max(0), [self.camera.width, self.camera.height])).astype(int)
        if low[0] >= high[0] or low[1] >= high[1]:
            return None
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def to_fixed(outline: Array) -> npt.NDArray[np.int32]:
    """Turn pixel coordinates ``[..., 2]`` into OpenCV's fixed-point coordinates of pixel centres."""
    return np.rint((outline - 0.5) * (1 << _SHIFT)).astype(np.int32)
