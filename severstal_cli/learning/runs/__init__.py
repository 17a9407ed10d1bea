"""A run: the folder of one trained model.

model_card   model.json: what the weights are, and what they were trained on
thresholds   thresholds.json: the post-processing of each class
run_folder   weights, checkpoint and thresholds, read and written
listing      the runs of a folder, the best validated first
"""
