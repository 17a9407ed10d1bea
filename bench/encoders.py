"""Compatibility of encoders and networks: each pair is built, tried out and trained for one step, from random weights.

    python bench/encoders.py RESULTS.jsonl [--table docs/encoders.md] [--again refused,fails] [--only REGEX]

Tests every encoder of segmentation-models-pytorch, and one or two timm models of each family, as `tu-NAME`. A pair
works, is refused in one line, or fails, which is a bug. Each pair runs in its own process with limits on memory and
time, like `severstal train`: `registry.build`, `registry.try_out`, and one step with the training's loss on two images
of 64 x 64, or larger ones if it refuses these, in channels last, with the classification head. The step is plain SGD,
which needs half of AdamW's memory. A pair with a line in RESULTS.jsonl is skipped, unless `--again` names its outcome.
"""

import argparse
import copy
import json
import os
import re
import resource
import signal
import time
import traceback
import warnings
from pathlib import Path

import torch

from severstal_cli.config import TrainConfig
from severstal_cli.errors import InputError, SeverstalError
from severstal_cli.learning.networks import registry
from severstal_cli.learning.training import losses

BEGINS = "<!-- written by bench/encoders.py -->"

SIDES, CLASSES = (64, 96, 224, 256), 3
"""The images are squares; some encoders take only large ones, or those of one size."""

OF_TIMM = """
resnet18 resnet34 resnet50 resnet26t resnet50d resnet101d resnetrs50 resnetaa50 seresnet50 ecaresnet50d skresnet18
resnest14d resnest50d res2net50_26w_4s res2next50 resnext50_32x4d resnetv2_50 resnetv2_50x1_bit wide_resnet50_2
gcresnet50t regnetx_002 regnety_032 regnetz_c16 gernet_s gernet_m repvgg_a2 densenet121 dpn68 dla34 dla60
hrnet_w18_small hrnet_w18 vgg11_bn vgg16 inception_v3 inception_v4 inception_resnet_v2 xception41 xception65
xception71 legacy_xception efficientnet_b0 efficientnet_b3 efficientnetv2_rw_t efficientnet_lite0 tf_efficientnet_b0
tf_efficientnetv2_s tf_efficientnet_lite0 tf_efficientnet_lite1 tf_efficientnet_lite2 tf_efficientnet_lite3
tf_efficientnet_lite4 mobilenetv1_100 mobilenetv2_100 mobilenetv3_large_100 tf_mobilenetv3_small_100
mobilenetv4_conv_small mobilenetv4_hybrid_medium mnasnet_100 ghostnet_100 ghostnetv2_100 lcnet_050 mixnet_s fbnetc_100
fbnetv3_b hardcorenas_a tinynet_a rexnet_100 spnasnet_100 semnasnet_100 nfnet_f0 nf_resnet50 eca_nfnet_l0 dm_nfnet_f0
cspresnet50 cspdarknet53 darknet53 selecsls42b tresnet_m convnext_atto convnext_tiny convnextv2_atto convnextv2_tiny
convnext_zepto_rms edgenext_small fastvit_t8 repvit_m1 mobileone_s0 mobilevit_s mobilevitv2_100 efficientformer_l1
efficientformerv2_s0 efficientvit_b0 efficientvit_m0 poolformer_s12 poolformerv2_s12 caformer_s18 convformer_s18
swin_tiny_patch4_window7_224 swin_s3_tiny_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224 pvt_v2_b0 twins_svt_small
twins_pcpvt_small maxvit_tiny_tf_224 maxvit_tiny_rw_224 maxxvit_rmlp_nano_rw_256 coatnet_0_rw_224 coatnext_nano_rw_224
coat_tiny convit_tiny crossvit_9_240 levit_128 nest_tiny nextvit_small hiera_tiny_224 mvitv2_tiny davit_tiny
focalnet_tiny_srf gcvit_tiny hgnet_small hgnetv2_b0 inception_next_tiny lambda_resnet26t lambda_resnet26rpt_256
halonet26t botnet26t_256 sebotnet33ts_256 bat_resnext26ts eca_botnext26ts_256 haloregnetz_b visformer_tiny
vit_tiny_patch16_224 vit_small_patch14_dinov2 vit_small_resnet26d_224 vit_relpos_small_patch16_224
vit_medium_patch16_gap_240 deit_tiny_patch16_224 deit3_small_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224
cait_xxs24_224 xcit_nano_12_p16_224 mixer_s32_224 gmixer_24_224 gmlp_s16_224 resmlp_12_224 convmixer_768_32
tnt_s_patch16_224 pit_ti_224 volo_d1_224 vovnet39a ese_vovnet19b_dw vitamin_small_224 starnet_s1 mambaout_femto
rdnet_tiny samvit_base_patch16 tiny_vit_5m_224 sequencer2d_s shvit_s1 fasternet_t0 ghostnetv3_100 mobilenetv5_300m
repghostnet_050 csatv2 swiftformer_xs
"""
"""One or two of a family, the small ones."""


