"""The compiled loops of `components`, on plain arrays.

Each argument has one type, memory order and writability, which `components` ensures: numba recompiles for every other
combination.
"""

import numba
import numpy as np

LEVELS = 256


@numba.njit(cache=True, nogil=True)
def _find_rings(padded, stride, y, rings):  # type: ignore[no-untyped-def]
    """Fill `rings` for row `y` of the padded map. Returns whether the row has a level above 0."""
    above = padded[(y - 1) * stride : y * stride]
    here = padded[y * stride : (y + 1) * stride]
    below = padded[(y + 1) * stride : (y + 2) * stride]
    some = np.uint8(0)
    for x in range(1, stride - 1):
        v = here[x]
        some |= v
        # equal levels are processed in reading order; bits clockwise from north-west
        rings[x] = (
            np.uint8(above[x - 1] >= v)
            | np.uint8(above[x] >= v) << 1
            | np.uint8(above[x + 1] >= v) << 2
            | np.uint8(here[x + 1] > v) << 3
            | np.uint8(below[x + 1] > v) << 4
            | np.uint8(below[x] > v) << 5
            | np.uint8(below[x - 1] > v) << 6
            | np.uint8(here[x - 1] >= v) << 7
        )
    return some > 0


@numba.njit(cache=True, nogil=True)
def sort(levels, truth, width, padded, order):  # type: ignore[no-untyped-def]
    """Fill `order`, the pixels by descending level, then in reading order. Returns the first index of each level.

    levels, truth: (H * W,) uint8. padded: a buffer for the levels within a border of zeros.
    An entry of `order`: block << 11 | truth << 10 | (row & 1) << 9 | (column & 1) << 8 | ring, all in the padded map.
    """
    height, stride, blocks_wide = levels.size // width, width + 2, (width + 3) >> 1
    counts = np.zeros((4, LEVELS), np.int64)  # four, so that equal neighbours do not wait for each other
    for i in range(levels.size):
        counts[i & 3, levels[i]] += 1
    start = np.zeros(LEVELS, np.int64)
    for level in range(LEVELS - 1, 0, -1):
        start[level - 1] = start[level] + counts[:, level].sum()

    padded[:stride] = 0
    for y in range(height):
        row = padded[(y + 1) * stride : (y + 2) * stride]
        row[0] = 0
        for x in range(width):
            row[x + 1] = levels[y * width + x]
        row[width + 1] = 0
    padded[(height + 1) * stride : (height + 2) * stride] = 0
    place = start.copy()
    rings, entries = np.zeros(stride, np.uint8), np.zeros(stride, order.dtype)
    for y in range(1, height + 1):
        if not _find_rings(padded, stride, y, rings):
            continue
        here, hits = padded[y * stride : (y + 1) * stride], truth[(y - 1) * width : y * width]
        row_entry = (y >> 1) * blocks_wide << 11 | (y & 1) << 9
        for x in range(1, width + 1):
            entries[x] = row_entry + (x >> 1 << 11 | hits[x - 1] << 10 | (x & 1) << 8 | rings[x])
        for x in range(1, width + 1):  # branch-free: level 0 is sorted to the end, and not read
            v = here[x]
            order[place[v]] = entries[x]
            place[v] += 1
    return start


@numba.njit(cache=True, nogil=True, inline="always")
def _book(state, root, level, bins, kept_area, overlap):  # type: ignore[no-untyped-def]
    """Add `root` to the tables for the thresholds (level, booked]; from `level` down it may change."""
    area, hits, booked = state[root, 0], state[root, 1], state[root, 2]
    size = bins[min(area, bins.size - 1)]
    kept_area[booked, size] += area
    kept_area[level, size] -= area
    if hits:
        overlap[booked, size] += hits
        overlap[level, size] -= hits
    state[root, 2] = level


@numba.njit(cache=True, nogil=True, inline="always")
def _find(parent, node):  # type: ignore[no-untyped-def]
    """The root of `node`, with path halving."""
    up = parent[node]
    while up != node:
        above = parent[up]
        parent[node] = above
        node = up
        up = above
    return node


