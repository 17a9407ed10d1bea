"""Annotations of other tools as masks, for `encode`: COCO, YOLO, labelme, CVAT and Supervisely.

documents            JSON, XML and YAML files, read within bounds
shapes               polygons, boxes and bitmaps as masks
coco_masks           RLE of COCO
coco                 COCO
yolo_names           class names of a YOLO data set
yolo                 YOLO
labelme              labelme
cvat                 CVAT for images
supervisely_shapes   bitmaps of Supervisely
supervisely          Supervisely
detection            which of these a path holds
reading              what all readers share; the source of `encode`
"""
