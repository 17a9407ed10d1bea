"""Prediction: every row in the requested order and layout, with the masks of the levels."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from severstal_cli import files
from severstal_cli.config import PredictConfig, ThresholdsConfig
from severstal_cli.errors import InputError, MachineError, OutputError, RunError, UsageError
from severstal_cli.learning.device import open_device
from severstal_cli.learning.inference import engines, level_maps
from severstal_cli.learning.runs import model_card, run_folder
from severstal_cli.stages import prediction, threshold_search
from severstal_cli.steel.images import decoding, image_files
from severstal_cli.steel.masks import postprocess, rle
from severstal_cli.steel.tables import confidence, mask_table
from severstal_cli.steel.tables.shards import Shards


def _predict(trained, tmp_path: Path, **settings: object) -> prediction.PredictResult:
    data, folder = trained
    options = {"images": (data / "train_images",), "runs": (folder,), "out": tmp_path / "submission.csv"} | settings
    return prediction.predict(PredictConfig(**options))


def test_rows_are_every_image_and_class_with_the_masks_of_the_levels(trained, tmp_path: Path) -> None:
    data, folder = trained
    result = _predict(trained, tmp_path)
    table = mask_table.read_table(result.path)
    scores = confidence.read_scores(tmp_path / "submission.scores.csv")
    paths = image_files.find_images([data / "train_images"])
    assert table.layout is mask_table.Layout.ORIGINAL
    assert list(table.lines) == [(path.name, channel) for path in paths for channel in range(2)]
    assert result.rows == 2 * len(paths)

    fabric, card = open_device(), model_card.read_card(folder)
    thresholds = run_folder.read_thresholds(folder / run_folder.THRESHOLDS, classes=2)
    members = engines.load_members([folder], [card], fabric)
    levels_of = level_maps.predict_levels(members, decoding.read_all(paths), fabric)
    for path, raw_levels in zip(paths, levels_of, strict=True):
        levels = postprocess.make_exclusive(raw_levels)
        for channel, runs in enumerate(postprocess.levels_to_rle(levels, thresholds.rules)):
            written = table.masks.get((path.name, channel))
            assert (written is None) == (not len(runs))
            assert written is None or np.array_equal(written, runs)
            probs = levels[channel] / 255
            mask = rle.decode(runs, probs.shape)
            expected = 2 * probs[mask].sum() / (mask.sum() + probs.sum()) if mask.any() else 1 - probs.max()
            assert scores[path.name, channel] == pytest.approx(expected, abs=6e-5)
    assert list(scores) == list(table.lines)
    assert sum(result.masks_by_class) == len(table.masks) > 5


def test_sample_gives_images_order_columns_and_layout(trained, tmp_path: Path) -> None:
    data, _ = trained
    names = [path.name for path in image_files.find_images([data / "train_images"])][10:4:-1]
    sample = tmp_path / "sample.csv"
    sample.write_text("ImageId,EncodedPixels,ClassId\n" + "".join(f"{name},1 6144,0\n" for name in names))
    lines = _predict(trained, tmp_path, sample=sample).path.read_text().splitlines()
    assert lines[0] == "ImageId,EncodedPixels,ClassId"
    assert [(line.split(",")[0], line.split(",")[2]) for line in lines[1:]] == [(n, c) for n in names for c in "12"]
    lines = _predict(trained, tmp_path, sample=sample, layout="original").path.read_text().splitlines()
    assert lines[0] == "ImageId_ClassId,EncodedPixels"
    assert [line.split(",")[0] for line in lines[1:]] == [f"{name}_{c}" for name in names for c in "12"]
    sample.write_text("ImageId\nnowhere.png\n")
    with pytest.raises(InputError, match=r"missing: 1, first nowhere\.png"):
        _predict(trained, tmp_path, sample=sample)


def test_rows_of_an_original_sample_are_kept_as_they_stand(trained, tmp_path: Path) -> None:
    data, _ = trained
    names = [path.name for path in image_files.find_images([data / "train_images"])][:6]
    wanted = [f"{name}_{class_id}" for class_id in (2, 1) for name in reversed(names)]
    sample = tmp_path / "sample.csv"
    sample.write_text("ImageId_ClassId,EncodedPixels\n" + "".join(f"{pair},1 1\n" for pair in wanted))
    lines = _predict(trained, tmp_path, sample=sample).path.read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == wanted
    plain = _predict(trained, tmp_path, sample=None).path.read_text().splitlines()
    assert set(lines) <= set(plain)


def test_overlays_replace_neither_images_nor_each_other(trained, tmp_path: Path) -> None:
    data, _ = trained
    before = {path: path.read_bytes() for path in (data / "train_images").iterdir()}
    with pytest.raises(InputError, match="train_images holds the images: the overlays would be taken for images"):
        _predict(trained, tmp_path, masks=data / "train_images")
    assert {path: path.read_bytes() for path in (data / "train_images").iterdir()} == before
    links = tmp_path / "links"
    links.mkdir()
    for path in before:
        (links / path.name).symlink_to(path)
    for folder in (links, data / "train_images"):
        with pytest.raises(InputError, match=f"{folder.name} holds the images"):
            _predict(trained, tmp_path, images=(links,), masks=folder)
    one = image_files.find_images([data / "train_images"])[0]
    same = tmp_path / f"{one.stem}.bmp"
    cv2.imwrite(str(same), decoding.read_grey(one))
    with pytest.raises(InputError, match=f"two overlays named {one.stem}.png"):
        _predict(trained, tmp_path, images=(one, same), masks=tmp_path / "overlays")


def test_how_it_was_made_is_written_beside_it(trained, tmp_path: Path) -> None:
    _, folder = trained
    result = _predict(trained, tmp_path, tta="hflip")
    metadata = json.loads((tmp_path / "submission.json").read_text())
    assert metadata["tta"] == "hflip"
    assert [entry["folder"] for entry in metadata["runs"]] == [str(folder)]
    assert (metadata["images"], metadata["rows"]) == (result.images, result.rows)
    assert [postprocess.ClassPostprocess(**rule) for rule in metadata["rules"]] == list(
        run_folder.read_thresholds(folder / run_folder.THRESHOLDS, classes=2).rules
    )


def test_files_of_an_earlier_submission_do_not_stay_beside_a_new_one(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = trained
    for name in ("submission.json", "submission.scores.csv"):
        (tmp_path / name).write_text("of an earlier one")

    def fail(parts: Shards, path: Path) -> None:
        raise OutputError("cannot write")

    monkeypatch.setattr(Shards, "join_scores", fail)
    with pytest.raises(OutputError):
        _predict(trained, tmp_path, images=tuple(image_files.find_images([data / "train_images"])[:2]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.csv", "submission.parts"]


def test_pictures_show_the_masks_on_the_photograph(trained, tmp_path: Path) -> None:
    data, _ = trained
    paths = image_files.find_images([data / "train_images"])[:4]
    result = _predict(trained, tmp_path, images=tuple(paths), masks=tmp_path / "overlays")
    table = mask_table.read_table(result.path)
    drawn = {path.stem: cv2.imread(str(path)) for path in (tmp_path / "overlays").iterdir()}
    assert sorted(drawn) == sorted(path.stem for path in paths)
    for path in paths:
        overlay, image = drawn[path.stem], decoding.read_grey(path)
        coloured = (overlay != image[:, :, None]).any(axis=2)
        assert coloured.any() == any(image_id == path.name for image_id, _ in table.masks)


def test_the_best_run_is_the_default_and_named(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from severstal_cli.progress import TerminalProgress

    data, folder = trained
    config = PredictConfig(images=(data / "train_images",), models=folder.parent, out=tmp_path / "s.csv")
    assert prediction.predict(config, TerminalProgress()).runs == (folder,)
    assert f"predicting with {folder}" in capsys.readouterr().err.replace("\n", "")


def test_runs_are_averaged_with_thresholds_of_their_own(trained, tmp_path: Path) -> None:
    _, folder = trained
    twin = tmp_path / "twin"
    shutil.copytree(folder, twin)
    pair = threshold_search.search(ThresholdsConfig(runs=(folder, twin), out=tmp_path / "pair.json")).path
    alone = _predict(trained, tmp_path, out=tmp_path / "alone.csv").path.read_bytes()
    both = _predict(trained, tmp_path, runs=(folder, twin), thresholds=pair).path.read_bytes()
    assert both == alone  # the ensemble of a network and itself


def test_thresholds_alone_tell_runs_weights_and_views(trained, members, heard, tmp_path: Path) -> None:
    runs, weights = (members["b"], members["a"]), (1.0, 2.0)
    file = threshold_search.search(
        ThresholdsConfig(runs=runs, weights=weights, tta="hflip", out=tmp_path / "e.json")
    ).path
    config = PredictConfig(images=(trained[0] / "train_images",), thresholds=file, out=tmp_path / "s.csv")
    result = prediction.predict(config, heard)
    assert heard.lines == [f"predicting with {runs[0]} by torch, {runs[1]} by torch"]
    metadata = json.loads((tmp_path / "s.json").read_text())
    assert (metadata["weights"], metadata["tta"]) == ([1.0, 2.0], "hflip")
    assert tuple(Path(entry["folder"]) for entry in metadata["runs"]) == runs == result.runs
    settings = {"runs": runs, "thresholds": file, "tta": "hflip"}
    named = _predict(trained, tmp_path, **settings, weights=weights, out=tmp_path / "named.csv")
    assert result.path.read_bytes() == named.path.read_bytes()
    _predict(trained, tmp_path, **settings, weights=(1.0, 1.0), out=tmp_path / "even.csv")
    confidences = [result.path.with_suffix(".scores.csv"), tmp_path / "even.scores.csv"]
    assert confidences[0].read_bytes() != confidences[1].read_bytes()


def test_a_prediction_goes_on_with_the_weights_that_it_began_with_alone(trained, members, tmp_path: Path) -> None:
    content = run_folder.read_thresholds(trained[1] / run_folder.THRESHOLDS, classes=2)
    runs = (members["a"], members["b"])
    for weights in ((1.0, 2.0), (1.0, 3.0)):
        thresholds = dataclasses.replace(content, runs=tuple(map(str, runs)), weights=weights)
        run_folder.write_thresholds(tmp_path / f"{weights[1]:g}.json", thresholds, {})
    settings = {"images": (_broken(trained, tmp_path, 40),), "runs": (), "out": tmp_path / "s.csv"}
    with pytest.raises(InputError, match="cut short"):
        _predict(trained, tmp_path, **settings, thresholds=tmp_path / "2.json")
    with pytest.raises(InputError, match="of another prediction: other weights"):
        _predict(trained, tmp_path, **settings, thresholds=tmp_path / "3.json", resume=True)
    with pytest.raises(InputError, match="cut short"):
        _predict(trained, tmp_path, **settings, thresholds=tmp_path / "3.json", weights=(1.0, 2.0), resume=True)


def test_a_run_without_thresholds_is_told(trained, tmp_path: Path) -> None:
    _, folder = trained
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    (bare / run_folder.THRESHOLDS).unlink()
    with pytest.raises(RunError, match=r"thresholds\.json is missing\. Search them: severstal thresholds .*bare"):
        _predict(trained, tmp_path, runs=(bare,))
    assert not (tmp_path / "submission.csv").exists()


def _broken(trained, tmp_path: Path, *numbers: int) -> Path:
    """A copy of the image folder with some images cut short."""
    folder = tmp_path / "images"
    shutil.copytree(trained[0] / "train_images", folder)
    for path in (image_files.find_images([folder])[number] for number in numbers):
        path.write_bytes(path.read_bytes()[:-30])
    return folder


def test_an_image_that_fails_midway_leaves_finished_shards_but_no_submission(trained, heard, tmp_path: Path) -> None:
    whole = _predict(trained, tmp_path, out=tmp_path / "whole.csv")
    folder = _broken(trained, tmp_path, 40)  # of 45: shards of 16
    bad = image_files.find_images([folder])[40]
    settings = {"images": (folder,), "runs": (trained[1],), "out": tmp_path / "s.csv"}
    with pytest.raises(InputError, match=bad.name):
        prediction.predict(PredictConfig(**settings), heard)
    assert heard.lines[-1] == "2 of 3 shards are kept: give the same command with --resume to continue"
    assert not (tmp_path / "s.csv").exists()
    shutil.copy(trained[0] / "train_images" / bad.name, bad)
    with pytest.raises(InputError, match=r"s\.parts holds 2 finished shards of an earlier prediction\. Give --resume"):
        prediction.predict(PredictConfig(**settings))
    with pytest.raises(InputError, match=r"of another prediction: other views\. Give the same command"):
        prediction.predict(PredictConfig(**settings, resume=True, tta="hflip"))
    with pytest.raises(InputError, match="of another prediction: other masks"):
        prediction.predict(PredictConfig(**settings, resume=True, masks=tmp_path / "masks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("severstal_cli.learning.inference.engines.engines_for", lambda *_: ["another"])
        patch.setattr("severstal_cli.stages.prediction.half_type", lambda _: torch.float16)
        with pytest.raises(InputError, match="prediction: other engines, precision"):
            prediction.predict(PredictConfig(**settings, resume=True))
    predicted = []
    read = decoding.read_grey
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "severstal_cli.learning.inference.pipeline.read_grey", lambda path, *_: predicted.append(path) or read(path)
        )
        result = prediction.predict(PredictConfig(**settings, resume=True))
    assert len(predicted) == 45 - 32
    assert result.path.read_bytes() == whole.path.read_bytes()
    assert (tmp_path / "s.scores.csv").read_bytes() == (tmp_path / "whole.scores.csv").read_bytes()
    assert result.masks_by_class == whole.masks_by_class
    assert not (tmp_path / "s.parts").exists()


def test_a_shard_that_cannot_be_written_ends_the_prediction_and_those_before_it_are_kept(
    trained, heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Shards.write

    def full(self: Shards, number: int, *rest: object) -> None:
        if number == 2:
            raise OutputError("cannot write part 2", "No space left on device", "Free some space")
        write(self, number, *rest)

    monkeypatch.setattr(Shards, "write", full)
    config = PredictConfig(images=(trained[0] / "train_images",), runs=(trained[1],), out=tmp_path / "s.csv")
    with pytest.raises(OutputError, match="cannot write part 2: No space left"):
        prediction.predict(config, heard)
    assert heard.lines[-1] == "1 of 3 shards are kept: give the same command with --resume to continue"
    assert [path.name for path in sorted((tmp_path / "s.parts").glob("part-*.json"))] == ["part-00001.json"]


def test_an_image_that_changes_during_the_prediction_ends_it(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(trained[0] / "train_images", tmp_path / "images"))
    first = image_files.find_images([folder])[0]
    write = Shards.write

    def touching(self: Shards, number: int, *rest: object) -> None:
        write(self, number, *rest)
        os.utime(first, (number, number))

    def waits(seconds: float) -> None:
        raise AssertionError("it waits for what will not come")

    monkeypatch.setattr(Shards, "write", touching)
    monkeypatch.setattr(prediction.time, "sleep", waits)
    assert _predict(trained, tmp_path, images=(folder,)).images == 45


def test_files_that_belong_to_no_submission_are_kept(trained, tmp_path: Path) -> None:
    rules = Path(shutil.copy(trained[1] / run_folder.THRESHOLDS, tmp_path / "rules.json"))
    before = rules.read_text()
    with pytest.raises(InputError, match=r"rules\.json exists and is not submission metadata\. Choose another name"):
        _predict(trained, tmp_path, thresholds=rules, out=tmp_path / "rules.csv")
    assert rules.read_text() == before
    (tmp_path / "s.parts").mkdir()
    (tmp_path / "s.parts" / "notes.txt").write_text("mine")
    for _ in range(2):  # metadata of a submission is replaced
        _predict(trained, tmp_path, out=tmp_path / "s.csv")
    assert (tmp_path / "s.parts" / "notes.txt").read_text() == "mine"


def test_no_image_or_sample_is_overwritten(trained, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained[0] / "train_images", tmp_path / "images"))
    first = image_files.find_images([folder])[0]
    image = first.rename(first.with_suffix(".ppm"))  # a .png is no name for a table at all
    sample = tmp_path / "sample.csv"
    sample.write_text(f"ImageId,EncodedPixels,ClassId\n{image.name},1 1,0\n")
    for out in (image, sample):
        before = out.read_bytes()
        with pytest.raises(InputError, match=f"{out.name} would be overwritten: it is an image or the sample"):
            _predict(trained, tmp_path, images=(folder,), sample=sample, out=out)
        assert out.read_bytes() == before
    for out in (Path(), Path("..")):
        with pytest.raises(UsageError, match=r"wrong name for a submission: \.+\. Name a file"):
            _predict(trained, tmp_path, out=out)


def test_an_image_that_changes_while_its_shard_is_predicted_counts_as_it_was(trained, tmp_path: Path) -> None:
    folder = _broken(trained, tmp_path, 40)
    paths = image_files.find_images([folder])
    read = decoding.read_grey

    def replaced(path: Path, *_: int) -> decoding.Grey:
        found = read(path)
        if path == paths[1]:
            cv2.imwrite(str(path), 255 - found)
        return found

    settings = {"images": (folder,), "out": tmp_path / "s.csv"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("severstal_cli.learning.inference.pipeline.read_grey", replaced)
        with pytest.raises(InputError):
            _predict(trained, tmp_path, **settings)
    shutil.copy(trained[0] / "train_images" / paths[40].name, paths[40])
    resumed = _predict(trained, tmp_path, **settings, resume=True).path.read_bytes()
    assert resumed == _predict(trained, tmp_path, images=(folder,), out=tmp_path / "again.csv").path.read_bytes()


def test_a_name_that_check_would_refuse_is_refused(trained, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(image_files.find_images([trained[0] / "train_images"])[0], folder / "c\n.png")
    with pytest.raises(InputError, match=r"is not allowed in a table: ImageId .* cannot be shown\. Rename it"):
        _predict(trained, tmp_path, images=(folder,))


def test_a_part_whose_images_have_changed_is_made_again(trained, tmp_path: Path) -> None:
    folder = _broken(trained, tmp_path, 40)
    paths = image_files.find_images([folder])
    settings = {"images": (folder,), "out": tmp_path / "s.csv"}
    with pytest.raises(InputError):
        _predict(trained, tmp_path, **settings)
    shutil.copy(trained[0] / "train_images" / paths[40].name, paths[40])
    cv2.imwrite(str(paths[1]), 255 - decoding.read_grey(paths[1]))
    resumed = _predict(trained, tmp_path, **settings, resume=True).path.read_bytes()
    assert resumed == _predict(trained, tmp_path, images=(folder,), out=tmp_path / "again.csv").path.read_bytes()


def test_wrong_images_can_be_skipped_and_their_rows_are_empty(trained, heard, tmp_path: Path) -> None:
    whole = mask_table.read_table(_predict(trained, tmp_path).path)
    folder = _broken(trained, tmp_path, 0, 7, 8, 44)
    bad = [image_files.find_images([folder])[number].name for number in (0, 7, 8, 44)]
    out = tmp_path / "skipped.csv"
    config = PredictConfig(images=(folder,), runs=(trained[1],), out=out, on_error="skip", masks=tmp_path / "overlays")
    result = prediction.predict(config, heard)
    assert list(result.skipped) == bad
    assert json.loads((tmp_path / "skipped.json").read_text())["skipped"] == dict(result.skipped)
    assert [line for line in heard.lines if "skipped" in line] == [
        f"skipped: {folder / name}: the image is cut short. Copy or download it again" for name in bad
    ]
    table, scores = mask_table.read_table(out), confidence.read_scores(tmp_path / "skipped.scores.csv")
    assert list(table.lines) == list(whole.lines) == list(scores)
    for key, runs in whole.masks.items():
        assert key[0] in bad or np.array_equal(table.masks[key], runs)
    assert not {image_id for image_id, _ in table.masks} & set(bad)
    assert {scores[name, channel] for name in bad for channel in range(2)} == {0.0}
    assert len(list((tmp_path / "overlays").iterdir())) == 45 - 4
    everything = _broken(trained, tmp_path / "all", *range(45))
    result = _predict(trained, tmp_path, images=(everything,), out=tmp_path / "none.csv", on_error="skip")
    assert (len(result.skipped), result.masks_by_class) == (45, (0, 0))


def test_batches_of_one_and_of_sixteen_give_the_same_bytes_in_float32(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "open_device", lambda: open_device("32-true"))
    written = [
        _predict(trained, tmp_path, out=tmp_path / f"{size}.csv", batch_size=size).path.read_bytes() for size in (1, 16)
    ]
    assert written[0] == written[1]


def test_the_engine_is_chosen_once_for_each_run(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, real = [], engines.engine_for
    monkeypatch.setattr(engines, "engine_for", lambda *given: chosen.append(given[0]) or real(*given))
    _predict(trained, tmp_path)
    assert chosen == [trained[1]]


def test_weights_of_runs(trained, tmp_path: Path) -> None:
    _, folder = trained
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    network = run_folder.load_network(folder, model_card.read_card(folder))
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(0.5)
    run_folder.write_model(other, network, model_card.read_card(folder))
    settings = {"runs": (folder, other), "thresholds": folder / run_folder.THRESHOLDS}
    alone = _predict(trained, tmp_path, out=tmp_path / "alone.csv").path.read_bytes()
    assert _predict(trained, tmp_path, **settings, weights=(5.0, 0.0)).path.read_bytes() == alone
    assert _predict(trained, tmp_path, **settings).path.read_bytes() != alone
    with pytest.raises(InputError, match=r"wrong weights: 1, 2, 3\. Give 2, one per run, none below 0 and not all 0"):
        _predict(trained, tmp_path, **settings, weights=(1.0, 2.0, 3.0))
    with pytest.raises(InputError, match="a run is named twice"):
        _predict(trained, tmp_path, runs=(folder, folder))


def test_two_predictions_do_not_write_the_same_file_at_once(trained, tmp_path: Path) -> None:
    with files.locked(tmp_path / "submission.parts", "held"):
        with pytest.raises(MachineError, match=r"another process predicts .*submission\.csv\. Wait for it"):
            _predict(trained, tmp_path)
        (tmp_path / "submission.parts" / "part-00001.csv").touch()
    assert [path.name for path in (tmp_path / "submission.parts").iterdir()] == ["part-00001.csv"]
    _predict(trained, tmp_path)
    assert not (tmp_path / "submission.parts").exists()
