"""Names on Kaggle. Datasets, notebooks and models of an account share one name space, so each has a name of its own."""

import hashlib
import re
from collections.abc import Sequence

LIMIT = 50
"""Letters of a title, which has at least 6. The address of a notebook is made of its title: they must agree."""
NOTEBOOK = "-notebook"


def slug_of(names: Sequence[str], end: str = "") -> str:
    """The slug of things with these names: `severstal-unet-resnet34-fold0`. What has to be cut is told by a hash.

    `end`: what it ends with, in letters of a slug.
    """
    whole = "-".join(["severstal", *names])
    slug = re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-")
    if len(slug) + len(end) <= LIMIT and whole.isascii():
        return slug + end
    digest = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{slug[: LIMIT - 7 - len(end)].strip('-')}-{digest}{end}"


def notebook_of(slug: str) -> str:
    """The slug of the notebook that goes with the dataset `slug`."""
    if len(slug) + len(NOTEBOOK) <= LIMIT:
        return slug + NOTEBOOK
    return slug_of([slug.removeprefix("severstal-")], NOTEBOOK)


def numbered(first: str, taken: str, count: int) -> str | None:
    """The name after `taken` in `first`, `first-2`, ..., of which there are `count`; None: there is none."""
    names = [first, *(f"{first[: LIMIT - 2]}-{number}" for number in range(2, count + 1))]
    following = names.index(taken) + 1 if taken in names else 1
    return names[following] if following < count else None
