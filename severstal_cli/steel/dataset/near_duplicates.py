"""Near-duplicates: images of the same steel, with equal pixels, or imaged, lit, blurred, cropped or saved differently.

A random split puts some of them on both sides, so that validation scores steel of the training set: leakage.

1. A hash of the pixels finds equal images.
2. The *texture* of an image is a small copy in cells. A high-pass filter along and across the strip removes streaks
   and lighting, and local contrast is normalised. So brightness, contrast, glare, some blur, noise and JPEG artefacts
   matter little, while sheets of one roll differ by their grain.
3. *Spots* are the strongest cells of a texture. Each has a perceptual hash of 64 bits: the signs of the lowest cosine
   transform coefficients of the 16 x 16 cells around it, which are invariant to shifts of the image. Two images are
   candidates if two pairs of spots nearly match at the same shift, or one pair matches well. All pairs are compared.
4. The correlation of both textures over their whole overlap at that shift confirms a candidate. Its threshold is higher
   for small overlaps.

The search covers shifts in any direction with an overlap of at least 30 %; recall falls with the overlap. It does not
cover mirrored, rotated or zoomed copies, nor images without texture (black ones) unless their pixels are equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from severstal_cli.parallel import map_in_order
from severstal_cli.progress import Bar
from severstal_cli.steel.dataset.near_duplicate_kernels import STEPS, agreeing, correlation, near_pairs, surplus
from severstal_cli.steel.images.decoding import Grey, cv2, pixel_digest

CELLS, SHORT_SIDE_CELLS = 4096, 32
"""Number of square cells of a texture, and minimum on its shorter side; at most the pixels of the image."""
STREAK_CELLS = 17
"""Length over which streaks and lighting are assumed constant."""
GRAIN_LEVELS = 0.5
"""Contrast of noise and JPEG artefacts in grey levels; textures below it fade out."""
RADIUS, SPOTS = 8, 12
"""Minimum distance of a spot from the border in cells; maximum number of spots per image."""
NEAR_BITS, EQUAL_BITS = 14, 8
"""Maximum hash distance of two spots in bits, if a second pair of spots agrees, and if none does."""
SAME_PLACE = 0.7
"""Minimum correlation of two textures without a shift: the threshold of step 4 for a full overlap."""
SAFE_MARGIN = 0.4  # an edge this far above the threshold of correlation is never dropped
LARGE_GROUP_IMAGES, LARGE_GROUP_SHARE = 30, 0.05
"""Limits of a plausible group: above both, the threshold of correlation rises."""

_WAVES = np.cos(np.pi / (2 * RADIUS) * np.outer(np.arange(1, 9), np.arange(2 * RADIUS) + 0.5)).astype(np.float32)


def find_near_duplicates(images: Iterable[Grey], bar: Bar | None = None) -> NDArray[np.int32]:
    """Group near-duplicates; see the module for their definition.

    Args:
        images: any number of `(H, W) uint8` of any sizes; each is read once, in order.
        bar: advances by one per image.

    Returns:
        (N,) group number of each image, from 0 in order of first appearance; most groups have one image.
    """
    number_of: dict[bytes, int] = {}  # hash of the pixels -> number among the distinct images
    numbers: list[int] = []
    features: list[_Features] = []
    for image in images:
        number = number_of.setdefault(pixel_digest(image), len(number_of))
        if number == len(features):
            features.append(_features_of(image))
        numbers.append(number)
        if bar:
            bar.advance()
    return _groups(_confirmed(features), len(features))[np.array(numbers, np.int64)]


def similarity_in_place(one: Grey, other: Grey) -> float:
    """The correlation of the textures of two images of one size, without a shift.

    From `SAME_PLACE` on they show the same steel at the same place. A shift of half a cell lowers it little.
    """
    return float(correlation(_features_of(one).texture, _features_of(other).texture, 0, 0))


@dataclass(frozen=True, kw_only=True)
class _Features:
    """Texture and spots of an image."""

    texture: NDArray[np.int8]  # (rows, columns), in steps
    positions: NDArray[np.int32]  # (K, 2) row and column of each spot
    hashes: NDArray[np.uint64]  # (K,)
    bright: NDArray[np.bool_]  # (K,) whether the spot is brighter than its surroundings


def _features_of(image: Grey) -> _Features:
    """Compute steps 2 and 3 of the module for one image."""
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
    positions = np.argwhere(peaks & inner)
    positions = positions[np.argsort(-strength[tuple(positions.T)], kind="stable")[:SPOTS]]
    steps = np.arange(-RADIUS, RADIUS)
    around = cells[positions[:, 0, None, None] + steps[:, None], positions[:, 1, None, None] + steps]
    waves = _WAVES @ around @ _WAVES.T
    bits = np.packbits(waves.reshape(-1, 64) > 0, axis=1)
    return _Features(
        texture=texture,
        positions=positions.astype(np.int32),
        hashes=bits.view(np.uint64)[:, 0],
        bright=texture[tuple(positions.T)] > 0,
    )


def _blurred(cells: cv2.typing.MatLike, deviation: float) -> NDArray[np.float32]:
    return cv2.GaussianBlur(cells, (0, 0), deviation)  # type: ignore[return-value]  # float32 like its input


def _groups(edges: list[tuple[int, int, float]], count: int) -> NDArray[np.int32]:
    """Join images along edges (image, image, margin); while a group is implausibly large, raise the minimum margin."""
    largest = max(LARGE_GROUP_IMAGES, int(LARGE_GROUP_SHARE * count))
    margin = 0.0
    while True:
        groups = _joined([(a, b) for a, b, surplus in edges if surplus >= margin], count)
        if np.bincount(groups, minlength=1).max() <= largest or margin > SAFE_MARGIN - 0.1:
            return groups
        margin += 0.02


def _joined(pairs: list[tuple[int, int]], count: int) -> NDArray[np.int32]:
    """Return the group of each of `count` members joined by pairs, numbered in order of first appearance."""
    parent = list(range(count))
    for a, b in pairs:
        low, high = sorted((_root(parent, a), _root(parent, b)))
        parent[high] = low
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(_root(parent, member), len(numbers)) for member in range(count)], np.int32)


def _root(parent: list[int], member: int) -> int:
    """Return the representative of the group of `member` (union-find), and shorten the path to it."""
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


def _confirmed(features: list[_Features]) -> list[tuple[int, int, float]]:
    """Return pairs of near-duplicates, each with the surplus of its correlation above the threshold."""
    owner = np.repeat(np.arange(len(features), dtype=np.int32), [len(each.hashes) for each in features])
    if not len(owner):
        return []
    hashes = np.concatenate([each.hashes for each in features])
    positions = np.concatenate([each.positions for each in features])
    bright = np.concatenate([each.bright for each in features])

    def near(chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        pairs = near_pairs(hashes[chosen], owner[chosen], NEAR_BITS)
        return np.column_stack([chosen[pairs[:, 0]], chosen[pairs[:, 1]], pairs[:, 2]])

    kinds = map(np.flatnonzero, (bright, ~bright))  # a bright spot matches no dark one
    first, second, distance = np.concatenate(list(map_in_order(near, kinds, threads=2, ahead=2, name="pairs"))).T
    shift = positions[second] - positions[first]
    candidates = np.column_stack([owner[first], owner[second], shift, distance]).astype(np.int32)
    candidates = candidates[np.lexsort(candidates.T[::-1])]
    edges: dict[tuple[int, int], float] = {}
    # among hundreds of similar frames each needs one safe edge, not one to every other frame
    safely_joined = list(range(len(features)))
    for a, b, down, right in agreeing(candidates, EQUAL_BITS).tolist():
        one, other = features[a].texture, features[b].texture
        if one.shape == other.shape and _root(safely_joined, a) != _root(safely_joined, b):
            margin = surplus(one, other, down, right)
            if margin >= 0:
                edges[a, b] = max(margin, edges.get((a, b), 0.0))
            if margin > SAFE_MARGIN:
                safely_joined[_root(safely_joined, b)] = _root(safely_joined, a)
    return [(a, b, margin) for (a, b), margin in edges.items()]
