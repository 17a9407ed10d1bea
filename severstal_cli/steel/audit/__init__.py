"""Wrong annotations: they are found by out-of-fold levels and near-duplicates, and mended by accepted findings.

class_parts    one class of an image: components, expected Dice
findings       the suspected faults of one image, from its levels and its drawn masks
disagreement   near-duplicates with different masks
finding_table  audit.csv and the decisions on its rows, read and written
accepting      annotations with accepted findings
"""
