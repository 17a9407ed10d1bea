"""`severstal audit` on annotations with injected faults."""

import argparse
from pathlib import Path

import audit_runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data folder with clean annotations; needed once")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000, help="images of each seed, drawn from those of --data")
    parser.add_argument("--share", type=float, default=0.05, help="share of the masks that get each kind of fault")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--network", default="unet")
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    parser.add_argument("--encoder-file", type=Path, help="its weights; default: from scratch")
    parser.add_argument("--config", type=Path, help="other settings of `train`, as JSON")
    options = parser.parse_args()
    for seed in options.seeds:
        audit_runs.prepare(options, seed)


if __name__ == "__main__":
    main()
