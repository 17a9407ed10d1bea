"""Training steps per second on an idle and on a busy machine, by the number of threads and by how they wait.

    python bench/busy_machine.py [--busy 1] [--rounds 3] [--seconds 8]

Torch's threads wait for each other by spinning, or with OMP_WAIT_POLICY=PASSIVE by sleeping. `severstal train` fits
their number to the cores that other processes leave free, as "fitted" does here. Each round measures the default,
passive threads, one thread, and fitted threads of both kinds, first on the machine as it is, then beside `--busy`
processes that count; `--busy 0` measures only the former. The figures are medians over the rounds: steps per second,
and CPU time per step, which other processes hardly change.
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
from lightning_fabric import Fabric
from severstal_cli.learning.training.free_cores import threads_for
from severstal_cli.progress import SILENT
if sys.argv[2] == "one":
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
with threads_for(Fabric(accelerator="cpu"), SILENT) as fit:
    if sys.argv[2] == "fitted":
        fit()
    begun, computed, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < float(sys.argv[1]):
        step()
        steps += 1
print(steps / (time.perf_counter() - begun), (time.process_time() - computed) / steps)
"""

KINDS = {
    "default": ("", "all"),
    "passive": ("PASSIVE", "all"),
    "one thread": ("", "one"),
    "fitted": ("", "fitted"),
    "fitted, passive": ("PASSIVE", "fitted"),
}
"""OMP_WAIT_POLICY and threads of each kind of training."""


def measure(seconds, policy, threads):
    """Steps per second, and seconds of CPU time per step, of all threads together: what waiting threads burn counts."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    }
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    words = [sys.executable, "-W", "ignore", "-c", CHILD, str(seconds), threads]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return tuple(map(float, done.stdout.split()))


def count():
    while True:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    for busy in sorted({0, options.busy}):
        others = [multiprocessing.Process(target=count, daemon=True) for _ in range(busy)]
        for other in others:
            other.start()
        time.sleep(1)
        rounds = [[measure(options.seconds, *kind) for kind in KINDS.values()] for _ in range(options.rounds)]
        for other in others:
            other.terminate()
        print(f"beside {busy} busy processes")
        for number, name in enumerate(KINDS):
            own, default = ([one[which] for one in rounds] for which in (number, 0))
            print(
                f"{name:15} {shown(own, default, 0, 'steps/s')}; {shown(own, default, 1, 's of CPU time per step')}",
                flush=True,
            )


def shown(own, default, which, unit):
    """The median, and the median of the ratios to the default by round, with their range."""
    ratios = sorted(one[which] / other[which] for one, other in zip(own, default, strict=True))
    middle = statistics.median(one[which] for one in own)
    return f"{middle:.2f} {unit} ({statistics.median(ratios):.2f} of the default, {ratios[0]:.2f} to {ratios[-1]:.2f})"


if __name__ == "__main__":
    main()
