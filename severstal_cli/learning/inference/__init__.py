"""From images to levels and masks, by one run or an ensemble.

ensemble          runs, their weights, TTA views and post-processing
inputs            the images of a prediction, checked before anything is written
tta               TTA views
engines           torch, OpenVINO or ONNX Runtime
runtimes          networks of OpenVINO and ONNX Runtime as callables
fuse_norms        batch norms fused into convolutions
same_padding      TensorFlow's padding by constants, for export
adaptive_pooling  pooling to several squares by matrices, for export
level_maps        images to levels
pipeline          decoding, network and post-processing side by side
held_out          predictions of images that no run was trained on
rule_search       post-processing, searched on validation folds
export            a trained network in another format
int8              quantisation by NNCF
int8_run          a run in int8, checked on its validation fold
checked_int8      int8 used only where it agrees with float32
"""
