"""Names on Kaggle. Datasets, notebooks and models of an account share one name space, so their names differ."""

import hashlib
import re
from collections.abc import Sequence

LIMIT = 50
"""Characters of the longest title; the shortest has 6. Kaggle derives a notebook's address from its title."""
NOTEBOOK = "-notebook"


def slug_of(names: Sequence[str], end: str = "") -> str:
    """The slug for these names: `severstal-unet-resnet34-fold0`. A hash replaces the characters beyond the limit.

    `end`: the last characters of the slug.
    """
    whole = "-".join(["severstal", *names])
    slug = re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-")
    if len(slug) + len(end) <= LIMIT and whole.isascii():
        return slug + end
    digest = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{slug[: LIMIT - 7 - len(end)].strip('-')}-{digest}{end}"


def notebook_of(slug: str) -> str:
    """The slug of the notebook for the dataset `slug`."""
    if len(slug) + len(NOTEBOOK) <= LIMIT:
        return slug + NOTEBOOK
    return slug_of([slug.removeprefix("severstal-")], NOTEBOOK)


def numbered(first: str, taken: str, count: int) -> str | None:
    """The name after `taken` in the `count` names `first`, `first-2`, ...; None after the last one."""
    names = [first, *(f"{first[: LIMIT - 2]}-{number}" for number in range(2, count + 1))]
    following = names.index(taken) + 1 if taken in names else 1
    return names[following] if following < count else None
