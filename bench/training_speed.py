"""Training through the real data path, over the same loop on one prepared batch: images/s, ratio, peak memory.

    python bench/training_speed.py [--arch unet] [--encoder resnet34] [--batch 4] [--size 256x1600] [--precision auto]
                                   [--device auto] [--steps 3] [--rounds 3] [--images 24] [--no-plain]

`loop.train_epoch` runs `--steps` steps on whole synthetic images from a `TrainingSet`, then as many steps on one batch
that is on the device already, then `bench/plain_script.py` as many on the same images: masks as float32 images, decoded
one by one in the main process. The three take turns `--rounds` times, as a shared machine is not always equally fast;
ratios are medians over the rounds. Ours and plain run in separate processes, so that each has its own peak memory:
resident memory on the CPU, allocated memory on CUDA. The first step of each is a warm-up. The target of the first ratio
is 0.95. A short epoch hides less of its first batch than a long one: on CUDA give --steps 200.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from severstal_cli.config import TrainConfig
from severstal_cli.steel.synth import write_synthetic_set


class Resident:
    """The one batch, in place of a `TrainingSet`, on the device already."""

    def __init__(self, fed, steps):
        self.fed, self.steps, self.epoch_images = fed, steps, len(fed[0].image_ids) * steps

    def __len__(self):
        return self.steps

    def batches(self, epoch, share_done):
        return itertools.repeat(self.fed, self.steps)


def peak_mib():
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def page_faults():
    """Of this process, without reading from the disk: the system gave it a page of memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure_ours(options, size):
    from severstal_cli.learning.device import open_device
    from severstal_cli.learning.networks import registry
    from severstal_cli.learning.training import loop, prefetch
    from severstal_cli.learning.training.batches import TrainingSet
    from severstal_cli.learning.training.new_card import describe
    from severstal_cli.progress import Bar
    from severstal_cli.steel.dataset.data_folder import open_data_folder
    from severstal_cli.steel.dataset.splits import Split

    config = TrainConfig(
        data=options.data,
        arch=options.arch,
        encoder=options.encoder,
        encoder_weights="none",
        batch_size=options.batch,
        crop_height_px=size[0],
        crop_widths_px=(size[1],),
        precision=options.precision,
    )
    data_folder = open_data_folder(options.data)
    known, wanted = data_folder.cache.image_ids, options.steps * options.batch
    ids = list(itertools.islice(itertools.cycle(known), wanted))
    split = Split(path=options.data, parts={}, groups={}, class_sets={})  # nothing is validated
    fabric = open_device(options.precision)
    card = describe(config, data_folder, split, ids, [], None, (), fabric)
    network = registry.build(options.arch, encoder=options.encoder, classes=data_folder.classes)
    state = loop.start(network, config, fabric)
    real = TrainingSet(data_folder, ids, config)
    fed = next(prefetch.on_device(real.batches(0, 0.5), fabric.device))

    def images_per_s(source, epoch):
        sent = (lambda batches, device: batches) if isinstance(source, Resident) else prefetch.on_device
        with mock.patch.object(loop, "on_device", sent):
            result = loop.train_epoch(state, source, epoch, config, card, fabric, lambda steps: 0.5, Bar())
        return result.images / result.seconds

    images_per_s(Resident(fed, 1), 0)
    yield {}
    for number in range(options.rounds):
        faults = page_faults()
        yield {
            "real": images_per_s(real, number),
            "faults": (page_faults() - faults) / options.steps,
            "resident": images_per_s(Resident(fed, options.steps), number),
            "peak_mib": peak_mib(),
            "device": fabric.device.type,
            "crop": real.piece,
        }


def measure_plain(options):
    import plain_script
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    masks = plain_script.read_masks(options.data / "train.csv")
    names = sorted(path.name for path in (options.data / "train_images").iterdir())
    names = list(itertools.islice(itertools.cycle(names), options.steps * options.batch))
    classes = max(class_id for _, class_id in masks)
    data_folder = plain_script.Steel(options.data / "train_images", names, masks, classes, True)
    loader = torch.utils.data.DataLoader(data_folder, options.batch, shuffle=True, drop_last=True)
    model = plain_script.make_model(options.arch, options.encoder, classes).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for number in range(options.rounds + 1):
        began, faults = time.perf_counter(), page_faults()
        for images, targets, _, _ in loader if number else itertools.islice(loader, 1):
            plain_script.train_step(model, optimizer, images.to(device), targets.to(device))
        seconds = time.perf_counter() - began
        faults = (page_faults() - faults) / options.steps
        yield {"plain": len(names) / seconds, "plain_faults": faults, "plain_mib": peak_mib()} if number else {}


class InAProcess:
    """One of the two, in a process of its own: `round()` is the result of one round of it."""

    def __init__(self, who, data, device):
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
        command = [sys.executable, __file__, *sys.argv[1:], "--measure", who, "--data", str(data)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | hidden)
        self._read()  # it is warm

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            sys.exit(self._process.wait() or 1)
        return json.loads(line)

    def round(self):
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._read()


def median(rounds, name):
    rates = [each[name] for each in rounds]
    return f"{statistics.median(rates):.2f} images/s (of {len(rates)}: {min(rates):.2f} to {max(rates):.2f})"


def memory(rounds, peak, faults):
    faults = statistics.median(each[faults] for each in rounds)
    return f"peak memory {rounds[-1][peak]:,.0f} MiB, {faults:,.0f} page faults a step"


def ratio(rounds, name, other):
    ratios = [each[name] / each[other] for each in rounds]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="unet", help="the plain script knows unet and linknet")
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", default="256x1600", help="height x width of the images, multiples of 32")
    parser.add_argument("--precision", default="auto", help="of ours; the plain script has bf16")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto")
    parser.add_argument("--steps", type=int, default=3, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=24, help="different ones; they are used in turn")
    parser.add_argument("--no-plain", action="store_true", help="leave the plain script out")
    parser.add_argument("--measure", choices=["ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = tuple(int(side) for side in options.size.split("x"))
    if options.measure:
        for result in measure_ours(options, size) if options.measure == "ours" else measure_plain(options):
            print(json.dumps(result), flush=True)
            if not sys.stdin.readline():  # it waits for its turn
                return
        return
    with tempfile.TemporaryDirectory(prefix="training-speed-") as name:
        data = Path(name) / "data"
        write_synthetic_set(data, seed=0, images=options.images, test_images=0, size=size)
        ours = InAProcess("ours", data, options.device)
        plain = None if options.no_plain else InAProcess("plain", data, options.device)
        rounds = [ours.round() | (plain.round() if plain else {}) for _ in range(options.rounds)]
    first = rounds[0]
    height, width = first["crop"]
    print(f"{options.arch} {options.encoder}, batches of {options.batch} x {height} x {width}, {first['device']}")
    print(f"real data path:  {median(rounds, 'real')}, {memory(rounds, 'peak_mib', 'faults')}")
    print(f"resident batch:  {median(rounds, 'resident')}")
    if plain:
        print(f"plain script:    {median(rounds, 'plain')}, {memory(rounds, 'plain_mib', 'plain_faults')}")
    print(f"real / resident: {ratio(rounds, 'real', 'resident')}, target 0.95")
    if plain:
        print(f"ours / plain:    {ratio(rounds, 'real', 'plain')}")


if __name__ == "__main__":
    main()
