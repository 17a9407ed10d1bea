"""The parts of a submission: finished or not, of this plan or another, and read as one table."""

from pathlib import Path

import numpy as np
import pytest

from severstal_cli.errors import InputError
from severstal_cli.steel.tables import confidence, csv_rows, mask_table
from severstal_cli.steel.tables.shards import Parts


def _parts(tmp_path: Path, images: int, **plan: object) -> Parts:
    paths = [tmp_path / f"{number:03d}.png" for number in range(images)]
    for path in paths:
        if not path.exists():
            path.touch()
    return Parts(tmp_path / "s.parts", paths, plan, mask_table.Layout.ORIGINAL)


def _write(parts: Parts, number: int) -> None:
    names = [path.name for path in parts.images[number]]
    masks = {(name, 1): np.array([[int(name[:3]), 2]], np.int32) for name in names[1:]}
    parts.write(number, masks, {name: [0.5, 0.25] for name in names}, {names[0]: "no image"}, 2)


def test_every_image_is_in_one_part_and_their_number_is_bounded(tmp_path: Path) -> None:
    for images, sizes in ((1, {1}), (16, {16}), (40, {16, 8}), (2000, {32, 16})):
        parts = _parts(tmp_path, images)
        assert [path.name for group in parts.images.values() for path in group] == [
            f"{number:03d}.png" for number in range(images)
        ]
        assert {len(group) for group in parts.images.values()} == sizes
        assert min(parts.images) == 1


def test_what_is_written_is_read_as_one_table(tmp_path: Path) -> None:
    parts = _parts(tmp_path, 40)
    parts.begin(resume=False)
    for number in parts.images:
        assert parts.finished() == list(range(1, number))
        _write(parts, number)
    masks = parts.masks()
    assert len(masks) == 40 - 3
    assert masks["017.png", 1].tolist() == [[17, 2]]
    parts.join(tmp_path / "whole.csv")
    parts.join_scores(tmp_path / "whole.scores.csv")
    whole = mask_table.read_table(tmp_path / "whole.csv")
    names = [path.name for group in parts.images.values() for path in group]
    assert list(whole.image_ids) == names
    assert {key: runs.tolist() for key, runs in whole.masks.items()} == {
        key: runs.tolist() for key, runs in masks.items()
    }
    scores = confidence.read_scores(tmp_path / "whole.scores.csv")
    assert list(scores) == [(name, channel) for name in names for channel in range(2)]
    assert [scores["000.png", channel] for channel in range(2)] == [0.5, 0.25]
    assert parts.read(3).masks_by_class == (0, 7)
    assert parts.read(3).skipped == {"032.png": "no image"}
    columns, rows = csv_rows.read_records(parts.folder)
    assert columns == ("ImageId_ClassId", "EncodedPixels")
    assert [csv_rows.place(line) for line, _ in rows][31:34] == [
        "line 33 of part-00001.csv", "line 2 of part-00002.csv", "line 3 of part-00002.csv",
    ]  # fmt: skip


def test_faults_are_told_by_part_and_line(tmp_path: Path) -> None:
    parts = _parts(tmp_path, 40)
    parts.begin(resume=False)
    for number in parts.images:
        _write(parts, number)
    path = csv_rows.part_path(parts.folder, 2)
    lines = path.read_text().splitlines()
    lines[4] = "000.png_1,1 0"
    path.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"s\.parts, line 5 of part-00002\.csv: 000\.png, class 1: .* is below 1"):
        mask_table.read_table(parts.folder)
    path.write_text('ImageId_ClassId,EncodedPixels\n"016')
    with pytest.raises(InputError, match=r"s\.parts, line 2 of part-00002\.csv: not a row"):
        mask_table.read_table(parts.folder)
    path.write_text("ImageId,ClassId,EncodedPixels\n")
    with pytest.raises(InputError, match=r"part-00002\.csv, line 1: another header than in part-00001\.csv"):
        mask_table.read_table(parts.folder)
    path.unlink()
    with pytest.raises(InputError, match=r"1 of 3 parts are missing, first part-00002\.csv"):
        mask_table.read_table(parts.folder)


def test_a_part_counts_when_its_last_file_is_there_and_its_images_are_the_same(tmp_path: Path) -> None:
    parts = _parts(tmp_path, 40)
    parts.begin(resume=False)
    _write(parts, 1)
    _write(parts, 2)
    parts.images[2][3].write_text("changed")
    assert parts.finished() == [1]
    confidence.scores_path(csv_rows.part_path(parts.folder, 3)).touch()
    csv_rows.part_path(parts.folder, 3).touch()
    assert parts.finished() == [1]
    csv_rows.part_path(parts.folder, 1, ".json").write_text("{")
    assert parts.finished() == []


def test_parts_of_another_plan_are_refused_and_those_of_this_kept(tmp_path: Path) -> None:
    parts = _parts(tmp_path, 40, views="none", rules=(1, 2))
    parts.begin(resume=True)
    _write(parts, 2)
    _parts(tmp_path, 40, views="none", rules=[1, 2]).begin(resume=True)
    assert parts.finished() == [2]
    for other, named in ((_parts(tmp_path, 40, views="flips", rules=[1, 2]), "views"),
                         (_parts(tmp_path, 40, views="none"), "rules"),
                         (_parts(tmp_path, 39, views="none", rules=[1, 2]), "images")):  # fmt: skip
        with pytest.raises(InputError, match=f"another prediction: other {named}"):
            other.begin(resume=True)
    with pytest.raises(InputError, match=r"in the way: 1 in .*Give --resume"):
        parts.begin(resume=False)
    (parts.folder / csv_rows.PLAN).write_text("nonsense")
    with pytest.raises(InputError, match=r"plan\.json is damaged"):
        parts.begin(resume=True)
    parts.clear()
    parts.begin(resume=False)
    assert parts.finished() == []


def test_what_a_kill_left_of_a_file_goes(tmp_path: Path) -> None:
    parts = _parts(tmp_path, 40)
    parts.begin(resume=False)
    _write(parts, 1)
    left = parts.folder / ".0123456789abcdef.part"
    left.touch()
    parts.begin(resume=True)
    assert not left.exists()
    assert parts.finished() == [1]


def test_a_folder_without_finished_parts_is_in_nobodys_way(tmp_path: Path) -> None:
    parts = _parts(tmp_path, 20, views="none")
    parts.begin(resume=False)
    csv_rows.part_path(parts.folder, 1).write_text("cut sh")
    _parts(tmp_path, 20, views="flips").begin(resume=False)
    assert [path.name for path in parts.folder.iterdir()] == [csv_rows.PLAN]
