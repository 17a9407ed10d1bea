"""Annotations of other tools: COCO, YOLO segmentation, labelme, CVAT and Supervisely, drawn to the pixel as each draws.

    detection   which format lies at a path, by content        -> Annotations
    coco, yolo, labelme, cvat, supervisely: a module a format   -> Annotations
    reading     classes and image sizes checked, shapes drawn   -> masks as run lengths
    shapes      what the formats have in common; documents: JSON, XML and base64 of unknown origin
    coco_masks, supervisely_shapes, yolo_names: parts of a format that are a thing of their own

Files are never trusted: sizes are bounded before memory is taken, and each fault names file, image and annotation.
"""
