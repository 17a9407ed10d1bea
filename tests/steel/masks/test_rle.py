"""Run lengths: golden strings, every fault with its message, brute force, and pycocotools as a second opinion."""

import csv
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from severstal_cli.steel.masks import rle
from severstal_cli.steel.masks.rle import RLEError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"

# An "L" that a row-major coder, a coder from 0 and one that goes up the columns all write differently.
LETTER = np.array(
    [
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 1, 0],
    ],
    dtype=bool,
)

masks = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 20)), elements=st.sampled_from([0, 0, 0, 1, 255])
)


def brute_force(mask: NDArray[np.generic]) -> list[tuple[int, int]]:
    """Runs by walking down the columns, pixel by pixel."""
    runs: list[list[int]] = []
    pixels = [mask[y, x] != 0 for x in range(mask.shape[1]) for y in range(mask.shape[0])]
    for index, inside in enumerate(pixels):
        if inside and index and pixels[index - 1]:
            runs[-1][1] += 1
        elif inside:
            runs.append([index, 1])
    return [(start, length) for start, length in runs]


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (LETTER, "4 3 9 1"),
        (LETTER.T, "2 1 6 1 10 2"),
        (LETTER[:, ::-1], "6 4"),
        (LETTER[::-1], "4 4"),
        (np.zeros((3, 4), bool), ""),
        (np.ones((3, 4), bool), "1 12"),
        (np.eye(3, dtype=bool), "1 1 5 1 9 1"),
        (np.zeros((0, 4), bool), ""),
    ],
)
def test_golden_strings(mask: NDArray[np.bool_], text: str) -> None:
    assert rle.to_text(rle.encode(mask)) == text
    assert rle.to_text(rle.encode(np.asfortranarray(mask))) == text
    np.testing.assert_array_equal(rle.decode(rle.from_text(text), mask.shape), mask)


def test_the_example_of_the_competition() -> None:
    runs = rle.from_text("1 3 10 5")
    np.testing.assert_array_equal(runs, [[0, 3], [9, 5]])
    assert np.flatnonzero(rle.decode(runs, (4, 5)).T).tolist() == [0, 1, 2, 9, 10, 11, 12, 13]


def test_the_example_of_the_docstring() -> None:
    assert rle.__doc__ is not None
    rows = [line.split() for line in rle.__doc__.splitlines() if line.startswith(("    .", "    #"))]
    drawn = np.array([[cell == "#" for cell in row[:3]] for row in rows])
    assert drawn.shape == (4, 3)
    assert rle.to_text(rle.encode(drawn)) == "2 2 8 3"


def test_last_pixel_of_a_real_size() -> None:
    mask = np.zeros((256, 1600), np.uint8)
    mask[255, 1599] = 1
    assert rle.to_text(rle.encode(mask)) == "409600 1"
    assert rle.decode(rle.from_text("409600 1", pixels=409600), (256, 1600))[255, 1599]


@settings(deadline=None)
@given(masks)
def test_encode_is_brute_force_in_every_memory_order(mask: NDArray[np.uint8]) -> None:
    expected = brute_force(mask)
    frozen = mask.copy()
    frozen.flags.writeable = False
    spread = np.zeros((mask.shape[0] * 2, mask.shape[1] * 3), np.uint8)[::2, ::3]
    spread[:] = mask
    for variant in (mask, mask != 0, np.asfortranarray(mask), frozen, spread, mask[::-1][::-1]):
        runs = rle.encode(variant)
        assert runs.dtype == np.int32
        assert runs.shape == (len(expected), 2)
        assert list(map(tuple, runs.tolist())) == expected


@settings(deadline=None)
@given(masks, st.data())
def test_decode_turns_encode_back_whole_and_in_strips(mask: NDArray[np.uint8], data: st.DataObject) -> None:
    runs = rle.from_text(rle.to_text(rle.encode(mask)), pixels=mask.size)
    whole = rle.decode(runs, mask.shape)
    assert whole.dtype == np.bool_
    np.testing.assert_array_equal(whole, mask != 0)
    assert rle.area(runs) == np.count_nonzero(mask)
    x0 = data.draw(st.integers(0, mask.shape[1]))
    x1 = data.draw(st.integers(x0, mask.shape[1]))
    np.testing.assert_array_equal(rle.decode(runs, mask.shape, columns=(x0, x1)), whole[:, x0:x1])


