"""Masks: as RLE, as connected components, and from levels by post-processing.

    rle                 encoding, decoding and set operations of RLE
    rle_kernels         its compiled loops
    components          connected components of levels, for every threshold at once
    component_kernels   its compiled loops
    postprocess         threshold, minimum size and gate of a class
    jagged              whether a mask was encoded for another image height

An RLE run is a start and a length, in pixels counted down the columns. Levels are probabilities quantised to uint8. The
gate is the minimum peak probability of a mask that is kept.
"""
