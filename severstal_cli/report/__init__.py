"""A report: a folder with a static page to inspect predictions, or to decide on the findings of an audit.

The page needs neither a server nor a network.

    sources           reads runs and submissions, and checks that they belong to the same images
    run_predictions   predicts the images of a run
    content           what the page shows: images, ground truth, candidates
    images            writes the images as JPEG
    levels            packs the levels of an image, for the sliders
    charts            training curves as SVG
    page              writes all else: template, index, masks, scores
    audits            the page of an audit: reads the table and writes all files
    folder            replaces the folder of an earlier report only by a complete one

The folder of predictions holds:

    index.html             the page
    static/                its style sheet and scripts
    data/index.js          names, sizes, pixel counts and confidence of every image, to filter and sort by
    images/000001.jpg      the first image, as greyscale
    masks/000001.js        its masks: ground truth and predictions
    levels/000001-0.js     its levels by the first candidate, if that is a run and any level reaches the lowest step
    surface-0.png          the threshold surface of the first candidate
    report.json            the scores

Browsers let a page that is opened as a file neither fetch other files nor read the pixels of its images. So all data
are scripts that call `severstal.receive(key, value)`; the page adds them on demand. Files are numbered, because the
name of an image may hold any character.
"""
