"""Image files, from their headers to grey pixels.

image_headers   format, size, orientation and bit depth, without decoding
containers      check for truncated and damaged files
image_files     image files of a folder and their ids
decoding        a file as grey pixels; the only module that imports OpenCV
surveys         sizes and bits in use of a set of images, by their headers
cache           decoded images of a folder in a memory map
"""