def test_wide_masks_cross_chunks_of_words() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((3, 1000), (64, 128), (130, 257), (1, 4096), (4096, 1)):
        for share in (0.001, 0.5, 0.999):
            mask = rng.random((height, width)) < share
            expected = brute_force(mask)
            assert list(map(tuple, rle.encode(mask).tolist())) == expected
            assert list(map(tuple, rle.encode(np.asfortranarray(mask)).tolist())) == expected
            np.testing.assert_array_equal(rle.decode(rle.encode(mask), mask.shape), mask)


@settings(deadline=None)
@given(st.data())
def test_overlap_is_that_of_the_masks(data: st.DataObject) -> None:
    first = data.draw(masks)
    second = data.draw(arrays.arrays(np.uint8, first.shape, elements=st.integers(0, 1)))
    shared = np.count_nonzero((first != 0) & (second != 0))
    assert rle.overlap(rle.encode(first), rle.encode(second)) == shared
    assert rle.overlap(rle.encode(second), rle.encode(first)) == shared


def test_areas_and_overlaps_beyond_32_bits_of_sum_are_exact() -> None:
    runs = rle.from_text("1 2147483647")
    assert rle.area(runs) == rle.overlap(runs, runs) == 2**31 - 1
    np.testing.assert_array_equal(rle.from_text(rle.to_text(runs)), runs)


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("", []),
        ("  \t\n", []),
        (" 1  3\t10\r\n5 ", [[0, 3], [9, 5]]),
        ("1 3 4 2", [[0, 3], [3, 2]]),  # runs that touch
        ("007 1", [[6, 1]]),
        ("19 2", [[18, 2]]),
    ],
)
def test_legal_texts(text: str, runs: list[list[int]]) -> None:
    np.testing.assert_array_equal(rle.from_text(text, pixels=20), np.array(runs, np.int32).reshape(-1, 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "run 1 (number 1): start 5 has no length, the count of numbers is odd"),
        ("1 3 10", "run 2 (number 3): start 10 has no length, the count of numbers is odd"),
        ("1 3 5 1 0 2", "run 3 (number 5): start 0 is below 1"),
        ("1 3 5 0", "run 2 (number 4): length 0 is below 1"),
        ("1 -3", "run 1 (number 2): length -3 is below 1"),
        ("-0 3", "run 1 (number 1): start -0 is below 1"),
        ("1 3 x 1", "run 2 (number 3): 'x' is not a number in plain digits"),
        ("+5 1", "run 1 (number 1): '+5' is not a number in plain digits"),
        ("1 1.5", "run 1 (number 2): '1.5' is not a number in plain digits"),
        ("1e1 1", "run 1 (number 1): '1e1' is not a number in plain digits"),
        ("0x1 1", "run 1 (number 1): '0x1' is not a number in plain digits"),
        ("1,3", "run 1 (number 1): '1,3' is not a number in plain digits"),
        ("1 3 - 1", "run 2 (number 3): '-' is not a number in plain digits"),
        ("1 \u0663", "run 1 (number 2): '\u0663' is not a number in plain digits"),
        ("1\x003 4", "run 1 (number 1): '1\\x003' is not a number in plain digits"),
        ("1\ud800 4", "run 1 (number 1): '1\\ud800' is not a number in plain digits"),
        ("19 3", "run 1 (number 2): length 3 reaches past the end, pixel 20"),
        ("21 1", "run 1 (number 1): start 21 reaches past the end, pixel 20"),
        ("1 99999999999999999999", "run 1 (number 2): length 99999999999999999999 reaches past the end, pixel 20"),
        (f"{2**64 + 1} 1", "run 1 (number 1): start 18446744073709551617 reaches past the end, pixel 20"),
        ("9" * 50 + " 1", f"run 1 (number 1): start {'9' * 20}... reaches past the end, pixel 20"),
        ("5 2 1 2", "run 2 (number 3): start 1 is before the start of the run before it, 5: unsorted"),
        ("5 3 7 2", "run 2 (number 3): start 7 overlaps the run before it, 5 3"),
        ("5 3 5 3", "run 2 (number 3): start 5 overlaps the run before it, 5 3"),
    ],
)
def test_faults_name_run_and_number(text: str, message: str) -> None:
    with pytest.raises(RLEError) as caught:
        rle.from_text(text, pixels=20)
    assert str(caught.value) == message


def test_without_a_size_runs_end_where_int32_does() -> None:
    assert rle.area(rle.from_text("2147483647 1")) == 1
    for text in ("2147483647 2", "2147483648 1", f"{2**32 + 1} 1", f"1 {2**32 + 1}"):
        with pytest.raises(RLEError, match="past the end"):
            rle.from_text(text)


