"""What the settings have in common: one line for a value that cannot be."""

from severstal_cli.errors import UsageError


def check(fits: bool, name: str, found: object, wanted: str) -> None:
    """Raises UsageError unless `fits`."""
    if not fits:
        raise UsageError(f"wrong {name}", str(found), f"It must be {wanted}")


def check_size(size: tuple[int, int], least_px: int = 1) -> None:
    """Raises UsageError unless run lengths can count the pixels of `size`: (height, width)."""
    fits = min(size) >= least_px and size[0] * size[1] < 2**31  # run lengths count no further
    check(fits, "size", "{}x{}".format(*size), f"at least {least_px}x{least_px}, and fewer than 2,147,483,648 pixels")
