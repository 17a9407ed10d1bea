"""Near-duplicates: the same steel is joined however it was saved, lit or cut; other steel of the same kind is not."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from severstal_cli.progress import Bar
from severstal_cli.steel.dataset import near_duplicate_kernels, near_duplicates
from severstal_cli.steel.dataset.near_duplicates import find_near_duplicates
from severstal_cli.steel.images.decoding import cv2

HEIGHT, WIDTH = 128, 480


def sheet(seed: int, *, stains: int = 0, width: int = WIDTH) -> np.ndarray:
    """Steel of one roll: the same light and streaks on every sheet, a grain and stains of its own."""
    roll, own = np.random.default_rng(99), np.random.default_rng(seed)
    light = 90 + 25 * np.sin(np.linspace(0, 3, width)) + cv2.GaussianBlur(roll.normal(0, 30, (1, width)), (0, 0), 2)
    grain = cv2.GaussianBlur(own.normal(0, 1, (HEIGHT, width)), (0, 0), 2.5)
    steel = light + 5 * grain / grain.std() + own.normal(0, 2, (HEIGHT, width))
    for _ in range(stains):
        y, x = int(own.integers(HEIGHT)), int(own.integers(width))
        steel = cv2.ellipse(steel, (x, y), (int(own.integers(3, 20)), int(own.integers(3, 20))), 0, 0, 360, 60, -1)
    return np.clip(steel, 0, 255).astype(np.uint8)


def saved(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(5).normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def windows(down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Two views of one large sheet, the second one shifted."""
    large = np.vstack([sheet(1, width=900), sheet(2, width=900)])
    return large[:HEIGHT, :WIDTH], large[down : down + HEIGHT, right : right + WIDTH]


def numbers(groups: np.ndarray) -> list[int]:
    return groups.tolist()


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "saved well": lambda image: saved(image, 90),
    "saved badly": lambda image: saved(image, 40),
    "brighter": lambda image: np.clip(image * 1.3 + 10.0, 0, 255).astype(np.uint8),
    "darker": lambda image: (image * 0.6).astype(np.uint8),
    "lit from a side": lambda image: np.clip(image * np.linspace(0.5, 1.3, WIDTH), 0, 255).astype(np.uint8),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1.5),
    "noisy": noisy,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stains", [0, 6])
def test_a_changed_copy_is_found(change: str, stains: int) -> None:
    images = [sheet(seed, stains=stains) for seed in range(5)]
    copy = CHANGES[change](images[3])
    assert (copy != images[3]).any()
    assert numbers(find_near_duplicates([*images, copy])) == [0, 1, 2, 3, 4, 3]


@pytest.mark.parametrize("shift", [(0, 3), (3, 0), (5, 7), (0, 90), (30, 20), (0, 200)])
def test_a_shifted_view_is_found(shift: tuple[int, int]) -> None:
    first, second = windows(*shift)
    others = [sheet(seed) for seed in range(10, 14)]
    assert numbers(find_near_duplicates([first, *others, second])) == [0, 1, 2, 3, 4, 0]


def test_a_shift_of_most_of_the_view_is_no_duplicate() -> None:
    assert numbers(find_near_duplicates(windows(0, 400))) == [0, 1]


def test_sheets_of_one_roll_are_not_joined() -> None:
    """Same light, same streaks, same kind of grain; every other one with stains."""
    images = [sheet(seed, stains=3 * (seed % 2)) for seed in range(120)]
    assert numbers(find_near_duplicates(images)) == list(range(120))


def test_straight_scratches_alone_do_not_join() -> None:
    """Two sheets with the same bright line at the same place share the line, not the steel."""
    images = [sheet(seed) for seed in range(20)]
    for image in images:
        image[:, 200:212] = 250
        image[60:64] = 10
    assert numbers(find_near_duplicates(images)) == list(range(20))


def test_equal_pixels_are_joined_whatever_they_show() -> None:
    black, grey = np.zeros((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH), 90, np.uint8)
    almost = black.copy()
    almost[5, 5] = 1
    steel = sheet(0)
    images = [black, grey, steel, black.copy(), almost, grey.copy(), steel.copy()]
    assert numbers(find_near_duplicates(images)) == [0, 1, 2, 0, 3, 1, 2]


