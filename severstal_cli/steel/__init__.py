"""Masks, tables, images, scores and thresholds, in numpy and numba, without torch.

masks         RLE, connected components, post-processing
tables        CSV files of masks and of confidence
class_names   classes.txt: the names of the classes
images        image files: headers, decoding, the memory-mapped cache
scoring       Dice, its means by class, confidence intervals
dataset       a data folder, its split, near-duplicates, leakage
drawing       overlays and plots
annotations   COCO, YOLO, labelme, CVAT and Supervisely files as masks
mask_images   masks drawn as image files
synth         synthetic steel
audit         wrong annotations, found and mended
thresholds    the search for the post-processing of each class
"""
