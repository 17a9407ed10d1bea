"""Networks by name, and pretrained weights for their encoders.

names          checks of networks, encoders and run folders that a user names, without torch
registry       the networks that `--arch` can name
study          the two networks of the original study
wide_linknet   a LinkNet with a wider decoder
pooled_norm    batch norm behind global pooling, for a single image
pretrained     published encoder weights, from a folder or a hub
fitting        loading a weights file into an encoder
encoder_file   download of encoder weights into a file
"""
