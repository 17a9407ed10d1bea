"""Annotations of other tools as the input of `encode`: COCO, YOLO, labelme, CVAT and Supervisely.

documents            JSON and XML files of unknown origin
shapes               polygons, boxes and bitmaps as masks
coco_masks           RLE of COCO
coco                 COCO
yolo_names           class names of a YOLO data set
yolo                 YOLO
labelme              labelme
cvat                 CVAT for images
supervisely_shapes   bitmaps of Supervisely
supervisely          Supervisely
detection            which format a path holds
reading              annotations of any format to masks
"""
