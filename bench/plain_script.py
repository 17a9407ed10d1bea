"""A plain training script, as written in an hour: the baseline for ours. It shares no code with the package.

segmentation-models-pytorch from scratch, Adam with one-cycle, flips, BCE + Dice, bf16, threshold 0.5. It trains on the
images of `splits.csv` that a run with `--fold 0` trains on and scores those of the holdout. The last line is JSON.

    python bench/plain_script.py --data DATA --arch unet --encoder resnet18 --epochs 25
    python bench/plain_script.py --data DATA --arch unet --encoder resnet18 --minutes 30

With `--minutes` the training ends about then, counted from the start of `main`: the first steps, at the low learning
rate that one-cycle begins with, are timed, and one-cycle gets as many steps as fit into the rest, so it is completed.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch


def decode(text, height, width):
    flat = np.zeros(height * width, np.float32)
    numbers = [int(number) for number in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = 1
    return flat.reshape(width, height).T


class Steel(torch.utils.data.Dataset):
    def __init__(self, folder, names, masks, classes, flips):
        self.folder, self.names, self.masks, self.classes, self.flips = folder, names, masks, classes, flips

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        name = self.names[index]
        image = cv2.imread(str(self.folder / name), cv2.IMREAD_GRAYSCALE)
        height, width = image.shape
        mask = np.stack([decode(self.masks.get((name, c + 1), ""), height, width) for c in range(self.classes)])
        image = (image.astype(np.float32) / 255 - 0.45) / 0.2
        image = np.pad(image, ((0, -height % 32), (0, -width % 32)), mode="reflect")
        mask = np.pad(mask, ((0, 0), (0, -height % 32), (0, -width % 32)), mode="reflect")
        if self.flips:
            if np.random.rand() < 0.5:  # noqa: NPY002
                image, mask = image[:, ::-1], mask[:, :, ::-1]
            if np.random.rand() < 0.5:  # noqa: NPY002
                image, mask = image[::-1], mask[:, ::-1]
        return torch.from_numpy(image.copy())[None], torch.from_numpy(mask.copy()), height, width


def read_masks(path):
    with path.open(newline="") as file:
        return {(row["ImageId"], int(row["ClassId"])): row["EncodedPixels"] for row in csv.DictReader(file)}


def make_model(arch, encoder, classes):
    make = {"unet": smp.Unet, "linknet": smp.Linknet}[arch]
    model = make(encoder, encoder_weights=None, in_channels=1, classes=classes)
    return model.to(memory_format=torch.channels_last)


soft_dice = smp.losses.DiceLoss("multilabel")


def train_step(model, optimizer, images, targets):
    with torch.autocast(images.device.type, torch.bfloat16):
        logits = model(images.to(memory_format=torch.channels_last))
    logits = logits.float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets) + soft_dice(logits, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=Path, help="default: DATA/splits.csv")
    parser.add_argument("--arch", default="unet", choices=["unet", "linknet"])
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--minutes", type=float, help="instead of --epochs")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun = time.perf_counter()
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002

    with (options.splits or options.data / "splits.csv").open(newline="") as file:
        parts = {row["ImageId"]: row["Part"] for row in csv.DictReader(file)}
    masks = read_masks(options.data / "train.csv")
    classes = max(class_id for _, class_id in masks)
    folder = options.data / "train_images"
    train = [name for name, part in parts.items() if part not in ("holdout", "0")]
    holdout = [name for name, part in parts.items() if part == "holdout"]
    data_folder = Steel(folder, train, masks, classes, True)
    loader = torch.utils.data.DataLoader(data_folder, options.batch, shuffle=True, drop_last=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make_model(options.arch, options.encoder, classes).to(device)
    start_lr = options.lr / 25  # what one-cycle starts with
    optimizer = torch.optim.Adam(model.parameters(), start_lr if options.minutes else options.lr)
    total = options.epochs * len(loader)
    schedule = None
    if not options.minutes:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=total)

    start = time.perf_counter()
    epoch = step = 0
    while schedule is None or step < total:
        model.train()
        losses = []
        for images, targets, _, _ in loader:
            losses.append(train_step(model, optimizer, images.to(device), targets.to(device)))
            step += 1
            now = time.perf_counter()
            if schedule is not None:
                schedule.step()
            elif step == 2:  # the first ones are slower
                timed = now
            elif step >= 12 and now - timed >= 0.02 * 60 * options.minutes:
                seconds_a_step = (now - timed) / (step - 2)
                rest = max(10, int((60 * options.minutes - (now - begun)) / seconds_a_step))
                total = step + rest
                schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=rest)
            if schedule is not None and step >= total:
                break
        epoch += 1
        print(f"epoch {epoch} loss {np.mean(losses):.4f} after {time.perf_counter() - start:.0f} s", flush=True)

    trained = time.perf_counter()
    model.eval()
    scores = np.zeros((len(holdout), classes))
    present = np.zeros((len(holdout), classes), bool)
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
        for row, (image, target, height, width) in enumerate(Steel(folder, holdout, masks, classes, False)):
            predicted = model(image[None].to(device)).float().sigmoid()[0, :, :height, :width].cpu().numpy() >= 0.5
            true = target[:, :height, :width].numpy() > 0
            area = predicted.sum((1, 2)) + true.sum((1, 2))
            scores[row] = np.where(area > 0, 2 * (predicted & true).sum((1, 2)) / np.maximum(area, 1), 1.0)
            present[row] = true.any((1, 2))
    minutes = (time.perf_counter() - start) / 60
    print(f"{options.arch} {options.encoder}: trained on {len(train)} images and scored in {minutes:.1f} min")
    print(
        f"holdout of {len(holdout)} images: mean Dice {scores.mean():.4f}, where the class is there "
        f"{scores[present].mean():.4f}, predicting nothing {1 - present.mean():.4f}"
    )
    found = {
        "dice": float(scores.mean()),
        "dice_present": float(scores[present].mean()),
        "nothing": float(1 - present.mean()),
        "epochs": step / len(loader),
        "images_per_s": step * options.batch / (trained - start),
        "train_s": trained - begun,
        "score_s": time.perf_counter() - trained,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
