"""Scores of masks.

dice         the competition's Dice per image and class
scores       mean Dice, overall and per class; differences between submissions
intervals    bootstrap intervals over groups of near-duplicates
comparison   the result of `compare`
"""
