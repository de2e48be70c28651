"""Procedural street scenes, written as a genuine Cityscapes tree.

A scene is laid out in metres around a street (``street``, ``frontage``, ``traffic``, ``pavement``), seen by a pinhole
``camera`` in some weather (``lighting``), and painted from the back to the front on a ``canvas`` that keeps for every
pixel its colour and its exact owner; ``sensor`` turns the colours into a photograph, ``writer`` writes the tree.
"""

from efficientps.synthetic.streets.scene import SyntheticScene, render_scene
from efficientps.synthetic.streets.writer import write_synthetic_cityscapes

__all__ = ["SyntheticScene", "render_scene", "write_synthetic_cityscapes"]
