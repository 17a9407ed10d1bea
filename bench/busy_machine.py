"""Training steps per second on an idle and on a busy machine, with threads that spin while they wait and that sleep.

    python bench/busy_machine.py [--busy 1] [--rounds 3] [--seconds 8]

`severstal` sets OMP_WAIT_POLICY=PASSIVE unless the environment sets it: torch's threads then sleep while they wait for
each other. Each round measures both policies with all cores, and one thread alone, first on the machine as it is, then
beside `--busy` processes that count. The figures are medians over the rounds; the ratio is passive over the default.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

CHILD = """
import sys, time
import torch
import segmentation_models_pytorch as smp
if sys.argv[2] == "1":
    torch.set_num_threads(1)
network = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=4).to(memory_format=torch.channels_last)
optimiser = torch.optim.AdamW(network.parameters(), fused=True)
images = torch.randn(8, 1, 192, 192).to(memory_format=torch.channels_last)
def step():
    with torch.autocast("cpu", torch.bfloat16):
        masks = network(images)
    masks.float().square().mean().backward()
    optimiser.step()
    optimiser.zero_grad()
step()
begun, steps = time.perf_counter(), 0
while time.perf_counter() - begun < float(sys.argv[1]):
    step()
    steps += 1
print(steps / (time.perf_counter() - begun))
"""


def steps_per_s(seconds, policy, threads="all"):
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    }
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    words = [sys.executable, "-W", "ignore", "-c", CHILD, str(seconds), threads]
    return float(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


def count():
    while True:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    for busy in (0, options.busy):
        others = [multiprocessing.Process(target=count, daemon=True) for _ in range(busy)]
        for other in others:
            other.start()
        time.sleep(1)
        rounds = [
            (
                steps_per_s(options.seconds, ""),
                steps_per_s(options.seconds, "PASSIVE"),
                steps_per_s(options.seconds, "", "1"),
            )
            for _ in range(options.rounds)
        ]
        for other in others:
            other.terminate()
        default, passive, one = (statistics.median(each) for each in zip(*rounds, strict=True))
        ratios = sorted(passive / default for default, passive, _ in rounds)
        print(
            f"beside {busy} busy processes: default {default:.2f}, passive {passive:.2f}, one thread {one:.2f} steps/s"
        )
        print(
            f"passive over default: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True
        )


if __name__ == "__main__":
    main()
