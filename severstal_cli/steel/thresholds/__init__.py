"""The search for the post-processing of each class.

per_image_gains   what each image adds to the mean Dice, for every post-processing of a grid
rule_selection    the post-processing that holds up on new images
"""
