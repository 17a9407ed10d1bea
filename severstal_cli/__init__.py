"""From steel images and run-length annotations to a scored submission.csv."""

__version__ = "0.1.0"
