"""Settings of a training, each alone against the defaults, on a part of NEU-Seg. The same command resumes.

    python bench/neu_settings.py --work WORK
    python bench/neu_settings.py --work WORK --only "soft mask edges" lovasz

WORK is the folder of `bench/neu_seg.py`, with the encoder's weights in models/encoders. Each row of the table is
trained three times, with folds 0, 1 and 2 for validation and their numbers as seeds, on 726 images of the other folds;
the score is the validation Dice of the run at thresholds 0.5, without flips. The test part is not read. `±` is a 95 %
interval by Student's t of the difference to the defaults.

Three rows are no settings of `train`: this script changes the training for them. "two learning rates": the encoder
learns at 0.3 times the rate. "frozen batch norm": the encoder's batch norms keep the statistics of ImageNet. "soft mask
edges": the losses see masks that were averaged over 3 x 3 pixels, so the classification head has lower targets for
defects that are narrower.

WORK/settings.jsonl keeps what is done, by row, fold, network, encoder, images and epochs: rename a row whose settings
you change, and run one process at a time.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from neu_seg import Work, data_with
from torch.nn import functional
from training_tables import interval, table

from severstal_cli.config import TrainConfig
from severstal_cli.learning.training import loop, losses
from severstal_cli.stages import training

FOLDS = (0, 1, 2)

SETTINGS = {
    "defaults": {},
    "two learning rates": {},
    "frozen batch norm": {},
    "soft mask edges": {},
    "half size first, a quarter more epochs": {"half_size_share": 0.3},
    "lovasz": {"lovasz_weight": 0.5},
    "paste": {"paste_share": 0.3},
}


class SlowEncoder(torch.optim.AdamW):
    """The schedule sets one rate for all groups; the weights of the encoder take 0.3 of it."""

    def step(self, *words, **options):
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] *= group["factor"]
        loss = super().step(*words, **options)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return loss


def two_rates(network, config):
    """Like `loop.optimizer_of`."""
    encoder, groups = {id(weight) for weight in network.encoder.parameters()}, []
    for factor, decay in ((0.3, config.weight_decay), (0.3, 0.0), (1.0, config.weight_decay), (1.0, 0.0)):
        weights = [
            weight
            for weight in network.parameters()
            if (id(weight) in encoder) == (factor < 1) and (weight.ndim > 1) == (decay > 0)
        ]
        groups.append({"params": weights, "weight_decay": decay, "factor": factor})
    return SlowEncoder(groups, lr=config.learning_rate, fused=True)


def change(name):
    """Change the training of this process, where `train` has no setting for it."""
    start, total_loss = loop.start, losses.total_loss

    def frozen(network, *words, **options):
        for layer in network.encoder.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.eval()
                layer.train = lambda mode=True, layer=layer: layer  # deaf to network.train()
        return start(network, *words, **options)

    def softened(logits, classes, masks, *words):
        soft = functional.avg_pool2d(masks.float(), 3, stride=1, padding=1, count_include_pad=False)
        return total_loss(logits, classes, soft, *words)

    if name == "two learning rates":
        loop.optimizer_of = two_rates
    elif name == "frozen batch norm":
        loop.start = frozen
    elif name == "soft mask edges":
        losses.total_loss = softened


def train(work, options, name, fold):
    """Train one run in this process. Returns its score and its minutes."""
    change(name)
    epochs = options.epochs * 5 // 4 if name.endswith("more epochs") else options.epochs
    run = f"{name.replace(',', '').replace(' ', '-')}-{fold}"
    shutil.rmtree(work.folder / "settings" / run, ignore_errors=True)  # what a kill left
    result = training.train(
        TrainConfig(
            data=work.folder / data_with(work, fold, options.images),
            models=work.folder / "settings",
            name=run,
            arch=options.arch,
            encoder=options.encoder,
            encoder_weights=str(work.folder / "models" / "encoders" / f"{options.encoder}.safetensors"),
            epochs=epochs,
            seed=fold,
            fold=fold,
            **SETTINGS[name],
        )
    )
    (result.folder / "training.ckpt").unlink()
    return {"dice": result.validation_dice, "minutes": result.seconds / 60}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of bench/neu_seg.py")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, metavar="ROW", default=list(SETTINGS))
    parser.add_argument("--arch", default="unet")
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=726)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the row and fold that a process of this script trains
    options = parser.parse_args()
    work = Work(options.work.resolve())
    done = work.folder / "settings.jsonl"
    key = {"arch": options.arch, "encoder": options.encoder, "images": options.images, "epochs": options.epochs}
    if options.one:
        name, fold = options.one.rsplit(":", 1)
        work.append(done, {"row": name, "fold": int(fold), **key, **train(work, options, name, int(fold))})
        return

    def found():
        entries = [entry for entry in work.entries(done) if key.items() <= entry.items()]
        return {(entry["row"], entry["fold"]): entry for entry in entries}

    for fold in FOLDS:
        for name in dict.fromkeys(["defaults", *options.only]):
            if (name, fold) not in found():
                subprocess.run([sys.executable, *sys.argv, "--one", f"{name}:{fold}"], check=True)
    rows, by_key = [], found()
    for name in dict.fromkeys(["defaults", *options.only]):
        pairs = [(by_key[name, fold], by_key["defaults", fold]) for fold in FOLDS]
        mean, minutes = (sum(one[what] for one, _ in pairs) / len(FOLDS) for what in ("dice", "minutes"))
        difference = interval([one["dice"] - base["dice"] for one, base in pairs], "+.4f") if name != "defaults" else ""
        rows.append([name, f"{mean:.4f}", difference, f"{minutes:.1f}"])
    print(table("row | validation Dice | difference | minutes", rows))


if __name__ == "__main__":
    main()
