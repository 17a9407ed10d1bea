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
    assert found.score == pytest.approx(0.8)  # peak and mean


def test_a_missed_component_with_one_high_pixel_is_less_suspicious_than_a_high_one() -> None:
    levels = painted(A, level=130)
    levels[1, 2] = 255
    [found] = audit([levels], [drawn()])
    assert found.score == pytest.approx((255 * (130 * 19 + 255) / 20) ** 0.5 / 255)


def test_the_example_of_the_module() -> None:
    levels = np.array([[255, 255, 0, 204]], np.uint8)
    [found] = audit([levels], [rle.encode(np.array([[1, 1, 0, 0]], np.uint8))])
    assert (found.kind, found.box, found.pixels) == (Kind.MISSED, (3, 0, 1, 1), 1)
    assert found.score == pytest.approx(0.8 / 3)


def test_a_drawn_defect_that_no_run_sees_is_invented() -> None:
    [found] = audit([painted(A, B)], [drawn(A, B, (17, 0, 2, 4))])
    assert (found.kind, found.class_id, found.box, found.pixels) == (Kind.INVENTED, 1, (17, 0, 2, 4), 8)
    assert same(found.mask, drawn((17, 0, 2, 4)))
    assert found.score == pytest.approx(8 / 48)  # its share of the mask


def test_pixels_that_the_runs_are_not_confident_of_do_not_count() -> None:
    levels = painted()
    levels[1:3, 2:6] = 8  # 8 of 20 pixels; 7 would be confident
    [found] = audit([levels], [drawn(A)])
    assert (found.kind, found.score) == (Kind.INVENTED, pytest.approx(12 / 20))
    levels[1:3, 2:6] = 7
    assert audit([levels], [drawn(A)])[0].score == 1


def test_the_largest_component_of_an_invented_mask_counts_in_full() -> None:
    found = audit([painted()], [drawn(B, (2, 1, 6, 5))])
    assert [(each.kind, each.box, each.score) for each in found] == [
        (Kind.INVENTED, (2, 1, 6, 5), 1.0),
        (Kind.INVENTED, B, pytest.approx(20 / 50)),
    ]


def test_a_missed_speck_beside_a_missed_component_counts_little() -> None:
    found = audit([painted(A, (10, 6, 2, 2))], [drawn()])
    assert [(each.kind, each.box, each.score) for each in found] == [
        (Kind.MISSED, A, 1.0),
        (Kind.MISSED, (10, 6, 2, 2), pytest.approx(4 / 24)),
    ]
    [_, speck] = audit([painted(), painted(A, (10, 6, 2, 2))], [drawn(A), drawn()])
    assert (speck.kind, speck.score) == (Kind.MISSED, pytest.approx(4 / 24)), "the moved component is beside it"


def test_a_defect_of_another_class_is_one_finding() -> None:
    [found] = audit([painted(), painted(A)], [drawn(A), drawn()])
    assert (found.kind, found.class_id, found.predicted_class_id) == (Kind.WRONG_CLASS, 1, 2)
    assert (found.box, found.pixels, found.score) == (A, 20, 1.0)
    assert same(found.mask, drawn(A))


def test_a_class_that_is_drawn_there_already_is_not_missing() -> None:
    [found] = audit([painted(), painted(A)], [drawn(A), drawn(A)], exclusive=False)
    assert (found.kind, found.class_id, found.predicted_class_id) == (Kind.INVENTED, 1, None)


@pytest.mark.parametrize(("columns", "kind"), [(1, Kind.WRONG_CLASS), (0, Kind.INVENTED)])
def test_a_quarter_of_a_component_decides_its_class(columns: int, kind: Kind) -> None:
    """4 columns of 5 pixels; one pixel less is not enough."""
    seen = painted((A[0], A[1], columns, A[3]), (A[0] + columns, A[1], 1, 4 * (1 - columns)))
    found = audit([painted(), seen], [drawn(A), drawn()])
    assert [each.kind for each in found if each.class_id == 1] == [kind]


def test_the_probability_of_the_other_class_makes_a_wrong_class_more_suspicious() -> None:
    half = painted(A, level=20)
    half[1, 2:6] = 0  # 4 of 20 pixels are confident
    [found] = audit([half, painted(A, level=204)], [drawn(A), drawn()])
    assert (found.kind, found.score) == (Kind.WRONG_CLASS, pytest.approx(1 - 0.8 * 0.2))


def test_another_outline_is_a_boundary() -> None:
    wide = (A[0], A[1], 8, A[3])
    [found] = audit([painted(A)], [drawn(wide)])
    assert (found.kind, found.box, found.pixels) == (Kind.BOUNDARY, wide, 40)
    assert same(found.mask, drawn(A))
    assert found.score == pytest.approx(20 / 40)


def test_an_outline_that_is_too_small_is_a_boundary() -> None:
    [found] = audit([painted((A[0], A[1], 8, A[3]))], [drawn(A)])
    assert (found.kind, found.box, rle.area(found.mask), found.score) == (Kind.BOUNDARY, A, 40, 0.5)
    assert audit([painted((A[0], A[1], 8, A[3]), level=230)], [drawn(A)])[0].score == 0.5
    assert audit([painted((A[0], A[1], 8, A[3]), level=229)], [drawn(A)]) == [], "no pixel is confident"


def test_a_small_difference_of_outlines_is_left_out() -> None:
    assert audit([painted((2, 1, 10, 10))], [drawn((2, 1, 10, 9))])  # 10 of 100 pixels
    assert audit([painted((2, 1, 10, 10))], [drawn((2, 1, 10, 10), (12, 1, 1, 4))]) == []  # 4 of 104


def test_the_worst_outline_has_the_score_of_the_whole_mask() -> None:
    """10 and 2 wrong pixels, in 30 and 12 of the mask; a third component of 4 pixels is exact."""
    one, other, exact = (0, 0, 6, 5), (10, 6, 3, 4), (16, 0, 2, 2)
    levels = painted((0, 0, 4, 5), (10, 6, 3, 3), exact)
    levels[8, 12] = 255
    levels[9, 12] = 255
    found = audit([levels], [drawn(one, other, exact)])
    assert [(each.box, each.score) for each in found] == [(one, pytest.approx(12 / 46))]
    assert audit([painted((0, 0, 4, 5), (10, 6, 2, 4), exact)], [drawn(one, other, exact)])[1].score == pytest.approx(
        4 / 12 * 12 / 46
    )


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
    assert found.score == pytest.approx(9 / 29)


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


def test_predicted_masks_of_two_classes_do_not_overlap_where_drawn_ones_do_not() -> None:
    levels, none = [painted((2, 1, 4, 5)), painted((4, 1, 8, 5), level=200)], [drawn(), drawn()]
    assert [each.box for each in audit(levels, none)] == [(2, 1, 4, 5), (6, 1, 6, 5)]
    assert [each.box for each in audit(levels, none, exclusive=False)] == [(2, 1, 4, 5), (4, 1, 8, 5)]


def test_a_mask_of_another_class_that_nobody_confirms_does_not_keep_out() -> None:
    wide = (2, 1, 14, 6)
    found = audit([painted(), painted(A)], [drawn(wide), drawn()])
    assert {(each.kind, each.box) for each in found} == {(Kind.INVENTED, wide), (Kind.MISSED, A)}


def test_the_number_of_classes_must_agree() -> None:
    with pytest.raises(ValueError, match="levels of 2 classes, and 1 masks"):
        find("a.png", np.zeros((2, 4, 4), np.uint8), [rle.EMPTY], exclusive=True)
