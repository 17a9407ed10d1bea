"""Each kind of suspected fault on hand-made levels and masks, with scores worked by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from severstal_cli.steel.audit.findings import Finding, Kind, find
from severstal_cli.steel.masks import rle

SIZE = (12, 20)
Box = tuple[int, int, int, int]
A: Box = (2, 1, 4, 5)  # x, y, width, height
B: Box = (10, 6, 5, 4)


def painted(*boxes: Box, level: int = 255) -> NDArray[np.uint8]:
    levels = np.zeros(SIZE, np.uint8)
    for x, y, width, height in boxes:
        levels[y : y + height, x : x + width] = level
    return levels


def drawn(*boxes: Box) -> rle.RLE:
    return rle.encode(painted(*boxes))


def audit(levels: list[NDArray[np.uint8]], masks: list[rle.RLE], *, exclusive: bool = True) -> list[Finding]:
    return find("a.png", np.stack(levels), masks, exclusive=exclusive)[0]


def same(a: rle.RLE, b: rle.RLE) -> bool:
    return np.array_equal(a, b)


def test_what_is_drawn_and_predicted_alike_is_no_fault() -> None:
    found, dice = find("a.png", np.stack([painted(A), painted()]), [drawn(A), drawn()], exclusive=True)
    assert (found, dice) == ([], [1.0, 1.0])


def test_a_defect_that_nobody_drew_is_missed() -> None:
    [found] = audit([painted(), painted(A, level=204)], [drawn(), drawn()])
    assert (found.image_id, found.class_id, found.kind, found.box, found.pixels) == ("a.png", 2, Kind.MISSED, A, 20)
    assert same(found.mask, drawn(A))
    # empty: 1 - 0.8; with it: 2 * 20 * 0.8 / (20 + 20 * 0.8)
    assert found.score == pytest.approx(32 / 36 - 0.2)


def test_the_example_of_the_module() -> None:
    levels = np.array([[255, 255, 0, 204]], np.uint8)
    [found] = audit([levels], [rle.encode(np.array([[1, 1, 0, 0]], np.uint8))])
    assert (found.kind, found.box, found.pixels) == (Kind.MISSED, (3, 0, 1, 1), 1)
    assert found.score == pytest.approx(2 * 2.8 / (3 + 2.8) - 2 * 2.0 / (2 + 2.8))


def test_a_drawn_defect_that_no_run_sees_is_invented() -> None:
    [found] = audit([painted(A, B)], [drawn(A, B, (17, 0, 2, 4))])
    assert (found.kind, found.class_id, found.box, found.pixels) == (Kind.INVENTED, 1, (17, 0, 2, 4), 8)
    assert same(found.mask, drawn((17, 0, 2, 4)))
    assert found.score == pytest.approx(1 - 2 * 40 / (48 + 40))


def test_each_component_of_an_invented_mask_is_as_suspicious_as_the_mask() -> None:
    """Dropping one alone changes no Dice."""
    found = audit([painted()], [drawn(A, B)])
    assert [(each.kind, each.box, each.score) for each in found] == [(Kind.INVENTED, A, 1.0), (Kind.INVENTED, B, 1.0)]


def test_a_defect_of_another_class_is_one_finding() -> None:
    [found] = audit([painted(), painted(A)], [drawn(A), drawn()])
    assert (found.kind, found.class_id, found.predicted_class_id) == (Kind.WRONG_CLASS, 1, 2)
    assert (found.box, found.pixels, found.score) == (A, 20, 1.0)
    assert same(found.mask, drawn(A))


def test_a_class_that_is_drawn_there_already_is_not_missing() -> None:
    [found] = audit([painted(), painted(A)], [drawn(A), drawn(A)], exclusive=False)
    assert (found.kind, found.class_id, found.predicted_class_id) == (Kind.INVENTED, 1, None)


@pytest.mark.parametrize(("share", "kind"), [(4, Kind.WRONG_CLASS), (1, Kind.INVENTED)])
def test_half_of_a_component_decides_its_class(share: int, kind: Kind) -> None:
    seen = painted((A[0], A[1], A[2], share))
    found = audit([painted(), seen], [drawn(A), drawn()])
    assert [each.kind for each in found if each.class_id == 1] == [kind]


def test_another_outline_is_a_boundary() -> None:
    wide = (A[0], A[1], 8, A[3])
    [found] = audit([painted(A)], [drawn(wide)])
    assert (found.kind, found.box, found.pixels) == (Kind.BOUNDARY, wide, 40)
    assert same(found.mask, drawn(A))
    assert found.score == pytest.approx(1 - 2 * 20 / (40 + 20))


def test_a_small_difference_of_outlines_is_left_out() -> None:
    assert audit([painted((2, 1, 10, 10))], [drawn((2, 1, 10, 9))])  # 1 - 180 / 190 = 0.053
    assert audit([painted((2, 1, 10, 10), B)], [drawn((2, 1, 10, 9), B)]) == []


@pytest.mark.parametrize(("confirmed", "kinds"), [(2, {Kind.BOUNDARY}), (1, {Kind.INVENTED, Kind.MISSED})])
def test_a_tenth_of_a_component_confirms_it(confirmed: int, kinds: set[Kind]) -> None:
    """Of 20 drawn pixels."""
    levels = painted((4, 6, 8, 4))
    levels[5, 5 : 5 + confirmed] = levels[5, 4] = 0
    levels[5, 6 - confirmed : 6] = 255
    found = audit([levels], [drawn(A)])
    assert {each.kind for each in found} == kinds


def test_components_that_touch_at_a_corner_are_one() -> None:
    corner = (6, 6, 3, 3)  # A ends at x 5, y 5
    [found] = audit([painted(A, corner)], [drawn(A)])
    assert (found.kind, found.box, rle.area(found.mask)) == (Kind.BOUNDARY, A, 29)


def test_the_mask_of_a_part_at_the_edges_is_exact() -> None:
    last = (SIZE[1] - 1, SIZE[0] - 1, 1, 1)
    found = audit([painted((0, 0, 1, 2), last)], [drawn()])
    assert [rle.to_text(each.mask) for each in found] == ["1 2", f"{SIZE[0] * SIZE[1]} 1"]


def test_predicted_masks_keep_out_of_confirmed_masks_of_other_classes() -> None:
    """Where no drawn masks overlap, accepting a finding must not make one."""
    first, second = painted((2, 1, 4, 5)), painted((4, 1, 8, 5), level=200)
    inside = [drawn((2, 1, 4, 5)), drawn()]
    [found] = audit([first, second], inside)
    assert (found.kind, found.box) == (Kind.MISSED, (6, 1, 6, 5))
    [found] = audit([first, second], inside, exclusive=False)
    assert found.box == (4, 1, 8, 5)
    # the higher level decides, but a confirmed drawn mask does before it
    first[:, 5] //= 2
    found = [each for each in audit([first, painted((4, 1, 8, 5))], inside) if each.class_id == 2]
    assert [(each.kind, each.box) for each in found] == [(Kind.MISSED, (6, 1, 6, 5))]


def test_a_mask_of_another_class_that_nobody_confirms_does_not_keep_out() -> None:
    wide = (2, 1, 12, 6)
    found = audit([painted(), painted(A)], [drawn(wide), drawn()])
    assert {(each.kind, each.box) for each in found} == {(Kind.INVENTED, wide), (Kind.MISSED, A)}


def test_the_number_of_classes_must_agree() -> None:
    with pytest.raises(ValueError, match="levels of 2 classes, and 1 masks"):
        find("a.png", np.zeros((2, 4, 4), np.uint8), [rle.EMPTY], exclusive=True)
