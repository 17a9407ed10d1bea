"""Time of `severstal --help`, compared with an empty Python program.

python bench/help.py [--runs 15]
"""

import argparse
import statistics
import subprocess
import sys
import time


def seconds(*arguments):
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    commands = {"severstal --help": ("-m", "severstal_cli", "--help"), "python -c pass": ("-c", "pass")}
    times = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, arguments in commands.items():
            took = seconds(*arguments)
            if turn:  # the first turn fills the file cache
                times[name].append(took)
    for name, found in times.items():
        print(f"{name}: {statistics.median(found):.3f} s (of {runs}: {min(found):.3f} to {max(found):.3f})")
    ratios = [ours / bare for ours, bare in zip(*times.values(), strict=True)]
    print(f"median ratio of pairs: {statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main()