@pytest.mark.parametrize("level", [20, 200])
def test_dark_spots_match_like_bright_ones(level: int) -> None:
    def dotted(seed: int) -> np.ndarray:
        image = np.full((HEIGHT, WIDTH), 110, np.uint8)
        for y, x in np.random.default_rng(seed).integers((15, 15), (HEIGHT - 15, WIDTH - 15), (40, 2)).tolist():
            cv2.circle(image, (x, y), 4, level, -1)
        return image

    assert numbers(find_near_duplicates([dotted(0), dotted(1), saved(dotted(0), 80)])) == [0, 1, 0]


def test_where_there_is_no_texture_there_are_no_spots() -> None:
    """Else every two black images would be candidates."""
    assert len(near_duplicates._features_of(np.full((HEIGHT, WIDTH), 3, np.uint8)).hashes) == 0


def test_equal_bytes_of_another_shape_are_no_duplicate() -> None:
    assert numbers(find_near_duplicates([np.zeros((4, 6), np.uint8), np.zeros((6, 4), np.uint8)])) == [0, 1]


def test_chains_are_one_group_and_numbers_follow_the_first() -> None:
    large = np.hstack([sheet(1, width=900), sheet(2, width=900)])
    views = [large[:, start : start + WIDTH] for start in (0, 200, 400, 600)]
    apart = sheet(7)
    assert numbers(find_near_duplicates([views[2], apart, views[0], views[3], views[1]])) == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (5, 5), (15, 17), (16, 1600), (31, 31), (200, 8)])
def test_small_and_odd_sizes(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(1, 256, shape, np.uint8)
    assert numbers(find_near_duplicates([image, np.zeros(shape, np.uint8), image])) == [0, 1, 0]


def test_mixed_sizes_and_views_of_memory() -> None:
    wide, square = sheet(0), np.ascontiguousarray(sheet(1)[:, :128])
    stack = np.zeros((HEIGHT, 2 * WIDTH), np.uint8)
    stack[:, ::2] = wide
    assert numbers(find_near_duplicates(iter([wide, square, stack[:, ::2], saved(square, 80)]))) == [0, 1, 0, 1]


def test_a_narrower_cut_of_the_same_cells_is_left_alone() -> None:
    """Small images are their own cells, so spots agree; but only textures of one shape are compared."""
    small = np.ascontiguousarray(sheet(0)[:40, :100])
    assert numbers(find_near_duplicates([small, small[:, :90], saved(small, 90)])) == [0, 1, 0]


def test_no_images() -> None:
    assert numbers(find_near_duplicates([])) == []


def test_the_bar_advances_with_each_image() -> None:
    class Counter(Bar):
        steps = 0

        def advance(self, steps: int = 1, note: str = "") -> None:
            assert note == ""
            self.steps += steps

    bar = Counter()
    find_near_duplicates([sheet(0), sheet(1), sheet(0)], bar)
    assert bar.steps == 3


def test_too_large_a_group_falls_apart_at_its_weak_edges() -> None:
    """40 of 100 images in a chain of weak edges, with safe pairs among them: only the safe ones stay."""
    weak = [(first, first + 1, 0.01) for first in range(40)]
    safe = [(first, first + 1, 0.25) for first in range(0, 40, 10)]
    groups = near_duplicates._groups(weak + safe, 100)
    assert np.bincount(groups).max() == 2
    assert [groups[first] == groups[first + 1] for first in (0, 1, 10, 11)] == [True, False, True, False]
    assert np.bincount(near_duplicates._groups(weak[:25] + safe, 100)).max() == 26


@settings(deadline=None, max_examples=30)
@given(data=st.data(), count=st.integers(1, 40), most=st.integers(0, 64))
def test_near_pairs_by_brute_force(data: st.DataObject, count: int, most: int) -> None:
    few = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
    prints = [
        data.draw(st.sampled_from(few)) ^ (1 << data.draw(st.integers(0, 63))) & (2**64 - 1) for _ in range(count)
    ]
    owner = sorted(data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count)))
    expected = [
        [i, j, (prints[i] ^ prints[j]).bit_count()]
        for i, j in itertools.combinations(range(count), 2)
        if owner[i] != owner[j] and (prints[i] ^ prints[j]).bit_count() <= most
    ]
    found = near_duplicate_kernels.near_pairs(np.array(prints, np.uint64), np.array(owner, np.int32), most)
    assert found.tolist() == expected


