"""Splits: fair, whole groups, the same whatever the order; files that are read as written and refused when wrong."""

import csv
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from severstal_cli.config import SplitConfig
from severstal_cli.errors import InputError
from severstal_cli.progress import Progress
from severstal_cli.steel.dataset import splits, stratification
from severstal_cli.steel.dataset.data_folder import open_data_folder
from severstal_cli.steel.images.decoding import cv2

CLASS_LABELS = Path(__file__).parents[3] / "shared/data/severstal/class_labels.csv"


def singles(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int32)


def names(count: int) -> list[str]:
    return [f"{number:05}.jpg" for number in range(count)]


def test_by_hand() -> None:
    """Eight images of two kinds, half held out, two folds: two, one and one of each kind."""
    class_sets = [frozenset({1}), frozenset()] * 4
    parts = stratification.make_splits(names(8), class_sets, singles(8), holdout=0.5, folds=2, seed=0)
    for kind in (0, 1):
        assert Counter(parts[kind::2].tolist()) == {-1: 2, 0: 1, 1: 1}


def test_rare_sets_are_spread() -> None:
    """Ten images of the only set of three classes, among 2,000 others, over five folds: two in each."""
    class_sets = [frozenset({1, 2, 3})] * 10 + [frozenset({3})] * 1000 + [frozenset()] * 990
    parts = stratification.make_splits(names(2000), class_sets, singles(2000), holdout=0, folds=5, seed=3)
    assert Counter(parts[:10].tolist()) == dict.fromkeys(range(5), 2)
    assert Counter(parts[10:1010].tolist()) == dict.fromkeys(range(5), 200)
    assert Counter(parts.tolist()) == dict.fromkeys(range(5), 400)


def test_large_groups_come_first() -> None:
    """A group of six and twelve single images over three folds: six in each, as the single ones fill up."""
    groups = np.array([0] * 6 + list(range(1, 13)))
    for seed in range(6):
        parts = stratification.make_splits(names(18), [frozenset({1})] * 18, groups, holdout=0, folds=3, seed=seed)
        assert Counter(parts.tolist()) == {0: 6, 1: 6, 2: 6}


@settings(deadline=None, max_examples=60)
@given(data=st.data(), count=st.integers(1, 30), holdout=st.sampled_from([0, 0.15, 0.5]), folds=st.integers(1, 5))
def test_groups_stay_whole_in_any_order(data: st.DataObject, count: int, holdout: float, folds: int) -> None:
    class_sets = [frozenset(data.draw(st.sets(st.integers(1, 3)))) for _ in range(count)]
    groups = np.array([data.draw(st.integers(0, count)) for _ in range(count)])
    parts = stratification.make_splits(names(count), class_sets, groups, holdout=holdout, folds=folds, seed=1)
    assert parts.dtype == np.int8
    assert set(parts.tolist()) <= {*range(folds), *([-1] if holdout else [])}
    for group in set(groups.tolist()):
        assert len(set(parts[groups == group].tolist())) == 1

    order = data.draw(st.permutations(range(count)))
    renumbered = (groups * 7 + 3)[order]
    again = stratification.make_splits(
        [names(count)[at] for at in order],
        [class_sets[at] for at in order],
        renumbered,
        holdout=holdout,
        folds=folds,
        seed=1,
    )
    assert again.tolist() == parts[list(order)].tolist()


def test_the_seed_decides() -> None:
    class_sets = [frozenset()] * 200
    first, again, other = (
        stratification.make_splits(names(200), class_sets, singles(200), holdout=0.15, folds=5, seed=seed)
        for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).sum() > 100
    assert Counter(first.tolist()) == Counter(other.tolist()) == {-1: 30, 0: 34, 1: 34, 2: 34, 3: 34, 4: 34}


