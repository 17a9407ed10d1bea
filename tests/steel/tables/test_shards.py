"""The shards of a submission: finished or not, of this plan or another, and joined to one table."""

from pathlib import Path

import numpy as np
import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.tables import confidence, mask_table
from severstal_cli.steel.tables.shards import PLAN, Shards, shard_path


def _shards(tmp_path: Path, images: int, **plan: object) -> Shards:
    paths = [tmp_path / f"{number:03d}.png" for number in range(images)]
    for path in paths:
        if not path.exists():
            path.touch()
    return Shards(tmp_path / "s.parts", paths, plan, mask_table.Layout.ORIGINAL)


def _write(shards: Shards, number: int) -> None:
    names = [path.name for path in shards.images[number]]
    masks = {(name, 1): np.array([[int(name[:3]), 2]], np.int32) for name in names[1:]}
    shards.write(number, masks, {name: [0.5, 0.25] for name in names}, {names[0]: "no image"}, 2)


def test_every_image_is_in_one_shard_and_their_number_is_bounded(tmp_path: Path) -> None:
    for images, sizes in ((1, {1}), (16, {16}), (40, {16, 8}), (2000, {32, 16})):
        shards = _shards(tmp_path, images)
        assert [path.name for group in shards.images.values() for path in group] == [
            f"{number:03d}.png" for number in range(images)
        ]
        assert {len(group) for group in shards.images.values()} == sizes
        assert min(shards.images) == 1


def test_shards_are_joined_to_one_table(tmp_path: Path) -> None:
    shards = _shards(tmp_path, 40)
    shards.begin(resume=False)
    for number in shards.images:
        assert shards.finished() == list(range(1, number))
        _write(shards, number)
    masks = shards.masks()
    assert len(masks) == 40 - 3
    assert masks["017.png", 1].tolist() == [[17, 2]]
    shards.join(tmp_path / "whole.csv")
    shards.join_scores(tmp_path / "whole.scores.csv")
    whole = mask_table.read_table(tmp_path / "whole.csv")
    names = [path.name for group in shards.images.values() for path in group]
    assert list(whole.image_ids) == names
    assert {key: runs.tolist() for key, runs in whole.masks.items()} == {
        key: runs.tolist() for key, runs in masks.items()
    }
    scores = confidence.read_scores(tmp_path / "whole.scores.csv")
    assert list(scores) == [(name, channel) for name in names for channel in range(2)]
    assert [scores["000.png", channel] for channel in range(2)] == [0.5, 0.25]
    assert shards.read(3).masks_by_class == (0, 7)
    assert shards.read(3).skipped == {"032.png": "no image"}


def test_a_damaged_or_missing_table_is_named(tmp_path: Path) -> None:
    shards = _shards(tmp_path, 40)
    shards.begin(resume=False)
    for number in shards.images:
        _write(shards, number)
    path = shard_path(shards.folder, 2)
    lines = path.read_text().splitlines()
    lines[4] = "000.png_1,1 0"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"part-00002\.csv, line 5: 000\.png, class 1: .* is below 1"):
        shards.masks()
    path.unlink()
    with pytest.raises(InputError, match=r"part-00002\.csv: no such file"):
        shards.masks()


def test_a_shard_is_finished_with_its_last_file_and_unchanged_images(tmp_path: Path) -> None:
    shards = _shards(tmp_path, 40)
    shards.begin(resume=False)
    _write(shards, 1)
    _write(shards, 2)
    shards.images[2][3].write_text("changed")
    assert shards.finished() == [1]
    confidence.scores_path(shard_path(shards.folder, 3)).touch()
    shard_path(shards.folder, 3).touch()
    assert shards.finished() == [1]
    shard_path(shards.folder, 1, ".json").write_text("{")
    assert shards.finished() == []


def test_shards_of_another_plan_are_refused_and_those_of_this_one_kept(tmp_path: Path) -> None:
    shards = _shards(tmp_path, 40, views="none", rules=(1, 2))
    shards.begin(resume=True)
    _write(shards, 2)
    _shards(tmp_path, 40, views="none", rules=[1, 2]).begin(resume=True)
    assert shards.finished() == [2]
    for other, named in (
        (_shards(tmp_path, 40, views="flips", rules=[1, 2]), "views"),
        (_shards(tmp_path, 40, views="none"), "rules"),
        (_shards(tmp_path, 39, views="none", rules=[1, 2]), "images"),
    ):
        with pytest.raises(InputError, match=f"another prediction: other {named}"):
            other.begin(resume=True)
    with pytest.raises(InputError, match=r"s\.parts holds 1 finished shards of an earlier prediction\. Give --resume"):
        shards.begin(resume=False)
    (shards.folder / PLAN).write_text("nonsense")
    with pytest.raises(InputError, match=r"plan\.json is damaged"):
        shards.begin(resume=True)
    shards.clear()
    shards.begin(resume=False)
    assert shards.finished() == []


def test_temporary_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    shards = _shards(tmp_path, 40)
    shards.begin(resume=False)
    _write(shards, 1)
    left = shards.folder / ".0123456789abcdef.part"
    left.touch()
    shards.begin(resume=True)
    assert not left.exists()
    assert shards.finished() == [1]


def test_a_folder_without_finished_shards_is_reused(tmp_path: Path) -> None:
    shards = _shards(tmp_path, 20, views="none")
    shards.begin(resume=False)
    shard_path(shards.folder, 1).write_text("cut sh")
    _shards(tmp_path, 20, views="flips").begin(resume=False)
    assert [path.name for path in shards.folder.iterdir()] == [PLAN]
