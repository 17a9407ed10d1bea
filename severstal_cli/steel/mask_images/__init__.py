"""Masks stored as image files.

colours        colours of classes: labelmaps, the palette of Pascal VOC
mask_files     pixels of a mask file; writing PNG files
mask_names     image and class of a mask, by the name of its file
mask_classes   classes of a mask, by its pixels
mask_source    a folder of mask files as the input of `encode`
"""
