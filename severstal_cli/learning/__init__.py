"""Everything that needs torch.

networks      architectures, encoders and their weights
runs          the folder of a trained model
inference     from images to levels and masks
training      the steps of `train`
precision     half precision, used where it agrees with float32
device        the device that networks run on
distributed   work on several devices
launching     worker processes for several devices
finite        checks that weights and probabilities are finite
"""
