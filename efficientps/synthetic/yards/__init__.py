"""Procedural construction yards, written as a data set in the COCO panoptic format.

Flat and quickly drawn, unlike the street scenes: what they are for is a data set that is not Cityscapes - other classes
with ids of their own, images of many sizes and kinds - without a download.
"""

from efficientps.synthetic.yards.scene import YARD_CATEGORIES, YardScene, render_yard
from efficientps.synthetic.yards.writer import write_synthetic_yard

__all__ = ["YARD_CATEGORIES", "YardScene", "render_yard", "write_synthetic_yard"]
