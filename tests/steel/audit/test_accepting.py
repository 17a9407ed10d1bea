"""Accepted findings change whole components, in any order; contradictions and foreign rows are refused."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from severstal_cli.errors import InputError
from severstal_cli.steel.audit import accepting
from severstal_cli.steel.audit.finding_table import Decision
from severstal_cli.steel.audit.findings import Finding, Kind, find
from severstal_cli.steel.masks import rle

SIZE = (12, 20)
Box = tuple[int, int, int, int]
A: Box = (2, 1, 4, 5)
B: Box = (10, 6, 5, 4)
C: Box = (16, 0, 3, 3)
Masks = dict[tuple[str, int], rle.RLE]


def painted(*boxes: Box) -> NDArray[np.uint8]:
    mask = np.zeros(SIZE, np.uint8)
    for x, y, width, height in boxes:
        mask[y : y + height, x : x + width] = 255
    return mask


def drawn(*boxes: Box) -> rle.RLE:
    return rle.encode(painted(*boxes))


def finding(kind: Kind, box: Box, mask: rle.RLE, *, class_id: int = 1, **values: object) -> Finding:
    pixels = box[2] * box[3]
    return Finding(
        image_id="a.png", class_id=class_id, kind=kind, score=0.5, box=box, pixels=pixels, mask=mask, **values
    )  # type: ignore[arg-type]


def accept(masks: Masks, findings: Sequence[Finding], *, choice: str = "accept", exclusive: bool = False) -> Masks:
    decisions = [Decision(line=line, choice=choice, finding=each) for line, each in enumerate(findings, start=2)]
    sizes = {"a.png": SIZE, "b.png": SIZE, "small.png": (4, 4)}
    return accepting.accept(Path("d.csv"), decisions, masks, sizes, (1, 2), exclusive=exclusive)


def texts(masks: Masks) -> dict[tuple[str, int], str]:
    return {key: rle.to_text(runs) for key, runs in masks.items()}


OWN = {("a.png", 0): drawn(A, B)}
MISSED = finding(Kind.MISSED, C, drawn(C))
INVENTED = finding(Kind.INVENTED, B, drawn(B))
WRONG = finding(Kind.WRONG_CLASS, B, drawn(B), predicted_class_id=2)
BOUNDARY = finding(Kind.BOUNDARY, A, drawn((3, 2, 5, 5)))
DISAGREEMENT = finding(Kind.DISAGREEMENT, (2, 1, 13, 9), drawn(C), other_image_id="b.png")


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (MISSED, {("a.png", 0): drawn(A, B, C)}),
        (INVENTED, {("a.png", 0): drawn(A)}),
        (WRONG, {("a.png", 0): drawn(A), ("a.png", 1): drawn(B)}),
        (BOUNDARY, {("a.png", 0): drawn((3, 2, 5, 5), B)}),
    ],
    ids=lambda value: value.kind if isinstance(value, Finding) else "",
)
def test_each_kind_changes_its_component(one: Finding, expected: Masks) -> None:
    assert texts(accept(OWN, [one])) == texts(expected)


def test_a_moved_component_joins_the_mask_of_its_class() -> None:
    masks = OWN | {("a.png", 1): drawn(C)}
    assert texts(accept(masks, [WRONG])) == texts({("a.png", 0): drawn(A), ("a.png", 1): drawn(B, C)})


def test_a_disagreement_takes_the_mask_of_the_other_image() -> None:
    masks = OWN | {("b.png", 0): drawn(C)}
    one = finding(Kind.DISAGREEMENT, (2, 1, 13, 9), drawn(C), other_image_id="b.png")
    one = Finding(**{**vars(one), "pixels": 40})
    assert texts(accept(masks, [one])) == texts({("a.png", 0): drawn(C), ("b.png", 0): drawn(C)})
    emptied = Finding(**{**vars(one), "mask": rle.EMPTY})
    assert texts(accept(OWN, [emptied])) == {}


def test_a_disagreement_that_drew_an_empty_mask_is_not_accepted_again() -> None:
    masks = {("b.png", 0): drawn(C)}
    one = finding(Kind.DISAGREEMENT, C, drawn(C), other_image_id="b.png")
    new = accept(masks, [one])
    assert texts(new) == texts({("a.png", 0): drawn(C), ("b.png", 0): drawn(C)})
    with pytest.raises(InputError, match="is not in these annotations"):
        accept(new, [one])


def test_a_mask_that_loses_all_of_its_components_is_gone() -> None:
    assert accept({("a.png", 0): drawn(B)}, [INVENTED]) == {}


@pytest.mark.parametrize("choice", ["reject", "skip"])
def test_other_decisions_change_nothing(choice: str) -> None:
    assert texts(accept(OWN, [MISSED, INVENTED, BOUNDARY], choice=choice)) == texts(OWN)


def test_the_order_of_rows_does_not_matter() -> None:
    results = {str(texts(accept(OWN, order))) for order in permutations([MISSED, WRONG, BOUNDARY])}
    assert results == {str(texts({("a.png", 0): drawn((3, 2, 5, 5), C), ("a.png", 1): drawn(B)}))}


def test_a_boundary_replaces_every_component_that_it_touches() -> None:
    """The predicted mask joins both drawn components; their box and area are in the row."""
    bridge = drawn((2, 1, 13, 9))
    one = Finding(**{**vars(finding(Kind.BOUNDARY, (2, 1, 13, 9), bridge)), "pixels": 40})
    assert texts(accept(OWN, [one])) == texts({("a.png", 0): bridge})


@pytest.mark.parametrize(
    ("masks", "one"),
    [
        ({("a.png", 0): drawn(A, B, C)}, MISSED),
        ({("a.png", 0): drawn(A)}, INVENTED),
        ({("a.png", 0): drawn(A, (10, 6, 6, 4))}, INVENTED),
        ({("a.png", 0): drawn(A)}, WRONG),
        ({("a.png", 0): drawn((2, 1, 4, 4), B)}, BOUNDARY),
        ({("a.png", 0): drawn(B)}, BOUNDARY),
        (OWN, Finding(**{**vars(DISAGREEMENT), "pixels": 40})),
        (OWN, Finding(**{**vars(BOUNDARY), "pixels": 19})),
        (OWN, Finding(**{**vars(DISAGREEMENT), "other_image_id": "small.png", "mask": rle.EMPTY})),
        (OWN, Finding(**{**vars(MISSED), "box": A})),
    ],
    ids=str,
)
def test_a_row_of_other_annotations_is_refused(masks: Masks, one: Finding) -> None:
    with pytest.raises(InputError, match=rf"d.csv, line 2: {one.kind} in a.png, class 1, is not in these annotations"):
        accept(masks, [one])


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Finding(**{**vars(MISSED), "image_id": "c.png"}), "there is no image c.png"),
        (Finding(**{**vars(DISAGREEMENT), "other_image_id": "c.png"}), "there is no image c.png"),
        (Finding(**{**vars(MISSED), "class_id": 3}), "no row of the annotations names class 3"),
        (Finding(**{**vars(WRONG), "predicted_class_id": 3}), "no row of the annotations names class 3"),
        (Finding(**{**vars(MISSED), "image_id": "small.png"}), "EncodedPixels: run 1 .* past the end, pixel 16"),
    ],
    ids=str,
)
@pytest.mark.parametrize("choice", ["accept", "skip"])
def test_a_row_of_other_data_is_refused_even_if_skipped(one: Finding, said: str, choice: str) -> None:
    with pytest.raises(InputError, match=f"d.csv, line 2: {said}. Give the decisions on an audit of this data"):
        accept(OWN, [one], choice=choice)


@pytest.mark.parametrize(
    "pair",
    [
        (INVENTED, INVENTED),
        (INVENTED, WRONG),
        (finding(Kind.MISSED, C, drawn(C)), finding(Kind.MISSED, (15, 0, 3, 3), drawn((15, 0, 3, 3)))),
        (BOUNDARY, finding(Kind.MISSED, (7, 6, 1, 1), drawn((7, 6, 1, 1)))),
    ],
    ids=str,
)
def test_rows_about_the_same_pixels_contradict_each_other(pair: tuple[Finding, Finding]) -> None:
    for order in (pair, pair[::-1]):
        with pytest.raises(InputError, match=r"d.csv, lines 2 and 3: both change the same pixels of a.png, class"):
            accept(OWN, order)


def test_a_moved_component_may_overlap_an_added_one() -> None:
    wide = (9, 6, 5, 4)
    for order in permutations([finding(Kind.MISSED, wide, drawn(wide), class_id=2), WRONG]):
        assert texts(accept(OWN, order)) == texts({("a.png", 0): drawn(A), ("a.png", 1): drawn((9, 6, 6, 4))})


def test_masks_that_did_not_overlap_must_not_afterwards() -> None:
    over = finding(Kind.MISSED, (14, 8, 3, 3), drawn((14, 8, 3, 3)), class_id=2)
    with pytest.raises(InputError, match=r"d.csv, line 2: class 2 of a.png would overlap class 1"):
        accept(OWN, [over], exclusive=True)
    assert len(accept(OWN, [over], exclusive=False)) == 2
    assert len(accept(OWN, [over, INVENTED], exclusive=True)) == 2


@pytest.mark.parametrize("seed", range(20))
def test_accepting_every_finding_gives_the_predicted_mask(seed: int) -> None:
    """For random blobs of one class; findings below the least score are not listed, so nearly."""
    rng = np.random.default_rng(seed)

    def blobs() -> NDArray[np.uint8]:
        return painted(*((int(x), int(y), 3, 3) for x, y in rng.integers(0, (17, 9), (3, 2))))

    predicted, own = blobs(), blobs()
    masks = {("a.png", 0): rle.encode(own)}
    changed = accept(masks, find("a.png", predicted[None], [masks["a.png", 0]], exclusive=True)[0])
    a, b = rle.decode(changed["a.png", 0], SIZE), predicted > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("seed", range(150))
def test_every_finding_of_an_audit_can_be_accepted_alone_and_with_all_others(seed: int, exclusive: bool) -> None:
    """Random blobs of three classes, with confident and doubtful levels."""
    rng = np.random.default_rng(seed)

    def blobs() -> NDArray[np.uint8]:
        return painted(*((int(x), int(y), 4, 3) for x, y in rng.integers(0, (16, 9), (3, 2))))

    levels = np.stack([blobs() // int(rng.integers(1, 3)) for _ in range(3)])
    own = [blobs() > 0 for _ in range(3)]
    if exclusive:
        own = [own[0], own[1] & ~own[0], own[2] & ~own[1] & ~own[0]]
    masks = {("a.png", channel): rle.encode(mask) for channel, mask in enumerate(own) if mask.any()}
    drawn_masks = [masks.get(("a.png", channel), rle.EMPTY) for channel in range(3)]
    found, _ = find("a.png", levels, drawn_masks, exclusive=exclusive)
    sizes = {"a.png": SIZE}
    for some in ([], *([one] for one in found), found):
        decisions = [Decision(line=2, choice="accept", finding=one) for one in some]
        changed = accepting.accept(Path("d.csv"), decisions, masks, sizes, (1, 2, 3), exclusive=False)
        assert (texts(changed) != texts(masks)) == bool(some)


def test_an_invented_and_a_missed_component_may_share_pixels() -> None:
    """Less than a tenth of the drawn one is predicted: it goes, and what is predicted stays."""
    predicted = painted((6, 5, 5, 5))
    masks = {("a.png", 0): drawn((2, 1, 5, 5))}
    found, _ = find("a.png", predicted[None], [masks["a.png", 0]], exclusive=True)
    assert {one.kind for one in found} == {Kind.INVENTED, Kind.MISSED}
    assert texts(accept(masks, found)) == texts({("a.png", 0): rle.encode(predicted)})


def test_a_disagreement_contradicts_every_other_row_of_its_class() -> None:
    masks = OWN | {("b.png", 0): drawn((0, 8, 2, 2))}
    other = drawn((0, 8, 2, 2))
    one = Finding(**{**vars(DISAGREEMENT), "mask": other, "pixels": 40})
    assert accept(masks, [one])
    for order in ((one, MISSED), (MISSED, one)):
        with pytest.raises(InputError, match="both change the same pixels"):
            accept(masks, order)
