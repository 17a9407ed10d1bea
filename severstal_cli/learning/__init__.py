"""All that needs torch.

networks      architectures, encoders and their weights
runs          the folder of a trained model
inference     from images to levels and masks
training      what `train` is made of
precision     half precision, where it agrees with float32
device        the device that networks run on
distributed   work on several devices
launching     its worker processes
finite        numbers that must be finite
"""
