"""A data folder: annotations, images, splits and leakage.

data_folder              train.csv and train_images, checked against each other
agreement                checks that a table matches images
near_duplicates          groups of images of the same steel
near_duplicate_kernels   compiled loops of near_duplicates
stratification           the assignment of groups to holdout and folds
splits                   splits.csv
origin                   the annotations that others were made from
leakage                  records of the images that a model was trained on
pseudo_labels            a submission used as annotations
"""