def try_pair(arch, encoder, half):
    """What a training would do first. Its number of weights, and the smallest side that it takes."""
    torch.manual_seed(0)
    network = registry.build(arch, encoder=encoder, classes=CLASSES, classifier=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        side = _smallest_side(network, arch, encoder)
        registry.try_out(network, arch, encoder, (1, side, side))
    copy.deepcopy(network)  # the EMA weights
    network.train()
    pixels = torch.randn(2, 1, side, side).contiguous(memory_format=torch.channels_last)
    masks = (torch.rand(2, CLASSES, side, side) < 0.1).to(torch.uint8)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = network(pixels)
    loss = losses.total_loss(logits.masks, logits.classes, masks, TrainConfig())
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=1e-3, foreach=False).step()
    if not loss.isfinite():
        raise ValueError(f"the loss is {float(loss)}")
    return sum(weight.numel() for weight in network.parameters()), side


def _smallest_side(network, arch, encoder):
    for side in SIDES:
        try:
            registry.try_out(network, arch, encoder, (1, side, side), images=2, learns=True)
        except InputError as error:
            refused = error
        else:
            return side
    raise refused


def in_child(arch, encoder, memory, seconds, half):
    """`try_pair` in a process of its own, which this one forks: the libraries are imported already."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        signal.alarm(seconds)
        began = time.monotonic()
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("default")
            try:
                weights, side = try_pair(arch, encoder, half)
                found = {"outcome": "works", "weights": weights, "side": side, "found": ""}
            except SeverstalError as error:
                found = {"outcome": "refused", "found": str(error)}
            except Exception as error:
                trace = traceback.format_exc().splitlines()[-4:]
                found = {"outcome": "fails", "found": f"{type(error).__name__}: {error}", "trace": trace}
        found["warned"] = sorted({str(one.message)[:200] for one in raised if one.category is not DeprecationWarning})
        found["seconds"] = round(time.monotonic() - began, 2)
        os.write(writing, json.dumps(found).encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if content:
        return json.loads(content)
    return {"outcome": "fails", "found": f"ended by signal {status & 127}"}


def table(encoders, done):
    """The lines of the tables: encoders by the networks that take them, and why others are refused."""
    networks = sorted({arch for arch, _ in done})
    for title, names in (
        ("segmentation-models-pytorch", [name for name in encoders if not name.startswith("tu-")]),
        ("timm", [name for name in encoders if name.startswith("tu-")]),
    ):
        tried = {name: {arch: done[arch, name] for arch in networks if (arch, name) in done} for name in names}
        tried = {name: found for name, found in tried.items() if found}
        pairs = [one["outcome"] for found in tried.values() for one in found.values()]
        yield f"\n## Encoders of {title}\n"
        yield f"{len(tried)} encoders, {len(pairs)} pairs: {pairs.count('works')} work, "
        yield f"{pairs.count('refused')} are refused in one line, {pairs.count('fails')} fail.\n"
        yield "| works with | encoders |\n|---|---|"
        groups = {}
        for name, found in tried.items():
            works = [arch for arch, one in found.items() if one["outcome"] == "works"]
            side = max((found[arch]["side"] for arch in works if found[arch].get("side", 0) > SIDES[0]), default=0)
            at = f", not at 64 x 64, but at {side} x {side}" if side else ""
            if works:
                groups.setdefault(", ".join(works) + at, []).append(f"`{name}`")
        yield from (f"| {works} | {' '.join(members)} |" for works, members in groups.items())
        reasons = {}
        for name, found in tried.items():
            for arch, one in found.items():
                if one["outcome"] != "works":
                    why = one["found"].removesuffix(". Choose another --encoder").partition(": ")[2]
                    reasons.setdefault(f"{one['outcome']}: {why}".replace(name, "it").replace("|", "/"), {}).setdefault(
                        name, []
                    ).append(arch)
        yield "\n| not | encoders |\n|---|---|"
        for why, members in reasons.items():
            refused = (f"`{name}` ({', '.join(archs)})" for name, archs in members.items())
            yield f"| {why} | {' '.join(refused)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--table", type=Path, help="a Markdown file to write")
    parser.add_argument("--again", default="", help="outcomes that are tried again, joined by commas")
    parser.add_argument("--only", default="", help="a regular expression: the encoders to try")
    parser.add_argument("--half", action="store_true", help="under autocast to bfloat16")
    parser.add_argument("--networks", nargs="+", help="default: all that take an encoder")
    parser.add_argument("--memory-gib", type=float, default=10)
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    import segmentation_models_pytorch as smp
    import timm

    encoders = [*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in OF_TIMM.split() if timm.is_model(name))]
    networks = options.networks or [name for name, entry in registry.REGISTRY.items() if entry.has_encoder]
    done = {}
    if options.results.exists():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            done[found["arch"], found["encoder"]] = found
    again = options.again.split(",")
    for encoder in filter(re.compile(options.only).match, encoders):
        for arch in networks:
            if (arch, encoder) in done and done[arch, encoder]["outcome"] not in again:
                continue
            found = {"arch": arch, "encoder": encoder}
            found |= in_child(arch, encoder, int(options.memory_gib * 2**30), options.seconds, options.half)
            done[arch, encoder] = found
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(f"{encoder} {arch}: {found['outcome']} {found['found'][:150]}", flush=True)
    counts = {}
    for found in done.values():
        counts[found["outcome"]] = counts.get(found["outcome"], 0) + 1
    print(len(done), "pairs:", ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if options.table:
        text = options.table.read_text(encoding="utf-8")
        head = text[: text.index(BEGINS) + len(BEGINS)]
        options.table.write_text(head + "\n".join(table(encoders, done)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