@settings(deadline=None)
@given(st.lists(st.integers(-1, 12), max_size=6))
def test_the_parser_accepts_exactly_what_the_rules_allow(numbers: list[int]) -> None:
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    allowed = len(numbers) % 2 == 0 and all(start >= 1 and length >= 1 for start, length in pairs)
    allowed = allowed and all(start + length - 1 <= 12 for start, length in pairs)
    ends = [start + length for start, length in pairs]
    allowed = allowed and all(start >= end for end, (start, _) in zip(ends, pairs[1:], strict=False))
    text = " ".join(map(str, numbers))
    if allowed:
        assert [(start + 1, length) for start, length in rle.from_text(text, pixels=12).tolist()] == pairs
        assert rle.to_text(rle.from_text(text)) == text
    else:
        with pytest.raises(RLEError):
            rle.from_text(text, pixels=12)


@pytest.mark.parametrize("mask", [np.zeros(4, bool), np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32)])
def test_encode_refuses_what_is_no_mask(mask: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"a mask is \(H, W\) bool or uint8"):
        rle.encode(mask)


def test_decode_refuses_runs_and_columns_outside() -> None:
    with pytest.raises(ValueError, match="pixel 13 of 12"):
        rle.decode(rle.from_text("13 1"), (3, 4))
    with pytest.raises(ValueError, match=r"columns 2\.\.5"):
        rle.decode(rle.EMPTY, (3, 4), columns=(2, 5))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, under numpy 2
def test_pycocotools_agrees() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        first, second = (rng.random((2, 37, 53)) < share).astype(np.uint8)
        theirs = [coco.encode(np.asfortranarray(mask)) for mask in (first, second)]
        ours = [rle.encode(mask) for mask in (first, second)]
        assert [rle.area(runs) for runs in ours] == coco.area(theirs).tolist()
        assert rle.overlap(*ours) == coco.area(coco.merge(theirs, intersect=True))
        np.testing.assert_array_equal(rle.decode(ours[0], (37, 53)), coco.decode(theirs[0]))


def test_fifteen_megabytes_of_text_take_little_time() -> None:
    pairs = " ".join(f"{start} 3" for start in range(1, 400_000, 5))
    texts = [pairs] * (15_000_000 // len(pairs))
    rle.from_text(pairs)
    begin = time.process_time()  # not the clock's: others may keep the machine busy
    for text in texts:
        rle.from_text(text)
    # measured: 0.1 s; the bound only tells a loop in Python from a compiled one
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(("table", "size"), [("severstal/train.csv", (256, 1600)), ("sd900/train.csv", (200, 200))])
def test_every_real_annotation_comes_back_as_it_was(table: str, size: tuple[int, int]) -> None:
    if not (REAL / table).exists():
        pytest.skip("the real annotations are not here")
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with (REAL / table).open(newline="") as file:
        texts = [row["EncodedPixels"] for row in csv.DictReader(file)]
    assert len(texts) > 700
    for text in texts:
        runs = rle.from_text(text, pixels=size[0] * size[1])
        assert rle.to_text(runs) == text
        assert rle.to_text(rle.encode(rle.decode(runs, size))) == text


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=4))
def test_a_union_is_that_of_the_pixels(masks: list[list[bool]]) -> None:
    drawn = [np.array(mask).reshape(3, 4) for mask in masks]
    found = rle.union([rle.encode(mask) for mask in drawn])
    assert found.dtype == np.int32
    assert rle.decode(found, (3, 4)).tolist() == np.any(drawn, axis=0).tolist()
    assert rle.to_text(found) == rle.to_text(rle.encode(np.any(drawn, axis=0)))


@pytest.mark.parametrize("text", ["1 3", "2 2 9 4", "1 1 5 1 7 9", "13 1", "12 1", "1 12", "1 1 30 2 40 1"])
def test_runs_past_the_end_have_the_message_of_the_parser(text: str) -> None:
    try:
        rle.from_text(text, pixels=12)
        said = ""
    except RLEError as error:
        said = str(error)
    assert rle.past_the_end(rle.from_text(text), 12) == said


def test_long_numbers_are_cut_in_messages() -> None:
    with pytest.raises(RLEError) as caught:
        rle.from_text(f"{'0' * 100_000}5 3 5 2")
    assert len(str(caught.value)) < 200
