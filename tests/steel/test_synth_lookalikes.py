"""What clean steel of the competition shows and a network takes for defects: drawn as named, and only where wanted."""

from collections import Counter

import numpy as np
import pytest

from severstal_cli.steel.synth import defects, lookalikes, surface
from severstal_cli.steel.synth.defects import draw_defects
from severstal_cli.steel.synth.strip_end import end_strip
from severstal_cli.steel.synth.surface import draw_roll, draw_surface

SIZE = (256, 800)
ADDED = [lookalikes.add_tongues, lookalikes.add_splashes, lookalikes.add_grit, lookalikes.add_checker_plate]


def _bare(seed: int, size=SIZE):
    return np.random.default_rng(seed).normal(90, 4, size).astype(np.float32)


def _added(add, seed: int, size=SIZE, steel: int | None = None):
    image = _bare(seed if steel is None else steel, size)
    add(np.random.default_rng([1, seed]), image)
    return image


@pytest.mark.parametrize("add", ADDED)
@pytest.mark.parametrize("size", [SIZE, (32, 32), (64, 200)])
def test_the_seed_decides_what_is_added(add, size):
    first, again, other = (_added(add, seed, size, steel=0) for seed in (0, 0, 1))
    assert first.dtype == np.float32
    assert (first == again).all()
    assert not (first == other).all()
    assert all(np.isfinite(_added(add, seed, size)).all() for seed in range(20))


def test_tongues_are_flat_and_taller_than_wide():
    for seed in range(10):
        image = np.full(SIZE, 120, np.float32)
        lookalikes.add_tongues(np.random.default_rng(seed), image)
        other = np.abs(image - 120) > 12
        assert 0.005 < other.mean() < 0.8
        assert image[other].std() < 12
        # borders crossed on the way across, and on the way down
        across, down = (np.diff(other, axis=axis).sum() for axis in (1, 0))
        assert across > 2 * down


def test_splashes_are_white_and_stand_in_few_columns():
    for seed in range(10):
        wet = _added(lookalikes.add_splashes, seed) > 250
        by_column = np.sort(wet.sum(axis=0))[::-1]
        assert wet.any()
        assert by_column[: SIZE[1] // 5].sum() > 0.95 * wet.sum()


def test_grit_is_a_bright_column():
    for seed in range(20):
        change = _added(lookalikes.add_grit, seed) - _bare(seed)
        assert change.min() >= 0
        assert change.max() > 10
        assert (change > 1).any(axis=0).sum() < 0.5 * SIZE[1]


def test_a_checker_plate_repeats_and_has_light_and_shadow():
    for seed in range(10):
        image = np.full(SIZE, 90, np.float32)
        lookalikes.add_checker_plate(np.random.default_rng(seed), image)
        relief = image - 90
        assert relief.max() > 8
        assert relief.min() < -4
        shifted = [np.corrcoef(relief[:, :-by].ravel(), relief[:, by:].ravel())[0, 1] for by in range(85, 155)]
        assert max(shifted) > 0.6  # moved by a pitch, it fits itself
        assert min(shifted) < 0.2


def test_the_rim_of_the_strip_is_beside_the_black_and_differs():
    rims = 0
    for seed in range(40):
        image, rng = _bare(seed), np.random.default_rng(seed)
        end_strip(rng, image, np.zeros(SIZE[1], bool))
        black = (image < 8).mean(axis=0) > 0.95
        assert black[0] != black[-1]
        left = black[0]
        strip = np.flatnonzero(~black)
        near, far = (strip[:60], strip[250:]) if left else (strip[-60:], strip[:-250])
        rims += bool(len(far) > 20 and abs(image[:, near].mean() - image[:, far].mean()) > 5)
    assert rims > 12


def test_without_difficulty_nothing_of_it_is_drawn_and_no_pixel_depends_on_it(monkeypatch):
    def drawn():
        rng, mask = np.random.default_rng(4), np.zeros(SIZE, bool)
        mask[10:200, 100:130] = True
        image = draw_surface(rng, draw_roll(rng, 0.0), SIZE, mask.any(axis=0), 0.0)
        draw_defects(rng, image, mask, 2, 0.0)
        return image

    first = drawn()

    def never(*_):
        raise AssertionError("drawn in an easy image")

    monkeypatch.setattr(surface, "end_strip", never)
    monkeypatch.setattr(defects, "_draw_lines", never)
    monkeypatch.setattr(defects, "_draw_scratches", None)  # so that no component is asked whether it shows lines
    monkeypatch.setattr(surface, "LOOKALIKES", ())
    assert (drawn() == first).all()


def test_an_image_of_full_difficulty_shows_each_at_its_share(monkeypatch):
    counted: Counter[str] = Counter()
    counting = [(lambda *_, name=add.__name__: counted.update([name]), share) for add, share in surface.LOOKALIKES]
    monkeypatch.setattr(surface, "LOOKALIKES", counting)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        draw_surface(rng, draw_roll(rng), (32, 64), np.zeros(64, bool))
    for add, share in (
        (lookalikes.add_tongues, 0.3),
        (lookalikes.add_splashes, 0.05),
        (lookalikes.add_grit, 0.25),
        (lookalikes.add_checker_plate, 0.05),
    ):
        assert 0.5 * share < counted[add.__name__] / 400 < 1.6 * share


def test_tall_defects_of_class_3_show_dark_lines_along_the_polygon():
    mask = np.zeros(SIZE, bool)
    mask[:, 300:330] = True
    lined = 0
    for seed in range(60):
        image = np.full(SIZE, 100, np.float32)
        draw_defects(np.random.default_rng(seed), image, mask, 2)
        profile = image[:, 300:330].mean(axis=0)
        # a line keeps its column, so the mean over rows still shows it; streaks lean, and are blurred by it
        lined += bool(profile.min() < 75 and np.median(profile) > 90)
    assert 8 < lined < 50
