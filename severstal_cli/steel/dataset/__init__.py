"""A data folder: annotations, images, and which images may be used for what.

data_folder              train.csv and train_images, read and checked against each other
agreement                whether a table and images belong together
near_duplicates          groups of images of the same steel
near_duplicate_kernels   its compiled loops
stratification           the assignment of groups to holdout and folds
splits                   splits.csv
leakage                  records of the images that a model has seen
pseudo_labels            a submission used as annotations
"""
