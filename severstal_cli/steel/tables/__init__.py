"""Tables of masks: annotations, submissions and sample files, in both layouts of the competition.

table_files   the bytes of a table, compressed or not
csv_rows      rows of a CSV file, and the ids in them
headers       the layout of a table, by its column names
mask_rows     rows as masks, and their faults
mask_table    whole tables, read and written
confidence    the expected Dice of each row of a submission
shards        a submission in the making, which processes share and a killed prediction resumes
"""
