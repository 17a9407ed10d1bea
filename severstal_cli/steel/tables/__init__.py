"""Tables of masks: annotations, submissions and sample files, in both layouts of the competition.

table_files   the bytes of a table, compressed or not
csv_rows      rows of a CSV file and the ids in them
headers       the layout, by the names of the columns
mask_rows     rows as masks, and what is wrong with them
mask_table    whole tables, read and written
confidence    how confident a prediction is of each row
shards        a submission in the making, which processes share and a killed prediction resumes
"""