def test_golden() -> None:
    """The same on every machine and with every version of numpy: the order is drawn by a hash, not by a generator."""
    class_sets = [frozenset({number % 3}) for number in range(12)]
    parts = stratification.make_splits(names(12), class_sets, singles(12) // 2, holdout=0.25, folds=2, seed=7)
    assert parts.tolist() == [-1, -1, 0, 0, 1, 1, 0, 0, 1, 1, -1, -1]


def test_wrong_arguments() -> None:
    for wrong in ({"holdout": 1.0}, {"holdout": -0.1}, {"folds": 0}):
        with pytest.raises(ValueError, match="out of range"):
            stratification.make_splits(
                ["a"], [frozenset()], singles(1), **{"holdout": 0.1, "folds": 2, "seed": 0} | wrong
            )
    with pytest.raises(ValueError, match="1 images, 2 class sets, 1 groups"):
        stratification.make_splits(["a"], [frozenset()] * 2, singles(1), holdout=0.1, folds=2, seed=0)


@pytest.mark.parametrize("grouped", [False, True])
def test_large_sets_keep_their_shares(grouped: bool) -> None:
    """12,568 images with the competition's classes: every count of every part is within 1 image (or 3) of its share."""
    if not CLASS_LABELS.exists():
        pytest.skip("the competition's labels are not there")
    with CLASS_LABELS.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    ids = [row[0] for row in rows]
    class_sets = [frozenset(number for number in range(1, 5) if row[number] == "1") for row in rows]
    groups = singles(len(ids))
    if grouped:  # 300 groups of 2 to 9, 5 of 40, nearly all of one kind each, as frames of one strip are
        by_kind = np.array(sorted(groups, key=lambda at: (sorted(class_sets[at]), at)))
        sizes = np.random.default_rng(0).integers(2, 10, 300).tolist() + [40] * 5
        for number, size in enumerate(sizes):
            start = number * 41
            groups[by_kind[start : start + size]] = groups[by_kind[start]]
    start_s = time.process_time()  # not the clock's: others may keep the machine busy
    parts = stratification.make_splits(ids, class_sets, groups, holdout=0.15, folds=5, seed=0)
    assert time.process_time() - start_s < 10
    slack = 3 if grouped else 1
    assert_shares(parts, np.array([True] * len(ids)), slack)
    for class_id in range(1, 5):
        assert_shares(parts, np.array([class_id in class_set for class_set in class_sets]), slack)
    for class_set in set(class_sets):
        assert_shares(parts, np.array([found == class_set for found in class_sets]), slack)


def assert_shares(parts: np.ndarray, counted: np.ndarray, slack: int) -> None:
    for part in range(-1, 5):
        share = counted.sum() * (0.15 if part == -1 else 0.17)
        assert abs((parts[counted] == part).sum() - share) <= slack


# files


def example(path: Path) -> None:
    splits.write_splits(
        path,
        ["b.jpg", "a.jpg", 'c, "2".jpg', "d.jpg"],
        np.array([0, -1, 1, 0], np.int8),
        np.array([4, 0, 2, 4]),
        [frozenset(), frozenset({3, 1}), frozenset({2}), frozenset({10, 3})],
    )


def test_written_form(tmp_path: Path) -> None:
    example(tmp_path / "splits.csv")
    assert (tmp_path / "splits.csv").read_text() == (
        'ImageId,Part,Group,Classes\na.jpg,holdout,0,1 3\nb.jpg,0,4,\n"c, ""2"".jpg",1,2,2\nd.jpg,0,4,3 10\n'
    )


def test_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    example(path)
    split = splits.read_splits(path, ["a.jpg", "b.jpg", 'c, "2".jpg', "d.jpg"])
    assert split.path == path
    assert split.parts == {"a.jpg": "holdout", "b.jpg": "0", 'c, "2".jpg': "1", "d.jpg": "0"}
    assert split.groups == {"a.jpg": 0, "b.jpg": 4, 'c, "2".jpg': 2, "d.jpg": 4}
    assert split.class_sets["a.jpg"] == {1, 3}
    assert split.class_sets["b.jpg"] == frozenset()
    assert split.subset_names() == ["0", "1", "holdout"]
    assert split.ids_of("0") == ["b.jpg", "d.jpg"]
    assert split.ids_of(splits.HOLDOUT) == ["a.jpg"]
    assert split.ids_of("7") == []


def test_parts_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("ImageId,Part,Group,Classes\n" + "".join(f"{at}.jpg,{at},{at},\n" for at in range(12)))
    assert splits.read_splits(path).subset_names() == [str(at) for at in range(12)]


def test_the_fingerprint_tells_which_image_is_where(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    example(path)
    first = splits.read_splits(path).fingerprint
    assert len(first) == 16
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())  # saved by a spreadsheet
    assert splits.read_splits(path).fingerprint == first
    path.write_text(text.replace("a.jpg,holdout", "a.jpg,0"))
    assert splits.read_splits(path).fingerprint != first


HEADER = "ImageId,Part,Group,Classes\n"
WRONG = {
    "ImageId,Part\n": "the header is ImageId,Part, not ImageId,Part,Group,Classes",
    HEADER: "no image is in a fold",
    HEADER + "a,holdout,0,\n": "no image is in a fold",
    HEADER + "a,0,0\n": "line 2: 3 fields instead of 4",
    HEADER + "a,0,0,\nb,test,1,\n": 'line 3: Part is "test", neither holdout nor the number of a fold',
    HEADER + "a,-1,0,\n": 'Part is "-1", neither',
    HEADER + "a,00,0,\n": 'Part is "00", neither',
    HEADER + "a,0,x,\n": 'Group is "x", not a number',
    HEADER + "a,0,0,1 b\n": 'Classes are "1 b", not class ids',
    HEADER + "a,0,0,\nb,0,1,\na,0,0,\n": "line 4: a occurs a second time",
    HEADER + "a,0,0,\nb,1,0,\n": "line 3: group 0 is in subset 0 and in subset 1",
    HEADER + "a,0,0,\nb,2,1,\n": "no image is in fold 1, but some are in fold 2",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        splits.read_splits(path)
    assert WRONG[text] in str(caught.value)
    assert str(path) in str(caught.value)
    assert "Run `severstal split` again" in str(caught.value)


def test_blank_lines_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text(HEADER + "a,0,0,\n\nb,1,1,2\n\n")
    assert splits.read_splits(tmp_path / "splits.csv").parts == {"a": "0", "b": "1"}


def test_a_file_that_is_missing_or_empty_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file\. Run `severstal split` first"):
        splits.read_splits(tmp_path / "splits.csv")
    (tmp_path / "splits.csv").write_text("")
    with pytest.raises(InputError, match="it is empty"):
        splits.read_splits(tmp_path / "splits.csv")
    (tmp_path / "splits.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="it is not UTF-8 text"):
        splits.read_splits(tmp_path / "splits.csv")


def test_other_images_than_those_of_the_split(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(HEADER + "a,0,0,\nb,1,1,\n")
    with pytest.raises(InputError, match=r"c is in train_images but not in the split\. Run `severstal split` again"):
        splits.read_splits(path, ["a", "b", "c"])
    with pytest.raises(InputError, match="a and 1 others are in the split but not in train_images"):
        splits.read_splits(path, [])


# a data folder


class Log(Progress):
    """Remembers the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty images of noise, 04 a copy of 03, 06 a badly saved one of 05; every fourth one with class 1 or 2."""
    folder = tmp_path / "data"
    (folder / "train_images").mkdir(parents=True)
    for number in range(40):
        noise = np.random.default_rng(3 if number == 4 else 5 if number == 6 else number).normal(0, 1, (64, 96))
        smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
        image = np.clip(100 + 25 * smooth / smooth.std(), 0, 255).astype(np.uint8)
        quality = 60 if number == 6 else 98
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        (folder / "train_images" / f"{number:02}.jpg").write_bytes(coded.tobytes())
    rows = [f"{number:02}.jpg,{1 + number % 8 // 4},1 5" for number in range(0, 40, 4)]
    (folder / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n" + "\n".join(rows) + "\n")
    return folder


def test_a_folder_is_split_and_copies_stay_together(data: Path) -> None:
    split = splits.split_data(SplitConfig(data=data, holdout=0.2, folds=4))
    assert list(split.parts) == [f"{number:02}.jpg" for number in range(40)]
    assert Counter(split.parts.values()) == {"holdout": 8, "0": 8, "1": 8, "2": 8, "3": 8}
    assert split.groups["03.jpg"] == split.groups["04.jpg"]
    assert split.groups["05.jpg"] == split.groups["06.jpg"]
    assert len(set(split.groups.values())) == 38
    assert split.parts["03.jpg"] == split.parts["04.jpg"]
    assert split.parts["05.jpg"] == split.parts["06.jpg"]
    assert split.class_sets["00.jpg"] == {1}
    assert split.class_sets["04.jpg"] == {2}
    assert split.class_sets["01.jpg"] == frozenset()
    assert split == splits.read_splits(data / "splits.csv")


def test_the_first_training_makes_a_split_and_later_ones_keep_it(data: Path) -> None:
    log = Log()
    first = splits.ensure_splits(open_data_folder(data), log)
    counts = Counter(first.parts.values())
    assert counts.pop("holdout") == 6
    assert sorted(counts.values()) == [6, 7, 7, 7, 7]
    assert log.lines == [f"{data / 'splits.csv'}: 15% of 40 images held out, 5 folds"]
    other = splits.split_data(SplitConfig(data=data, seed=1, holdout=0))
    assert other.fingerprint != first.fingerprint
    assert splits.ensure_splits(open_data_folder(data), log).fingerprint == other.fingerprint
    assert len(log.lines) == 1
    (data / "train_images" / "40.jpg").write_bytes((data / "train_images" / "00.jpg").read_bytes())
    with pytest.raises(InputError, match=r"40\.jpg is in train_images but not in the split"):
        splits.ensure_splits(open_data_folder(data))


def test_too_few_images_for_the_parts(data: Path) -> None:
    for path in sorted((data / "train_images").iterdir())[5:]:
        path.unlink()
    (data / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n00.jpg,1,1 5\n")
    with pytest.raises(InputError, match="too few images for 6 subsets: 5 images in 4 groups"):
        splits.split_data(SplitConfig(data=data))
    assert not (data / "splits.csv").exists()
    assert set(splits.split_data(SplitConfig(data=data, holdout=0, folds=2)).subset_names()) == {"0", "1"}


def test_rows_of_images_that_are_not_there(data: Path) -> None:
    (data / "train_images" / "08.jpg").unlink()
    (data / "train_images" / "12.jpg").unlink()
    with pytest.raises(InputError, match=r"train\.csv, line 4.*08\.jpg.*2 annotated images are missing"):
        splits.split_data(SplitConfig(data=data))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a\x1b[31m.png,0,1,", r"ImageId 'a\\x1b\[31m\.png' has blanks around it"),
        ("a.png,\x1b]0;x\x07,1,", r'Part is "\\x1b\]0;x\\x07", neither'),
        ("a.png,0,\x1b[2J,", r'Group is "\\x1b\[2J", not a number'),
        ("a.png,0,1,1 \x1b[2J", r'Classes are "1 \\x1b\[2J", not class ids'),
        ("a.png,0,1,1 255", 'Classes are "1 255", not class ids'),
        ("a.png,0,1," + "1 x " * 30_000, 'Classes are "1 x 1 x '),
        ("a.png," + "x" * 100_000 + ",1,", 'Part is "xxx'),
        ("a" * 100_000 + ",0,1,", "ImageId 'aaa"),
    ],
)
def test_messages_about_a_split_are_short_and_printable(tmp_path: Path, row: str, expected: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(f"ImageId,Part,Group,Classes\n{row}\n")
    with pytest.raises(InputError, match=expected) as caught:
        splits.read_splits(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    path.write_text("ImageId,\x1b[31m" + "x" * 100_000 + "\n")
    with pytest.raises(InputError, match="the header is ImageId,") as caught:
        splits.read_splits(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_the_order_of_rows_of_a_split_does_not_matter(tmp_path: Path) -> None:
    rows = ["b.png,0,1,", "a.png,holdout,0,1", "c.png,1,2,", "d.png,0,1,2"]
    read = []
    for number, some in enumerate((rows, rows[::-1], sorted(rows))):
        path = tmp_path / f"{number}.csv"
        path.write_text("\n".join(["ImageId,Part,Group,Classes", *some]))
        split = splits.read_splits(path)
        read.append((list(split.parts.items()), split.ids_of("0"), list(split.groups.items()), split.fingerprint))
    assert read[0][1] == ["b.png", "d.png"]
    assert read[1] == read[0] == read[2]