@numba.njit(cache=True, nogil=True, inline="always")
def _merge(parent, state, basin, neighbour, level, bins, kept_area, overlap):  # type: ignore[no-untyped-def]
    """Merge the components of two basins that meet at `level`."""
    one = _find(parent, basin)
    other = _find(parent, neighbour)
    if one != other:
        if state[other, 0] > state[one, 0]:
            one, other = other, one
        if state[other, 2] > level:
            _book(state, other, level, bins, kept_area, overlap)
        if state[one, 2] > level:
            _book(state, one, level, bins, kept_area, overlap)
        parent[other] = one
        state[one, 0] += state[other, 0]
        state[one, 1] += state[other, 1]


@numba.njit(cache=True, nogil=True)
def grow(start, order, buffers, tables, bins, kept_area, overlap):  # type: ignore[no-untyped-def]
    """Add every component of every threshold to the difference tables: beginning at t, less ending at t."""
    basin, parent, state, fresh, touched = buffers
    more, first, others = tables
    born = 0
    for level in range(LEVELS - 1, 0, -1):
        gained = np.uint64(0)
        # unsigned indices: else numba checks for negative ones, a fifth of the time of this loop
        for k in range(np.uint64(start[level]), np.uint64(start[level - 1])):
            packed = np.int64(order[k])
            key, hit, block = np.uint64(packed & 0x3FF), packed >> 10 & 1, packed >> 11
            asks = more[key]
            if asks < 0:
                parent[born] = born
                basin[np.uint64(block)] = born
                state[born, 0] = 0
                state[born, 1] = 0
                state[born, 2] = level
                fresh[born] = 1 + (hit << 32)
                touched[gained] = born
                gained += np.uint64(1)
                born += 1
                continue
            # the parent, not the basin itself, so that most pixels of a component refer to its root
            here = parent[np.uint32(basin[np.uint64(block + first[key])])]
            basin[np.uint64(block)] = here
            before = fresh[np.uint32(here)]
            touched[gained] = here
            gained += np.uint64(before == 0)
            fresh[np.uint32(here)] = before + 1 + (hit << 32)
            if asks > 0:
                for i in range(asks):
                    there = parent[np.uint32(basin[np.uint64(block + others[key, np.uint64(i)])])]
                    if there != here:
                        _merge(parent, state, here, there, level, bins, kept_area, overlap)
        for k in range(gained):
            node = touched[k]
            root = _find(parent, node)
            if state[root, 2] > level:
                _book(state, root, level, bins, kept_area, overlap)
            state[root, 0] += fresh[node] & 0xFFFFFFFF
            state[root, 1] += fresh[node] >> 32
            fresh[node] = 0
    for node in range(born):
        if parent[node] == node:
            _book(state, node, 0, bins, kept_area, overlap)


@numba.njit(cache=True, nogil=True)
def sum_up(table, top):  # type: ignore[no-untyped-def]
    """Accumulate the differences in place: over thresholds from `top` down to 1, then over sizes from the last."""
    for level in range(top - 1, 0, -1):
        table[level] += table[level + 1]
    for level in range(top, 0, -1):
        for size in range(table.shape[1] - 2, -1, -1):
            table[level, size] += table[level, size + 1]


@numba.njit(cache=True, nogil=True)
def paint_large(mask, min_component_px, kept):  # type: ignore[no-untyped-def]
    """Set the pixels of large components in `kept`, by union-find over the horizontal runs of `mask`."""
    height, width = mask.shape
    room = height * ((width + 1) // 2)
    begin, end = np.empty(room, np.int32), np.empty(room, np.int32)
    parent, area = np.empty(room, np.int32), np.empty(room, np.int32)
    first = np.zeros(height + 1, np.int64)  # the first run of a row
    runs = 0
    for y in range(height):
        first[y] = runs
        x = 0
        while x < width:
            if not mask[y, x]:
                x += 1
                continue
            begin[runs] = x
            while x < width and mask[y, x]:
                x += 1
            end[runs], parent[runs], area[runs] = x, runs, x - begin[runs]
            runs += 1
    first[height] = runs
    for y in range(1, height):
        above = first[y - 1]
        for run in range(first[y], first[y + 1]):
            while above < first[y] and end[above] < begin[run]:
                above += 1
            touching = above  # the last one may touch the next run too
            while touching < first[y] and begin[touching] <= end[run]:
                one, other = _find(parent, run), _find(parent, touching)
                if one != other:
                    if area[other] > area[one]:
                        one, other = other, one
                    parent[other] = one
                    area[one] += area[other]
                touching += 1
    for y in range(height):
        for run in range(first[y], first[y + 1]):
            if area[_find(parent, run)] >= min_component_px:
                kept[y, begin[run] : end[run]] = True
