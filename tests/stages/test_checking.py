"""`check`: each kind of fault with its line, and no fault of valid submissions."""

from pathlib import Path

import numpy as np
import pytest

from severstal_cli.config import CheckConfig
from severstal_cli.errors import InputError
from severstal_cli.stages.checking import check
from severstal_cli.steel.images.decoding import cv2
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.mask_table import Layout

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "severstal"

PAIRS = "ImageId_ClassId,EncodedPixels\n"
TRIPLES = "ImageId,ClassId,EncodedPixels\n"
GOOD = PAIRS + "a.jpg_1,1 3\na.jpg_2,4 1\nb.jpg_1,\nb.jpg_2,\n"
CLEAN = "1 image without a row, first {}, counted as clean, as in annotations"
SAMPLE_2019 = PAIRS + "a.jpg_1,1 1\na.jpg_2,1 1\nb.jpg_1,1 1\nb.jpg_2,1 1\n"
SAMPLE_TODAY = "ImageId,EncodedPixels,ClassId\na.jpg,1 12,0\nb.jpg,1 12,0\n"


def found(folder: Path, submission: str, **options: str | tuple[int, int]) -> list[tuple[int, str, bool]]:
    """(line, message, is_warning) of every fault; text options become files."""
    files = {}
    for name, content in {"submission": submission, **options}.items():
        if isinstance(content, str):
            files[name] = folder / f"{name}.csv"
            files[name].write_text(content)
    size = options.get("size")
    assert not isinstance(size, str)
    result = check(CheckConfig(**files, size=size))
    assert result.is_valid == all(fault.is_warning for fault in result.faults)
    return [(fault.line, fault.message, fault.is_warning) for fault in result.faults]


@pytest.mark.parametrize("sample", [SAMPLE_2019, SAMPLE_TODAY, "ImageId\nb.jpg\na.jpg\n"])
def test_a_good_submission_has_no_faults(tmp_path: Path, sample: str) -> None:
    assert found(tmp_path, GOOD, sample=sample, size=(3, 4)) == []
    shuffled = PAIRS + "b.jpg_2,\na.jpg_2,4 1\nb.jpg_1,\na.jpg_1,1 3\n"
    assert found(tmp_path, shuffled, sample=sample, size=(3, 4)) == []
    today = TRIPLES + "a.jpg,1,1 3\nb.jpg,1,\n"
    assert found(tmp_path, today, sample=sample, size=(3, 4)) == []


