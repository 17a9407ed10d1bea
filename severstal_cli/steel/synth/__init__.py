"""Synthetic images of rolled steel with defects and their masks: to try the program without the real data.

    noise       random fields
    surface     bare steel, and what looks like a defect and is none
    defects     the four kinds of defects, drawn under given masks
    rendering   one image: both of them together
    polygons    which classes an image shows, and their coarse masks
    series      the images of a set, one by one
    writing     a whole set as files, in the competition's layout

Every image depends only on the seed and its own number.
"""

from severstal_cli.steel.synth.rendering import render
from severstal_cli.steel.synth.writing import write_synthetic_set

__all__ = ["render", "write_synthetic_set"]
