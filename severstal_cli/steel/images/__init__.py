"""Image files, from their first bytes to grey pixels.

image_headers   kind, size and depth, without decoding
containers      whether a file is whole
image_files     the images of a folder and their ids
decoding        a file as grey pixels; the only importer of OpenCV
surveys         sizes and bits in use of a set of images
cache           the images of a folder in a memory map
"""
