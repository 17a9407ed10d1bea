"""The steps of a training; `stages/training` puts them in order.

new_card               the model card before the first epoch
batches                crops and their masks
augmentation           random changes of crops
copy_paste             defects pasted into other images
prefetch               batches copied to the device ahead of time
losses                 loss functions
depthwise              depthwise convolutions in float32 on a CPU
schedule               learning rate, crop size and validation over the epochs
loop                   state of a training, and one epoch
finite_checks          losses and running statistics, checked batch by batch
validation             mean Dice on the validation fold
checkpoint_selection   the best epoch, and checkpoint averaging
checkpoint             training.ckpt, from which a training resumes
initial_weights        pretrained weights, or the weights of another run
auto_batch_size        the largest batch that fits into memory
free_cores             as many threads as other processes leave cores free
history                history.csv and history.png
tensorboard_log        the same for TensorBoard
"""
