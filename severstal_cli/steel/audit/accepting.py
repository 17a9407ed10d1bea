"""Annotations with accepted findings.

Every row changes whole 8-connected components of the original masks, whatever the order of the rows:

    missed        the mask of the class gains the predicted component
    invented      it loses the drawn component
    wrong_class   it loses the drawn component, and that of PredictedClassId gains it
    boundary      it loses the drawn components that touch the predicted one, and gains that
    disagreement  it becomes the mask of the other image, or empty

Rows that add or remove the same pixels of a class contradict each other, and so do a disagreement and any other row of
its class: they are refused. A missed component may take pixels of an invented one, and a component that moves to a
class may overlap what another row adds there. Rows of another table, or of one that was changed since, are recognised
by their components.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from severstal_cli.errors import InputError
from severstal_cli.steel.audit.class_parts import Mask, touched
from severstal_cli.steel.audit.finding_table import ACCEPT, Decision
from severstal_cli.steel.audit.findings import Kind, box_of
from severstal_cli.steel.masks import rle
from severstal_cli.steel.tables.csv_rows import short

Key = tuple[str, int]
"""image_id, channel."""


@dataclass(frozen=True, kw_only=True)
class _Change:
    """What an accepted row changes in one mask: pixels as (H, W) bool, removed first."""

    line: int
    removed: Mask
    added: Mask
    is_whole: bool = False
    """The whole mask is replaced."""
    is_moved: bool = False
    """The component comes from another class, where it was drawn."""

    def contradicts(self, other: "_Change") -> bool:
        if self.is_whole or other.is_whole or (self.removed & other.removed).any():
            return True
        return not (self.is_moved or other.is_moved) and bool((self.added & other.added).any())


def accept(
    path: Path,
    decisions: Sequence[Decision],
    masks: Mapping[Key, rle.RLE],
    sizes: Mapping[str, tuple[int, int]],
    class_ids: Sequence[int],
    *,
    exclusive: bool,
) -> dict[Key, rle.RLE]:
    """The masks with the accepted findings.

    path: of the decisions, for messages. sizes: image_id -> (H, W) of all images. class_ids: of the table. exclusive:
    no masks of an image overlap, and they must not afterwards.

    Raises InputError: a row names an image or class that is not there, does not fit its masks, or contradicts another.
    """
    by_image: dict[str, list[Decision]] = {}
    for decision in decisions:
        check_names(path, decision, sizes, class_ids)
        if decision.choice == ACCEPT:
            by_image.setdefault(decision.finding.image_id, []).append(decision)
    changed = dict(masks)
    for image_id, accepted in by_image.items():
        by_key: dict[Key, list[_Change]] = {}
        for decision in accepted:
            for key, change in _changes(path, decision, masks, sizes):
                for earlier in by_key.setdefault(key, []):
                    if earlier.contradicts(change):
                        raise InputError(
                            f"{path}, lines {earlier.line} and {change.line}",
                            f"both change the same pixels of {short(image_id)}, class {key[1] + 1}",
                            "Accept one of them",
                        )
                by_key[key].append(change)
        for key, changes in by_key.items():
            mask = _decoded(masks, key, sizes[image_id])
            for change in changes:
                mask = mask & ~change.removed
            for change in changes:
                mask = mask | change.added
            changed[key] = rle.encode(mask)
            if not len(changed[key]):
                del changed[key]
        if exclusive:
            _check_overlaps(path, image_id, by_key, changed)
    return changed


def check_names(path: Path, decision: Decision, sizes: Mapping[str, tuple[int, int]], class_ids: Sequence[int]) -> None:
    """Raises InputError: a row of `path` names an image or class that does not exist, or its mask is too large."""
    finding = decision.finding
    for name in (finding.image_id, finding.other_image_id):
        if name is not None and name not in sizes:
            raise InputError(
                f"{path}, line {decision.line}",
                f"there is no image {short(name)}",
                "Give the decisions on an audit of this data",
            )
    for class_id in (finding.class_id, finding.predicted_class_id):
        if class_id is not None and class_id not in class_ids:
            raise InputError(
                f"{path}, line {decision.line}",
                f"no row of the annotations names class {class_id}",
                "Give the decisions on an audit of this data",
            )
    height, width = sizes[finding.image_id]
    message = rle.past_the_end(finding.mask, height * width)
    if message:
        raise InputError(
            f"{path}, line {decision.line}", f"EncodedPixels: {message}", "Give the decisions on an audit of this data"
        )


def _changes(
    path: Path, decision: Decision, masks: Mapping[Key, rle.RLE], sizes: Mapping[str, tuple[int, int]]
) -> Iterator[tuple[Key, _Change]]:
    """The changes of an accepted row, by mask. Raises InputError: the row does not fit the annotations."""
    finding = decision.finding
    key, size = (finding.image_id, finding.class_id - 1), sizes[finding.image_id]
    own, mask = _decoded(masks, key, size), rle.decode(finding.mask, size)
    nothing = np.zeros(size, np.bool_)
    shown, removed, added = mask, nothing, nothing  # shown: what the box and the area in the row are of
    if finding.kind == Kind.MISSED:
        added = mask
        fits = True
    elif finding.kind in (Kind.INVENTED, Kind.WRONG_CLASS):
        removed = mask
        fits = bool((touched(own, mask) == mask).all())
    elif finding.kind == Kind.BOUNDARY:
        shown = removed = touched(own, mask)
        added = mask
        fits = True
    else:
        assert finding.other_image_id is not None
        other = finding.other_image_id, finding.class_id - 1
        same_size = sizes[finding.other_image_id] == size
        fits = same_size and np.array_equal(masks.get(other, rle.EMPTY), finding.mask)
        shown, removed, added = (own if own.any() else mask), own, mask
    fits = fits and not np.array_equal(own & ~removed | added, own)  # else it was accepted before
    if not fits or finding.pixels != np.count_nonzero(shown) or finding.box != box_of(shown):
        raise InputError(
            f"{path}, line {decision.line}",
            f"{finding.kind} in {short(finding.image_id)}, class {finding.class_id}, is not in these annotations",
            "They are of another table, or were changed since the audit: run it again, or give those that were audited",
        )
    is_whole = finding.kind == Kind.DISAGREEMENT
    yield key, _Change(line=decision.line, removed=removed, added=added, is_whole=is_whole)
    if finding.predicted_class_id is not None:
        yield (
            (finding.image_id, finding.predicted_class_id - 1),
            _Change(line=decision.line, removed=nothing, added=mask, is_moved=True),
        )


def _decoded(masks: Mapping[Key, rle.RLE], key: Key, size: tuple[int, int]) -> Mask:
    return rle.decode(masks.get(key, rle.EMPTY), size)


def _check_overlaps(
    path: Path, image_id: str, by_key: Mapping[Key, Sequence[_Change]], changed: Mapping[Key, rle.RLE]
) -> None:
    """Raises InputError: a changed mask reaches into that of another class."""
    channels = sorted(channel for name, channel in changed if name == image_id) if by_key else []
    for key, changes in by_key.items():
        for channel in channels:
            if channel != key[1] and key in changed and rle.overlap(changed[key], changed[image_id, channel]):
                raise InputError(
                    f"{path}, line {changes[0].line}",
                    f"class {key[1] + 1} of {short(image_id)} would overlap class {channel + 1}, and no "
                    "masks of these annotations overlap",
                    "Accept the row about the other class, too, or reject this one",
                )