@pytest.mark.parametrize(
    ("submission", "sample", "faults"),
    [
        (GOOD.replace("b.jpg_2,\n", ""), SAMPLE_2019, [(0, "b.jpg has no row for class 2", False)]),
        (GOOD.replace("b.jpg_2,\n", ""), SAMPLE_TODAY, [(0, "b.jpg has no row for class 2", False)]),
        (GOOD.replace("b.jpg_2,\n", ""), None, [(0, "b.jpg has no row for class 2", False)]),
        (PAIRS + "a.jpg_1,1 3\na.jpg_2,4 1\n", SAMPLE_2019, [(0, "b.jpg is missing", False)]),
        (TRIPLES + "a.jpg,1,1 3\n", SAMPLE_TODAY, [(0, CLEAN.format("b.jpg"), True)]),
        (TRIPLES + "a.jpg,1,1 3\n", SAMPLE_2019, [(0, CLEAN.format("b.jpg"), True)]),
        (
            TRIPLES + "c.jpg,1,1 3\n",
            "ImageId\nb.jpg\n",
            [(0, "b.jpg is missing", False), (2, "c.jpg is not one of the expected images", False)],
        ),
        (
            TRIPLES + "b,1,1 3\na.jpg,1,1 3\n",
            SAMPLE_TODAY,
            [
                (0, "b.jpg is missing: b has another suffix or case", False),
                (2, "b is not one of the expected images", False),
            ],
        ),
        (
            TRIPLES + "a.jpg,1,1 3\na.jpg,1,3 2\nb.jpg,1,\n",
            SAMPLE_TODAY,
            [(3, "a.jpg, class 1 is in line 2 already; both are read as one mask", True)],
        ),
        (
            GOOD.replace("b.jpg_1,", "b.jpg_1,-1"),
            SAMPLE_2019,
            [(4, "-1 is read as an empty mask; a submission has an empty field instead", True)],
        ),
        (GOOD.replace(",", ";"), SAMPLE_2019, [(1, "semicolons separate the columns, not commas", False)]),
        ("i," + GOOD.replace("\n", "\n7,")[:-2], SAMPLE_2019, [(1, "columns outside the layout: i", True)]),
        (TRIPLES + "a.jpg,1,1 3\n", None, []),
        (GOOD + "c.jpg_1,\nc.jpg_2,\n", SAMPLE_2019, [(6, "c.jpg is not one of the expected images", False)]),
        (GOOD + "c.jpg_1,\nc.jpg_2,\n", SAMPLE_TODAY, [(6, "c.jpg is not one of the expected images", False)]),
        (GOOD + "c.jpg_1,\nc.jpg_2,\n", None, []),
        (GOOD + "b.jpg_3,\n", SAMPLE_2019, [(6, "b.jpg has no class 3 in the sample", False)]),
        (GOOD + "a.jpg_1,\n", SAMPLE_2019, [(6, "a.jpg, class 1 is in line 2 already", False)]),
        (
            GOOD.replace("1 3", "1 0"),
            SAMPLE_2019,
            [(2, "a.jpg, class 1: run 1 (number 2): length 0 is below 1", False)],
        ),
        (
            GOOD.replace("b.jpg_1,", "b.jpg_1,12 2"),
            SAMPLE_2019,
            [(4, "b.jpg, class 1: run 1 (number 2): length 2 reaches past the end, pixel 12", False)],
        ),
        (
            GOOD.replace("4 1", "2 4"),
            SAMPLE_2019,
            [(3, "a.jpg: classes 1 and 2 share 2 pixels (other row: line 2)", True)],
        ),
        (PAIRS, None, [(0, "no rows after the header", False)]),
    ],
)
def test_each_fault_is_reported_once_with_its_line(
    tmp_path: Path, submission: str, sample: str | None, faults: list[tuple[int, str, bool]]
) -> None:
    options = {"sample": sample} if sample else {}
    assert found(tmp_path, submission, **options, size=(3, 4)) == faults


def test_all_faults_are_reported_by_line(tmp_path: Path) -> None:
    submission = PAIRS + "c.jpg_1,\na.jpg_1,5 1\na.jpg_1,\na.jpg_2,5 2 3 1\nwhat\n"
    assert found(tmp_path, submission, sample=SAMPLE_2019, size=(3, 4)) == [
        (0, "b.jpg is missing", False),
        (2, "c.jpg is not one of the expected images", False),
        (4, "a.jpg, class 1 is in line 3 already", False),
        (5, "a.jpg, class 2: run 2 (number 3): start 3 is before the start of the run before it, 5: unsorted", False),
        (6, "1 field where the header has 2", False),
    ]


def test_sizes_and_names_come_from_the_folder_of_images(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name, size in (("a.png", (2, 2)), ("b.png", (3, 4))):
        cv2.imwrite(str(images / name), np.zeros(size, np.uint8))
    submission = tmp_path / "s.csv"
    submission.write_text(TRIPLES + "a.png,1,5 1\nb.png,1,5 1\n")
    result = check(CheckConfig(submission=submission, images=images))
    assert [(fault.line, fault.message) for fault in result.faults] == [
        (2, "a.png, class 1: run 1 (number 1): start 5 reaches past the end, pixel 4")
    ]
    assert result.notes == ()
    submission.write_text(TRIPLES + "b.png,1,5 1\n")
    assert [fault.message for fault in check(CheckConfig(submission=submission, images=images)).faults] == [
        CLEAN.format("a.png")
    ]
    # a given size replaces those of the files
    submission.write_text(TRIPLES + "a.png,1,5 1\nb.png,1,6 1\n")
    assert [fault.line for fault in check(CheckConfig(submission=submission, images=images, size=(1, 5))).faults] == [3]


def test_an_image_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.zeros((2, 2), np.uint8))
    (images / "b.png").touch()
    submission = tmp_path / "s.csv"
    submission.write_text(TRIPLES + "a.png,1,5 1\nb.png,1,5 1\n")
    result = check(CheckConfig(submission=submission, images=images))
    assert [fault.line for fault in result.faults] == [2]
    (note,) = result.notes
    assert note.startswith("masks were not checked against the size of 1 unreadable images, first ")
    assert "b.png: the file is empty" in note
    (images / "a.png").unlink()
    assert [note[:70] for note in check(CheckConfig(submission=submission, images=images)).notes] == [note[:70]]


