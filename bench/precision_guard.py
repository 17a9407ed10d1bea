"""Cost of the checks that half precision agrees with float32, and that numbers are finite.

    python bench/precision_guard.py [--arch unet] [--encoder resnet34] [--size 256x1600] [--batch 8] [--engine torch]

Uses noise images and random weights, the most expensive case, as the rounding error is measured, too. Times are CPU
seconds, so other load does not matter; on a GPU wall-clock seconds. Prediction: additional time of the first batch of a
size, which is compared, as a share of predicting 32 and 500 images. Finite: time of the sums over the network's output,
as a share of the network's time. Training: the comparison of a batch as a share of 50 and 1,000 steps.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from severstal_cli.config import TrainConfig
from severstal_cli.learning import precision
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import engines, level_maps
from severstal_cli.learning.networks import registry
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.learning.training import loop, losses
from severstal_cli.learning.training.new_card import _cpu_name


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The median over some times."""
    taken, clock = [], time.perf_counter if torch.cuda.is_available() else time.process_time
    for _ in range(times):
        begin = clock()
        work()
        taken.append(clock() - begin)
    return statistics.median(taken)


def prediction(options: argparse.Namespace, network: torch.nn.Module) -> dict[str, float]:
    """Seconds of a batch, of the same with its comparison, and of its sums."""
    fabric = open_device()
    height, width = map(int, options.size.split("x"))
    card = model_card.ModelCard(
        arch=options.arch, encoder=options.encoder, in_channels=1, classes=4, classifier=True, mean=0.4, std=0.2,
        image_size=(height, width), exclusive=True, data="", data_fingerprint="", split_fingerprint="", fold=0,
        train_images=1, validation_images=1, epoch=1, validation_dice=0.5, config={}, versions={},
    )  # fmt: skip
    images = list(np.random.default_rng(0).integers(0, 256, (options.batch, height, width), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        run_folder.write_model(Path(folder), network, card)
        [probs] = engines.load_members([Path(folder)], [card], fabric, engine=options.engine)

    def predict() -> None:
        list(level_maps.predict_levels([probs], images, fabric, batch_size=options.batch))

    def first() -> None:
        assert isinstance(probs, precision.CheckedHalf), "this device multiplies float32"
        probs.agreement.clear()
        predict()

    first()
    first_s, later_s = seconds(first), seconds(predict)
    given = torch.rand(options.batch, 4, height, width, device=fabric.device)
    sums_s = seconds(lambda: float(given.sum(dim=(1, 2, 3)).sum()), 20)
    image_s = later_s / options.batch
    return {
        "batch_s": later_s,
        "comparison_s": first_s - later_s,
        "finite_share": sums_s / later_s,
        **{f"share_of_{count}": (first_s - later_s) / (image_s * count) for count in (32, 500)},
    }


def training(options: argparse.Namespace, network: torch.nn.Module) -> dict[str, float]:
    """Seconds of a step and of the comparison of its batch."""
    fabric, config = open_device(), TrainConfig()
    height, width = config.crop_height_px, max(config.crop_widths_px)
    state = loop.start(network, config, fabric)
    pixels = torch.rand(options.batch, 1, height, width, device=fabric.device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    masks = torch.zeros(options.batch, 4, height, width, dtype=torch.uint8, device=fabric.device)

    def step() -> None:
        logits = state.network(pixels)
        loss = losses.total_loss(logits.masks, logits.classes, masks, config)
        fabric.backward(loss)
        state.optimizer.step()
        state.optimizer.zero_grad()
        float(loss.detach())

    def compare() -> None:
        class Quiet:
            def log(self, line: str) -> None:
                print(line)

        precision.check_training(state.average, [pixels], fabric, {}, "training", Quiet())

    step()
    compare()
    step_s, compare_s = seconds(step), seconds(compare)
    return {
        "step_s": step_s,
        "comparison_s": compare_s,
        **{f"share_of_{count}_steps": compare_s / (count * step_s) for count in (50, 1000)},
    }


def main() -> None:
    """Print all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="unet")
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--size", default="256x1600")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--engine", default="torch")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = registry.build(options.arch, encoder=options.encoder, classes=4, classifier=True)
    found = {"cpu": _cpu_name() or platform.processor(), "threads": torch.get_num_threads()}
    print(json.dumps(found | {"prediction": prediction(options, network)}, indent=2))
    print(json.dumps({"training": training(options, network)}, indent=2))


if __name__ == "__main__":
    main()
