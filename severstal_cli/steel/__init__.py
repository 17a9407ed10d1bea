"""The domain, in numpy and numba only: run lengths, Dice, components, tables, splits, images."""
