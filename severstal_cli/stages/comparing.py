"""`compare`: networks, runs or submissions on the same images: a table, a plot and a verdict on each difference.

A network of the registry stands for its training settings: it is trained with each seed, unless such runs exist. The
first candidate is the baseline. The intervals cover the variation between images and, with several seeds, between
trainings. Several comparisons get wider intervals (Bonferroni): together they are wrong in 5 % of all cases.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from severstal_cli import files
from severstal_cli.config import CompareConfig, ScoreConfig, ThresholdsConfig
from severstal_cli.config.training import different_settings, settings_with
from severstal_cli.errors import InputError
from severstal_cli.progress import SILENT, Progress
from severstal_cli.stages import scoring
from severstal_cli.steel import drawing
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.images import surveys
from severstal_cli.steel.images.image_files import check_no_images
from severstal_cli.steel.scoring import dice, intervals
from severstal_cli.steel.scoring.comparison import CompareResult, Row, markdown
from severstal_cli.steel.scoring.scores import Difference, ScoreResult, Scores, differences
from severstal_cli.steel.tables import csv_rows, table_files
from severstal_cli.wording import between, counted, percent, signed

MARKDOWN, CONTENT, PLOT = "comparison.md", "comparison.json", "comparison.png"


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    name: str
    scores: tuple[Scores, ...]
    runs: tuple[Path, ...] = ()


def compare(config: CompareConfig, progress: Progress = SILENT) -> CompareResult:
    """Train missing runs and search their thresholds, score all candidates, and write a table, JSON and a plot.

    Raises:
        InputError: candidates that cannot be compared, options without effect on them, runs with other settings than
            the given ones, or wrong tables.
        SeverstalError: as `train`, `thresholds` and `score` do.
    """
    names = config.candidates
    out = config.out or Path("comparisons") / "-".join(Path(name).stem for name in names)
    files.check_writable(out / CONTENT)
    kinds = {csv_rows.is_table(Path(name)): name for name in reversed(names)}
    if len(kinds) > 1:
        raise InputError(
            "submissions are compared with submissions only",
            f"{kinds[True]} is one, {kinds[False]} is not",
            "Predict the same images with the run, and give that submission",
        )
    candidates, true, read_image = (_submissions if True in kinds else _runs)(config, progress)
    image_ids = candidates[0].scores[0].image_ids
    check_no_images(out, image_ids, "The plot would be taken for an image: name another folder with --out")
    rows = _rows(candidates)
    result = CompareResult(rows=rows, folder=out, has_plot=read_image is not None)
    plot = None
    if read_image is not None:
        columns = [("ground truth", true), *((candidate.name, candidate.scores[0].masks) for candidate in candidates)]
        first = candidates[0].scores[0]
        plot = drawing.by_class(columns, first.image_ids, max(first.class_ids), read_image, first.class_names)
    files.write_text(out / CONTENT, json.dumps(result.to_dict(), indent=2) + "\n")
    files.write_text(out / MARKDOWN, markdown(result))
    if plot is None:
        (out / PLOT).unlink(missing_ok=True)  # of an earlier comparison
    else:
        drawing.write_png(out / PLOT, plot)
    return result


def _submissions(
    config: CompareConfig, progress: Progress
) -> tuple[list[_Candidate], dice.Masks, drawing.ReadImage | None]:
    _check_given(config, "submissions", {"truth", "images"})
    if config.truth is None:
        raise InputError("submissions need ground truth", "", "Give --truth train.csv, and --images DIR")
    paths = list(map(Path, config.candidates))
    scored = scoring.score_submissions(paths, config.truth, config.images, progress, config.class_names)
    candidates = [
        _Candidate(name=name, scores=(scores,))
        for name, scores in zip(_short(config.candidates), scored.scores, strict=True)
    ]
    has_all_images = len(scored.files) == len(scored.scores[0].image_ids)
    return candidates, scored.tables[config.truth].masks, surveys.reader(scored.files) if has_all_images else None


def _runs(config: CompareConfig, progress: Progress) -> tuple[list[_Candidate], dice.Masks, drawing.ReadImage | None]:
    from severstal_cli.learning.networks import names

    if config.truth or config.images:
        raise InputError("--truth and --images are for submissions", " ".join(config.candidates), "Omit them")
    for name in config.candidates:
        names.check_candidate(name)
    networks = [name for name in config.candidates if name in names.networks()]
    if not networks:
        _check_given(config, "trained runs", {"data"})
    folders = [
        tuple(_trained(config, name, seed, progress) for seed in config.seeds) if name in networks else (Path(name),)
        for name in config.candidates
    ]
    data = config.train.data if networks else config.data
    candidates = []
    for name, runs in zip(_short(config.candidates), folders, strict=True):
        scored = tuple(
            scoring.score_runs(
                ScoreConfig(runs=(run,), data=data, batch_size=config.batch_size, class_names=config.class_names),
                progress,
            )
            for run in runs
        )
        candidates.append(_Candidate(name=name, scores=scored, runs=runs))
    first = candidates[0].scores[0]
    for candidate in candidates:
        for scores, run in zip(candidate.scores, candidate.runs, strict=True):
            if scores.image_ids != first.image_ids or scores.class_ids != first.class_ids:
                raise InputError(
                    f"{run} has another holdout or other classes than {candidates[0].runs[0]}",
                    "",
                    "Compare runs of the same data and split",
                )
    from severstal_cli.learning.runs.model_card import read_card

    data_folder = open_data_folder(data or Path(read_card(candidates[0].runs[0]).data), progress)
    return candidates, data_folder.masks, lambda image_id: data_folder.cache[data_folder.cache.index[image_id]]


def _trained(config: CompareConfig, arch: str, seed: int, progress: Progress) -> Path:
    """The run with these settings; it is trained or resumed, and its thresholds are searched, if necessary."""
    from severstal_cli.learning.networks import names, registry
    from severstal_cli.learning.runs import model_card, run_folder
    from severstal_cli.stages import threshold_search, training

    wanted = dataclasses.replace(config.train, arch=arch, seed=seed, name=None)
    folder = names.folder_for(wanted)
    folder = folder.with_name(f"{folder.name}-seed{seed}")
    wanted = dataclasses.replace(wanted, name=folder.name)
    begun = (folder / run_folder.CHECKPOINT).exists()
    if (folder / model_card.CARD).exists():
        there = model_card.read_card(folder).config
        if not registry.entry(arch).has_encoder:  # settings of an encoder have no effect on it
            own = {name: there[name] for name in ("encoder", "encoder_weights") if name in there}
            wanted = dataclasses.replace(wanted, **own)
        for name, before, now in different_settings(there, wanted.as_json(), settings_with(changes_training=True)):
            raise InputError(
                f"{folder} was trained with other settings",
                f"{name} {before}, here {now}",
                "Give the same, or --models another folder",
            )
    is_averaged = wanted.best_epochs > 1  # that follows the last epoch, and only a resumed training does it again
    is_trained = not is_averaged and _has_all_epochs(folder, wanted.epochs)
    if not is_trained and (begun or not (folder / model_card.CARD).exists()):
        training.train(dataclasses.replace(wanted, resume=begun), progress)
    if not (folder / run_folder.THRESHOLDS).exists():
        thresholds = ThresholdsConfig(runs=(folder,), data=config.train.data, batch_size=config.batch_size)
        threshold_search.search(thresholds, progress)
    return folder


def _has_all_epochs(folder: Path, epochs: int) -> bool:
    from severstal_cli.learning.runs import run_folder
    from severstal_cli.learning.training import history

    return (folder / run_folder.WEIGHTS).exists() and len(history.read(folder)) >= epochs


def _check_given(config: CompareConfig, kind: str, used: set[str]) -> None:
    """Check that all given options have an effect. Raises InputError."""
    idle = [f"--{name.replace('_', '-')}" for name in config.given if name not in used]
    if idle:
        raise InputError(
            f"{' and '.join(idle)} {'do' if len(idle) > 1 else 'does'} nothing for {kind}",
            " ".join(config.candidates),
            f"Omit {'them' if len(idle) > 1 else 'it'}",
        )


def _rows(candidates: Sequence[_Candidate]) -> tuple[Row, ...]:
    first = candidates[0]
    rows = []
    level = 1 - (1 - intervals.LEVEL) / max(1, len(candidates) - 1)
    for candidate in candidates:
        trainings = tuple(float(scores.dice.mean()) for scores in candidate.scores)
        by_class = differences(candidate.scores, first.scores, level=level) if candidate is not first else []
        verdict = _verdict(candidate, first, by_class[-1]) if by_class else ""
        rows.append(
            Row(
                name=candidate.name,
                score=_mean_of(candidate.scores),
                trainings=trainings,
                differences=tuple(by_class),
                verdict=verdict,
                **_facts(candidate),
            )
        )
    return tuple(rows)


def _mean_of(every: Sequence[Scores]) -> ScoreResult:
    """The mean score over trainings, with the mean number of predicted masks."""
    score = dataclasses.replace(every[0], dice=np.mean([one.dice for one in every], axis=0)).summary()
    if len(every) == 1:
        return score
    counts = np.mean([one.found.sum(axis=0) for one in every], axis=0).tolist()
    by_class = tuple(
        dataclasses.replace(of_class, predicted_masks=count)
        for of_class, count in zip(score.by_class, counts, strict=True)
    )
    return dataclasses.replace(score, by_class=by_class)


def _facts(candidate: _Candidate) -> dict[str, Any]:
    """Number of weights, training time and prediction speed of runs; empty for submissions."""
    if not candidate.runs:
        return {}
    from severstal_cli.learning.runs import model_card, run_folder
    from severstal_cli.learning.training import history

    run, parameters = candidate.runs[0], None
    if (run / run_folder.WEIGHTS).is_file():  # an exported run has none to count
        network = run_folder.load_network(run, model_card.read_card(run))
        parameters = sum(value.numel() for value in network.parameters())
    times = [rows[-1].elapsed_s for folder in candidate.runs if (rows := history.read(folder))]
    speeds = [scores.images_per_s for scores in candidate.scores if scores.images_per_s]
    return {
        "parameters": parameters,
        "training_s": float(np.mean(times)) if times else None,
        "images_per_s": float(np.mean(speeds)) if speeds else None,
    }


def _verdict(candidate: _Candidate, first: _Candidate, of_all: Difference) -> str:
    """The difference in words. With one training each, it holds for these two models, not for their settings."""
    apart = "better" if of_all.difference > 0 else "worse"
    several = len(candidate.scores) > 1 or len(first.scores) > 1
    trainings = f" and {max(len(candidate.scores), len(first.scores))} trainings" if several else ""
    if candidate.runs and first.runs and not several and _by_seed_alone(candidate.runs[0], first.runs[0]):
        return f"{candidate.name} and {first.name} differ only by seed: their difference is training noise"
    if of_all.few:
        return f"{candidate.name} and {first.name}: {of_all.few}"
    interval = f"{between(of_all.interval, differences=True)}, {percent(of_all.level)} interval"
    if not of_all.is_real:
        where = f"{counted(len(candidate.scores[0].image_ids))}{trainings}"
        difference = f"{candidate.name} minus {first.name} {signed(of_all.difference)} ({interval})"
        return f"no significant difference on {where}: {difference}"
    verdict = f"{candidate.name} is {apart} than {first.name} by {abs(of_all.difference):.4f} ({interval})"
    return verdict if several or not candidate.runs else f"{verdict}, these two trainings only; --seeds trains more"


def _by_seed_alone(one: Path, other: Path) -> bool:
    from severstal_cli.learning.runs.model_card import read_card

    cards = [read_card(folder) for folder in (one, other)]
    one_config, other_config = (card.config for card in cards)
    differ = any(different_settings(one_config, other_config, settings_with(changes_training=True)))
    return not differ and one_config.get("seed") != other_config.get("seed")


def _short(names: Sequence[str]) -> list[str]:
    """Bare names of paths if they differ, else the whole paths."""
    ends = [table_files.bare_name(Path(name)) for name in names]
    return ends if len(set(ends)) == len(ends) else list(names)
