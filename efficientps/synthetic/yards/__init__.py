"""Procedural construction yards, written as a data set in the COCO panoptic format.

The yards are flat and drawn quickly, unlike the street scenes. They serve as a data set that differs from Cityscapes
(other classes and ids, images of many sizes and file types) and needs no download.
"""

from efficientps.synthetic.yards.scene import YARD_CATEGORIES, YardScene, render_yard
from efficientps.synthetic.yards.writer import write_synthetic_yard

__all__ = ["YARD_CATEGORIES", "YardScene", "render_yard", "write_synthetic_yard"]
