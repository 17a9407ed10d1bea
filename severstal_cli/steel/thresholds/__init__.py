"""The search for the post-processing of each class.

per_image_gains   what each image adds to the mean Dice, for every post-processing of a grid
score_surface     mean Dice over thresholds and minimum sizes, exactly
rule_selection    the post-processing that holds up on new images
"""
