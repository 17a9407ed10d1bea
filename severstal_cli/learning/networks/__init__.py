"""Networks by name, and the weights that their encoders start from.

names          names that a user gives, checked without torch
registry       the networks that `--arch` can name
study          the two networks of the study this project began from
wide_linknet   a LinkNet with a wider decoder
pretrained     published encoder weights, from a folder or a hub
fitting        weights of a file, fitted to an encoder
encoder_file   encoder weights as a file, for a machine without network
"""
