"""Masks as RLE, their connected components, and the post-processing that makes them from levels.

    rle                 encoding, decoding and set operations of RLE
    rle_kernels         its compiled loops
    components          connected components of levels, for every threshold in one pass
    component_kernels   its compiled loops
    postprocess         threshold, minimum size and gate of a class
    jagged              detection of masks that were encoded for another image height

An RLE run is a start and a length, in pixels counted down the columns. Levels are probabilities quantised to uint8. A
gate is the minimum peak probability: below it a mask is dropped.
"""
