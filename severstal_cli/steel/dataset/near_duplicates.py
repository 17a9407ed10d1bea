"""Images that show the same steel: equal pixels, or one piece imaged, lit, blurred, cut out or saved twice.

A random split puts some of them on both sides; validation then scores steel that was trained on.

1. Equal pixels are found by a hash of them.
2. The *texture* of an image: shrunk to cells, freed of the means along and across the strip over a short way (streaks,
   light) and of local contrast. So brightness, contrast, glare, some blur, noise and JPEG artefacts matter little, and
   sheets of one roll differ as their grain does.
3. A perceptual hash of the *spots*, the strongest cells of a texture: 64 bits, the signs of the lowest waves (a cosine
   transform) of the 16 x 16 cells around. It goes with the steel when the picture is shifted. Two images are candidates
   when two spots nearly agree at the same shift, or one agrees well; all pairs of spots are looked at.
4. A candidate is confirmed by the correlation of both textures over their whole overlap at that shift. Small overlaps
   must agree better than large ones.

Found are shifts in any direction that leave 30 % of the area in common; the smaller that share, the more of them are
missed. Not found are mirrored, turned or zoomed copies, nor pictures without texture (black ones) unless equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.parallel import map_in_order
from severstal_cli.progress import Bar
from severstal_cli.steel.dataset.near_duplicate_kernels import STEPS, agreeing, near_pairs, surplus
from severstal_cli.steel.images.decoding import Grey, cv2, pixel_digest

CELLS, SHORT_SIDE_CELLS = 4096, 32
"""A texture has about that many square cells, and at least so many on its shorter side; never more than pixels."""
STREAK_CELLS = 17
"""Over that length a straight streak has one level, and light does not change."""
GRAIN_LEVELS = 0.5
"""Contrast of cells, in grey levels, below which a texture fades out: that of noise and JPEG artefacts."""
RADIUS, SPOTS = 8, 12
"""A spot lies at least RADIUS cells from the border; an image has up to SPOTS of them."""
NEAR_BITS, EQUAL_BITS = 14, 8
"""Most bits in which the hashes of spots differ, where a second pair of spots agrees and where it stands alone."""
SURE_MARGIN = 0.4  # an edge this far beyond the correlation asked for is never dropped
LARGE_GROUP_IMAGES, LARGE_GROUP_SHARE = 30, 0.05
"""A group above both is hardly steel that was imaged so often: then a higher correlation is asked for."""

_WAVES = np.cos(np.pi / (2 * RADIUS) * np.outer(np.arange(1, 9), np.arange(2 * RADIUS) + 0.5)).astype(np.float32)


def find_near_duplicates(images: Iterable[Grey], bar: Bar | None = None) -> NDArray[np.int32]:
    """Group images that show the same steel; see the module for what is found.

    Args:
        images: any number of `(H, W) uint8`, of any sizes; each is looked at once, in order.
        bar: is advanced by one for each.

    Returns:
        (N,) number of the group of each image, from 0 in order of first appearance; most groups have one image.
    """
    first_of: dict[bytes, int] = {}  # pixels -> which of the different pictures
    picture_of: list[int] = []
    sketches: list[_Sketch] = []
    for image in images:
        picture = first_of.setdefault(pixel_digest(image), len(first_of))
        if picture == len(sketches):
            sketches.append(_sketch(image))
        picture_of.append(picture)
        if bar:
            bar.advance()
    return _groups(_confirmed(sketches), len(sketches))[np.array(picture_of, np.int64)]


@dataclass(frozen=True, kw_only=True)
class _Sketch:
    """What is kept of an image."""

    texture: NDArray[np.int8]  # (rows, columns), in steps
    places: NDArray[np.int32]  # (K, 2) row and column of each spot
    prints: NDArray[np.uint64]  # (K,)
    bright: NDArray[np.bool_]  # (K,) whether the spot is brighter than what is around it


def _sketch(image: Grey) -> _Sketch:
    """Steps 2 and 3 of the module, for one image."""
    height, width = image.shape
    scale = min(1.0, max((CELLS / (height * width)) ** 0.5, SHORT_SIDE_CELLS / min(height, width)))
    rows, columns = round(height * scale), round(width * scale)
    cells = _blurred(cv2.resize(image.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA), 1.0)
    cells -= (
        cv2.blur(cells, (STREAK_CELLS, 1)) + cv2.blur(cells, (1, STREAK_CELLS)) - cv2.blur(cells, (STREAK_CELLS,) * 2)
    )
    cells /= np.sqrt(_blurred(cells * cells, 6.0) + GRAIN_LEVELS**2)
    texture = np.clip(np.rint(cells * STEPS), -127, 127).astype(np.int8)

    strength = np.abs(cells)
    peaks = (strength == cv2.dilate(strength, np.ones((5, 5), np.uint8))) & (strength >= 1)
    inner = np.zeros_like(peaks)
    inner[RADIUS:-RADIUS, RADIUS:-RADIUS] = True
    places = np.argwhere(peaks & inner)
    places = places[np.argsort(-strength[tuple(places.T)], kind="stable")[:SPOTS]]
    steps = np.arange(-RADIUS, RADIUS)
    around = cells[places[:, 0, None, None] + steps[:, None], places[:, 1, None, None] + steps]
    waves = _WAVES @ around @ _WAVES.T
    bits = np.packbits(waves.reshape(-1, 64) > 0, axis=1)
    return _Sketch(
        texture=texture,
        places=places.astype(np.int32),
        prints=bits.view(np.uint64)[:, 0],
        bright=texture[tuple(places.T)] > 0,
    )


def _blurred(cells: cv2.typing.MatLike, deviation: float) -> NDArray[np.float32]:
    return cv2.GaussianBlur(cells, (0, 0), deviation)  # type: ignore[return-value]  # float32 as it came


def _groups(edges: list[tuple[int, int, float]], count: int) -> NDArray[np.int32]:
    """Join pictures along edges; where that makes a group too large to be true, only along the surer ones."""
    largest = max(LARGE_GROUP_IMAGES, int(LARGE_GROUP_SHARE * count))
    margin = 0.0
    while True:
        groups = _joined([(a, b) for a, b, found in edges if found >= margin], count)
        if np.bincount(groups, minlength=1).max() <= largest or margin > SURE_MARGIN - 0.1:
            return groups
        margin += 0.02


def _joined(pairs: list[tuple[int, int]], count: int) -> NDArray[np.int32]:
    """Return the group of each of `count` things joined in pairs, numbered in order of first appearance."""
    parent = list(range(count))
    for a, b in pairs:
        low, high = sorted((_root(parent, a), _root(parent, b)))
        parent[high] = low
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(_root(parent, member), len(numbers)) for member in range(count)], np.int32)


def _root(parent: list[int], member: int) -> int:
    """The one that stands for the group of `member`; the way there is shortened."""
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


def _confirmed(sketches: list[_Sketch]) -> list[tuple[int, int, float]]:
    """Return pairs of pictures that show the same steel, each with its correlation beyond the one asked for."""
    owner = np.repeat(np.arange(len(sketches), dtype=np.int32), [len(sketch.prints) for sketch in sketches])
    if not len(owner):
        return []
    prints = np.concatenate([sketch.prints for sketch in sketches])
    places = np.concatenate([sketch.places for sketch in sketches])
    bright = np.concatenate([sketch.bright for sketch in sketches])

    def near(chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        pairs = near_pairs(prints[chosen], owner[chosen], NEAR_BITS)
        return np.column_stack([chosen[pairs[:, 0]], chosen[pairs[:, 1]], pairs[:, 2]])

    kinds = map(np.flatnonzero, (bright, ~bright))  # a bright spot matches no dark one
    first, second, distance = np.concatenate(list(map_in_order(near, kinds, threads=2, ahead=2, name="pairs"))).T
    shift = places[second] - places[first]
    candidates = np.column_stack([owner[first], owner[second], shift, distance]).astype(np.int32)
    candidates = candidates[np.lexsort(candidates.T[::-1])]
    edges: dict[tuple[int, int], float] = {}
    surely = list(range(len(sketches)))  # of hundreds of like frames each needs one sure edge, not one to every other
    for a, b, down, right in agreeing(candidates, EQUAL_BITS).tolist():
        one, other = sketches[a].texture, sketches[b].texture
        if one.shape == other.shape and _root(surely, a) != _root(surely, b):
            found = surplus(one, other, down, right)
            if found >= 0:
                edges[a, b] = max(found, edges.get((a, b), 0.0))
            if found > SURE_MARGIN:
                surely[_root(surely, b)] = _root(surely, a)
    return [(a, b, found) for (a, b), found in edges.items()]
