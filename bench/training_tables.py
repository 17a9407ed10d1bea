"""The Markdown tables of `bench/trainings.py`.

`Results` are keyed by name and seed; a result has the scores of a training, its `epochs`, `images_per_s` and `wall_s`.
"""

import math
import statistics
from typing import Any

Results = dict[str, dict[int, dict[str, Any]]]

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""97.5 % of Student's t, by degrees of freedom from 1; the last one serves for more, too."""


def interval(values: list[float], form: str = ".4f") -> str:
    """Mean and half the 95 % interval of it; of one value no interval."""
    mean = format(statistics.mean(values), form)
    if len(values) < 2:
        return mean
    quantile = T_QUANTILES[min(len(values) - 1, len(T_QUANTILES)) - 1]
    return f"{mean} ± {quantile * statistics.stdev(values) / math.sqrt(len(values)):.4f}"


def ratio_of_means(ours: list[float], plain: list[float]) -> str:
    """Of paired values, with the interval of the ratio estimator (Cochran, Sampling Techniques, chapter 6)."""
    ratio, count = sum(ours) / sum(plain), len(ours)
    if count < 2:
        return f"{ratio:.2f}"
    rest = math.sqrt(sum((a - ratio * b) ** 2 for a, b in zip(ours, plain, strict=True)) / (count - 1))
    half = T_QUANTILES[min(count - 1, len(T_QUANTILES)) - 1] * rest / math.sqrt(count) / statistics.mean(plain)
    return f"{ratio:.2f} ± {half:.2f}"


def table(head: str, rows: list[list[object]]) -> str:
    columns = [name.strip() for name in head.split("|")]
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def mean_of(found: list[dict[str, Any]], name: str) -> float:
    return statistics.mean(result[name] for result in found if result[name] is not None)


def ablation_table(by_name: Results) -> str:
    base, rows = by_name.get("base", {}), []
    for name, by_seed in by_name.items():
        found, pairs = list(by_seed.values()), [(by_seed[seed], base[seed]) for seed in by_seed if seed in base]
        differences = {
            score: [one[score] - other[score] for one, other in pairs] if name != "base" else []
            for score in ("searched", "dice")
        }
        shown = [interval(values, "+.4f") if values else "" for values in differences.values()]
        order = statistics.mean(differences["searched"]) if differences["searched"] else 0.0
        row = [
            name,
            f"{mean_of(found, 'searched'):.4f}",
            shown[0],
            f"{mean_of(found, 'dice'):.4f}",
            shown[1],
            f"{mean_of(found, 'dice_present'):.4f}",
            len(found),
            f"{mean_of(found, 'epochs'):.1f}",
            f"{mean_of(found, 'images_per_s'):.1f}",
        ]
        rows.append((order, row))
    everything = [result for by_seed in by_name.values() for result in by_seed.values()]
    nothing = f"Predicting nothing: {mean_of(everything, 'nothing'):.4f}."
    head = "ingredient | searched | to base | at 0.5 | to base | class there, at 0.5 | seeds | epochs | images/s"
    return table(head, [row for _, row in sorted(rows, key=lambda pair: -pair[0])]) + f"\n\n{nothing}"


def plain_table(by_name: Results) -> str:
    rows: list[list[object]] = []
    pairs_of = {
        arch: [
            (one, by_name[f"{arch}-plain"][seed])
            for seed, one in by_name.get(arch, {}).items()
            if seed in by_name.get(f"{arch}-plain", {})
        ]
        for arch in ("unet", "linknet")
    }
    pairs_of["both"] = pairs_of["unet"] + pairs_of["linknet"]
    for arch, pairs in pairs_of.items():
        for ours, plain in pairs if arch != "both" else []:
            ratio = f"{(1 - ours['dice']) / (1 - plain['dice']):.2f}"
            rows.append(
                [
                    arch,
                    ours["seed"],
                    f"{ours['dice']:.4f}",
                    f"{plain['dice']:.4f}",
                    ratio,
                    *(f"{result['wall_s'] / 60:.1f}" for result in (ours, plain)),
                    *(f"{result['epochs']:.1f}" for result in (ours, plain)),
                ]
            )
    for arch, pairs in pairs_of.items():
        if pairs:
            ours, plain = [[result["dice"] for result in side] for side in zip(*pairs, strict=True)]
            ratio = ratio_of_means([1 - dice for dice in ours], [1 - dice for dice in plain])
            rows.append([f"{arch}, mean", len(pairs), interval(ours), interval(plain), ratio, "", "", "", ""])
    if pairs_of["both"]:
        rows.append(["predicting nothing", "", f"{pairs_of['both'][0][0]['nothing']:.4f}", *[""] * 6])
    head = "network | seed | ours | plain script | error, ours / plain | minutes, ours | plain | epochs, ours | plain"
    return table(head, rows)


def study_table(by_name: Results) -> str:
    rows: list[list[object]] = []
    for name in (name for name in ("unet-small", "linknet-small", "unet", "linknet") if name in by_name):
        found = list(by_name[name].values())
        rows.append(
            [
                name,
                len(found),
                interval([result["dice"] for result in found]),
                f"{mean_of(found, 'dice_present'):.4f}",
                f"{mean_of(found, 'epochs'):.1f}",
                f"{mean_of(found, 'wall_s') / 60:.1f}",
            ]
        )
    nothing = [result["nothing"] for by_seed in by_name.values() for result in by_seed.values()]
    rows += [["predicting nothing", "", f"{value:.4f}", "0.0000", "", ""] for value in nothing[:1]]
    return table("network | seeds | mean Dice | where the class is there | epochs | minutes", rows)


TABLES = {"ablation": ablation_table, "plain": plain_table, "study": study_table}