def test_skipped_checks_are_noted(tmp_path: Path) -> None:
    submission = tmp_path / "s.csv"
    submission.write_text(GOOD)
    result = check(CheckConfig(submission=submission))
    assert result.is_valid
    assert result.notes == (
        "runs past the end of an image were not checked: give --size or a folder of --images",
        "missing images were not checked: give --sample or --images",
        "the classes were assumed to be 1 to 2, the highest in the submission",
    )
    assert (result.layout, result.rows, result.images, result.masks, result.classes) == (Layout.ORIGINAL, 4, 2, 2, 2)


def test_a_wrong_header_is_an_input_error(tmp_path: Path) -> None:
    submission = tmp_path / "s.csv"
    submission.write_text("id,rle\n")
    with pytest.raises(InputError, match=r"s\.csv, line 1: the header is id,rle"):
        check(CheckConfig(submission=submission))


def test_real_submissions_and_annotations_are_valid() -> None:
    if not REAL.exists():
        pytest.skip("the real submissions are not here")
    for name, masks in (("submissions/stage1-sorted.csv", 782), ("submissions/stage1-unsorted.csv", 836)):
        result = check(CheckConfig(submission=REAL / name, size=(256, 1600)))
        assert (result.faults, result.rows, result.images, result.masks) == ((), 7204, 1801, masks)
    annotations = check(CheckConfig(submission=REAL / "train.csv", size=(256, 1600)))
    rows = len((REAL / "train.csv").read_text().splitlines()) - 1
    assert (annotations.faults, annotations.rows, annotations.classes) == ((), rows, 4)
    against_today = check(
        CheckConfig(
            submission=REAL / "submissions/stage1-sorted.csv", sample=REAL / "sample_submission.csv", size=(256, 1600)
        )
    )
    # the first stage had 1,801 of the 5,506 images
    assert len(against_today.faults) == 5506 - 1801
    assert all(fault.message.endswith("is missing") for fault in against_today.faults)


def test_pixels_of_many_classes_are_compared_in_one_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 classes have one pixel each, and three pairs share theirs: no image has all 780 pairs compared."""
    starts = list(range(1, 41))
    starts[9], starts[19], starts[39] = starts[4], starts[14], starts[0]
    rows = "".join(f"a.jpg,{class_id},{start} 1 {start + 100} 1\n" for class_id, start in enumerate(starts, start=1))
    calls, real = [], rle.overlap

    def count(*masks: rle.RLE) -> int:
        calls.append(1)
        return real(*masks)

    monkeypatch.setattr(rle, "overlap", count)
    assert [message for _, message, _ in found(tmp_path, TRIPLES + rows)] == [
        "a.jpg: classes 5 and 10 share 2 pixels (other row: line 6)",
        "a.jpg: classes 15 and 20 share 2 pixels (other row: line 16)",
        "a.jpg: classes 1 and 40 share 2 pixels (other row: line 2)",
    ]
    assert len(calls) == 3


def test_faults_of_many_classes_are_short(tmp_path: Path) -> None:
    sample = PAIRS + "".join(f"a.jpg_{class_id},\n" for class_id in range(1, 255))
    ((_, message, _),) = found(tmp_path, PAIRS + "a.jpg_254,\n", sample=sample)
    assert message == "a.jpg has no row for class 1, 2, 3, 4, 5, 6, 7, 8 and 245 more"


def test_a_second_row_is_a_fault_in_the_layout_of_2019(tmp_path: Path) -> None:
    assert found(tmp_path, GOOD + "a.jpg_1,5 1\n", sample=SAMPLE_2019) == [
        (6, "a.jpg, class 1 is in line 2 already", False)
    ]


def test_classes_are_those_of_the_rows(tmp_path: Path) -> None:
    (tmp_path / "gaps.csv").write_text(TRIPLES + "a.jpg,2,1 3\na.jpg,7,5 1\n")
    assert check(CheckConfig(submission=tmp_path / "gaps.csv")).classes == 2
