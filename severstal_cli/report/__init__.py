"""A report: one folder with a static page to look at predictions. It needs no server and asks for no address elsewhere.

    index.html             the page; it works from a file
    static/                its style and scripts
    data/index.js          names, sizes, counts and Dice of every image: what filters and sorts
    images/000001.jpg the first image, grey
    masks/000001.js        its masks, true and predicted
    levels/000001-0.js     its levels by the first candidate, where that is a run and a level reaches the lowest step
    surface-0.png          how the rules of the first candidate were chosen
    report.json            the scores

A page that is opened as a file may not fetch other files, nor read the pixels of its pictures. So data are scripts that
call `severstal.got(key, value)`, which the page adds when it needs them. Files are numbered: a name may hold anything.
"""