def test_near_pairs_of_many() -> None:
    """More prints than a block holds and more hits than the first room for them."""
    prints = np.repeat(np.arange(40, dtype=np.uint64) * np.uint64(0x0101010101010101), 20)
    owner = np.arange(800, dtype=np.int32)
    found = near_duplicate_kernels.near_pairs(prints, owner, 0)
    assert len(found) == 40 * 20 * 19 // 2
    assert (prints[found[:, 0]] == prints[found[:, 1]]).all()


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), down=st.integers(-5, 5), right=st.integers(-9, 9))
def test_correlation_by_definition(seed: int, down: int, right: int) -> None:
    one, other = np.random.default_rng(seed).integers(-127, 128, (2, 12, 20), np.int8)

    def centred(part: np.ndarray) -> np.ndarray:
        rows, columns = part.mean(axis=1, keepdims=True), part.mean(axis=0)
        return part - rows - columns + part.mean()

    part_one = centred(one[max(0, -down) : 12 - max(0, down), max(0, -right) : 20 - max(0, right)])
    part_other = centred(other[max(0, down) : 12 + min(0, down), max(0, right) : 20 + min(0, right)])
    expected = (part_one * part_other).sum() / np.sqrt((part_one**2).sum() * (part_other**2).sum())
    assert near_duplicate_kernels.correlation(one, other, down, right) == pytest.approx(expected, abs=1e-6)


def shifted(down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Two textures of 20 x 50 cells: one[y, x] is other[y + down, x + right]."""
    large = np.random.default_rng(0).integers(-60, 61, (60, 120), np.int8)
    one, other = large[20:40, 35:85], large[20 - down : 40 - down, 35 - right : 85 - right]
    return np.ascontiguousarray(one), np.ascontiguousarray(other)


@pytest.mark.parametrize(
    ("down", "right", "expected"),
    [
        (0, 0, 0.30),  # 1 - (0.95 - 0.25)
        (0, 25, 0.175),  # half: 1 - (0.95 - 0.125)
        (4, -20, 0.17),  # 0.8 x 0.6 = 0.48
        (10, 20, 0.125),  # 0.5 x 0.6 = 0.3, the least
        (12, 25, -1.0),  # 0.4 x 0.5
    ],
)
def test_surplus_is_found_a_cell_aside_too(down: int, right: int, expected: float) -> None:
    one, other = shifted(down, right)
    assert near_duplicate_kernels.surplus(one, other, down, right) == pytest.approx(expected, abs=1e-9)
    if down == 0:
        soft = [cv2.GaussianBlur(texture.astype(np.float32), (0, 0), 1.0).astype(np.int8) for texture in (one, other)]
        exact = near_duplicate_kernels.surplus(*soft, down, right)
        assert 0 < exact == near_duplicate_kernels.surplus(*soft, down + 1, right - 1)


def test_streaks_alone_correlate_with_nothing() -> None:
    streaks = np.tile(np.random.default_rng(2).integers(-99, 100, 50, np.int8), (20, 1))
    streaks[3, 7] += 1
    assert near_duplicate_kernels.correlation(streaks, streaks, 0, 0) == 0


def test_surplus_of_other_textures_is_none() -> None:
    textures = np.random.default_rng(1).integers(-60, 61, (2, 20, 50), np.int8)
    assert near_duplicate_kernels.surplus(textures[0], textures[1], 0, 0) < 0
    half_alike = (textures[0] // 2 + textures[1] // 2).astype(np.int8)  # correlation 0.71: enough where all is shared
    assert 0 < near_duplicate_kernels.surplus(textures[0], half_alike, 0, 0) < 0.05
    assert near_duplicate_kernels.surplus(*shifted(0, 0)[:1], np.zeros((20, 50), np.int8), 0, 0) == -1


def test_agreeing_keeps_pairs_of_similar_shifts_and_close_hashes() -> None:
    candidates = [
        [0, 1, 5, 5, 12],  # alone
        [0, 2, 3, -4, 12],  # two agree within a cell: one is kept
        [0, 2, 4, -4, 13],
        [0, 2, 9, 9, 12],  # alone at another shift
        [0, 3, 1, 1, 8],  # alone, with a close hash
        [1, 3, 0, 0, 12],  # agree in one direction only
        [1, 3, 0, 2, 12],
    ]
    assert near_duplicate_kernels.agreeing(np.array(candidates, np.int32), 8).tolist() == [[0, 2, 3, -4], [0, 3, 1, 1]]
