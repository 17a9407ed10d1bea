"""Masks drawn as image files.

colours        colours of classes: labelmaps, the palette of Pascal VOC
mask_files     the pixels of a mask file; PNG files written
mask_names     image and class, by the name of a file
mask_classes   image and class, by its pixels
mask_source    a folder of mask files as a source of `encode`
"""
