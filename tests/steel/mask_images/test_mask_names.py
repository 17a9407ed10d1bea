"""Names of masks: whose they are, and which of them count images instead of classes."""

import pytest

from severstal_cli.steel.mask_images.mask_names import count_images, mask_name, need_full_names


def grid(images: list[str], classes: range) -> list[tuple[str, int]]:
    return [(image, class_id) for image in images for class_id in classes]


MANY = [f"x{number}" for number in range(60)]


@pytest.mark.parametrize(
    "pairs",
    [
        [("In", 8), ("Pa", 3), ("Sc", 7)],
        grid(["In", "Pa", "Sc"], range(1, 101)),
        grid(["steel"], range(1, 21)),
        grid(["steel"], range(1, 6)),
        [("plate", 12), ("plate", 13)],
        [("a", 12)],
        [(image, 100 + number) for number, image in enumerate(MANY)],
        [(image, number + 1) for number, image in enumerate(MANY)],
        [(day, number) for day, last in zip(MANY, range(3, 63), strict=True) for number in range(1, last % 7 + 2)],
    ],
)
def test_numbers_of_images(pairs: list[tuple[str, int]]) -> None:
    assert count_images(pairs)


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", 1)],
        [("a", 3)],
        [("a", 1), ("b", 4)],
        grid(["a"], range(1, 5)),
        [(image, 1 + number % 6) for number, image in enumerate(MANY)],
        [(image, (2, 7, 18)[number % 3]) for number, image in enumerate(MANY)],
        [(image, 7) for image in MANY],
        grid(MANY, range(1, 13)),
    ],
)
def test_classes(pairs: list[tuple[str, int]]) -> None:
    assert not count_images(pairs)


def test_masks_of_images_that_differ_in_the_ending_have_full_names() -> None:
    in_full = need_full_names(["a.jpg", "a.png", "b.jpg", "c.jpg.png"])
    assert in_full == {"a.jpg", "a.png", "c.jpg.png"}
    assert [mask_name(name, 1, name in in_full) for name in ("a.jpg", "b.jpg")] == ["a.jpg_1.png", "b_1.png"]
