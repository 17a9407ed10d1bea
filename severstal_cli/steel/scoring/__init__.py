"""Scores of masks.

dice         the competition's Dice of an image and a class
scores       mean Dice, overall and by class; differences of two submissions
intervals    bootstrap intervals over groups of near-duplicates
comparison   the result of `compare`
"""
