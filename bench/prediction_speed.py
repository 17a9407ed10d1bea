"""Speed of prediction from files to submission.csv, relative to the network alone and to a plain script.

    severstal synth set --images 600
    severstal split --data set
    severstal train --data set --arch unet --encoder resnet34 --encoder-weights none --time-limit 10m
    severstal thresholds models/unet-resnet34-fold0
    python bench/prediction_speed.py set/train_images models/unet-resnet34-fold0 [RUN...] [--engines openvino torch]
        [--tta none flips] [--images 64] [--rounds 3] [--batch-size 8] [--int8]

For each run, engine and set of TTA views, `--rounds` times: `severstal predict` with a network that is loaded already;
then the network alone on a prepared batch with all views, for `--images` images; then `bench/plain_predict.py` on a
quarter of the images. Ratios are medians over the rounds, with the lowest and the highest. The targets are 0.90 of the
network alone, and on a CPU 3 times the plain script with OpenVINO and 2 times with torch. --profile adds the time of
each step other than the network.

--int8 adds `RUN-openvino-int8` (`severstal export RUN --format openvino --int8`), measured in the same rounds, and its
ratio to OpenVINO without int8; the targets are 1.6, and 8 (unet) or 10 (linknet) times the plain script.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import plain_predict
import torch

from severstal_cli.config import PredictConfig
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import engines, ensemble, level_maps, runtimes, tta
from severstal_cli.learning.networks.registry import STRIDE
from severstal_cli.stages import prediction
from severstal_cli.steel.images import decoding
from severstal_cli.steel.masks import postprocess
from severstal_cli.steel.tables import confidence


def timed(function):
    torch.cuda.synchronize() if torch.cuda.is_available() else None
    begun = time.perf_counter()
    function()
    torch.cuda.synchronize() if torch.cuda.is_available() else None
    return time.perf_counter() - begun


def alone(member, pixels, fabric, count):
    """The network on `pixels` again and again, until it has seen `count` of them."""
    member = getattr(member, "half", member)  # without what sees whether half precision agrees
    if isinstance(member, runtimes.OpenVino):  # without the loop over the images of a batch
        request, image = member._request(pixels.shape[2:]), pixels[:1].numpy()
        return lambda: [request.infer([image], share_inputs=True, share_outputs=True) for _ in range(count)]

    def run():
        with torch.inference_mode(), fabric.autocast():
            for _ in range(count // len(pixels)):
                member(pixels)

    return run


def shown(ratios):
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def profile(paths, how, members, fabric):
    """Seconds for all `paths` of what is not the network, each part alone on one core."""
    rules = how.thresholds
    [first] = level_maps.predict_levels(members, [decoding.read_grey(paths[0])], fabric, exclusive=True)
    confidence.expected_dice(first, postprocess.levels_to_rle(first, rules.rules))  # compiled now
    found = {"decode": timed(lambda: [decoding.read_grey(path) for path in paths])}
    levels = list(level_maps.predict_levels(members, map(decoding.read_grey, paths), fabric))
    found["exclusive"] = timed(lambda: [postprocess.make_exclusive(each) for each in levels])
    used = [postprocess.make_exclusive(each) for each in levels]
    masks = []
    found["masks and run lengths"] = timed(
        lambda: masks.extend(postprocess.levels_to_rle(each, rules.rules) for each in used)
    )
    found["scores"] = timed(lambda: [confidence.expected_dice(*each) for each in zip(used, masks, strict=True)])
    print(
        "    one core, milliseconds an image: "
        + ", ".join(f"{name} {1e3 * seconds / len(paths):.1f}" for name, seconds in found.items())
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder", type=Path, metavar="IMAGES")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--engines", nargs="+", default=["openvino", "torch"])
    parser.add_argument("--tta", nargs="+", default=["none", "flips"], choices=sorted(plain_predict.FLIPS))
    parser.add_argument("--images", dest="count", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--no-plain", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--int8", action="store_true")
    options = parser.parse_args()
    fabric = open_device()
    paths = sorted(options.data_folder.iterdir())[: options.count]
    size = decoding.read_grey(paths[0]).shape
    device = torch.cuda.get_device_name() if fabric.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{len(paths)} images of {size[0]} x {size[1]}, batches of {options.batch_size}, {device}")
    for folder in options.runs:
        plain = None if options.no_plain else plain_predict.Network(folder)
        for engine in options.engines:
            ours = opened(folder, engine, fabric, options)
            if options.profile:
                profile(paths, *ours, fabric)
            int8 = None
            if options.int8 and engine == "openvino":
                int8 = opened(folder.with_name(f"{folder.name}-openvino-int8"), engine, fabric, options)
            for views in options.tta:
                measure(options, paths, size, fabric, plain, engine, ours, int8, views)


def opened(folder, engine, fabric, options):
    how = ensemble.read([folder])
    return how, engines.load_members(how.folders, how.cards, fabric, engine=engine)


def commands(options, paths, how, members, engine, views, folder):
    """`predict` of all images with these networks, after it has predicted a batch."""

    def predict(some, name):
        config = PredictConfig(
            images=tuple(some),
            runs=how.folders,
            tta=views,
            engine=engine,
            batch_size=options.batch_size,
            out=Path(folder) / name,
        )
        with mock.patch.object(engines, "load_members", return_value=members):
            prediction.predict(config)

    predict(paths[: options.batch_size], "few.csv")
    return lambda: predict(paths, "ours.csv")


def measure(options, paths, size, fabric, plain, engine, ours, int8, views):
    count = len(tta.views_of(views))
    height, width = (-(-side // STRIDE) * STRIDE for side in size)
    pixels = torch.rand(options.batch_size * count, 1, height, width, device=fabric.device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        some = paths[: max(1, len(paths) // 4)]
        components = []
        script = lambda: components.append(  # noqa: E731
            plain_predict.predict(some, plain, views, Path(folder) / "plain.csv")
        )
        timings = {}
        for name, network in (("ours", ours), ("int8", int8)):
            if network is not None:
                timings[name] = commands(options, paths, *network, engine, views, folder), len(paths)
                timings[f"{name}, network alone"] = alone(network[1][0], pixels, fabric, count * len(paths)), len(paths)
        if plain is not None:
            timings["plain script"] = script, len(some)
        rates = {name: [] for name in timings}
        for _ in range(options.rounds):
            for name, (run, images) in timings.items():
                rates[name].append(images / timed(run))
        line = ", ".join(f"{name} {statistics.median(found):.2f}" for name, found in rates.items())
        arch = ours[0].cards[0].arch
        print(f"{arch} {ours[0].cards[0].encoder}, {engine}, {views}: images/s {line}")
        for above, below, target in (
            ("ours", "ours, network alone", 0.90),
            ("ours", "plain script", {"openvino": 3, "torch": 2}.get(engine)),
            ("int8", "ours", 1.6),
            ("int8", "int8, network alone", 0.90),
            ("int8", "plain script", {"unet": 8, "linknet": 10}.get(arch)),
        ):
            if above in rates and below in rates:
                ratios = [a / b for a, b in zip(rates[above], rates[below], strict=True)]
                print(f"    {above} over {below}: {shown(ratios)}; reach {target}", flush=True)
        if components:
            print(f"    the plain script found {components[0] / len(some):.1f} components an image", flush=True)


if __name__ == "__main__":
    main()
