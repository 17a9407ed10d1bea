"""Synthetic images of rolled steel with defects and masks, to try the program without the real data.

    noise       random fields
    surface     bare steel, with structures that resemble defects
    lookalikes  those of them that a network takes for defects
    strip_end   black beside the strip
    defects     four kinds of defects, drawn inside given masks
    rendering   one image: surface and defects
    polygons    the classes of an image, and their coarse masks
    series      the images of a set, by number
    writing     a whole set as files in the competition's layout

Each image depends only on the seed and its own number.
"""

from severstal_cli.steel.synth.rendering import render
from severstal_cli.steel.synth.writing import write_synthetic_set

__all__ = ["render", "write_synthetic_set"]
