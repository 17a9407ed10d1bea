"""The compiled loops of `rle`, on plain arrays.

Each argument has one type and memory order, which `rle` ensures: numba recompiles for every other combination. The
innermost loops run over slices, so that the compiler rules out negative indices and vectorises them.
"""

import numba
import numpy as np

# The faults that `parse` returns; 0 is none.
NOT_A_NUMBER, BELOW_ONE, PAST_THE_END, UNSORTED, OVERLAPPING, ODD = range(1, 7)
# Words of 8 pixels per step.
_CHUNK = 16
_ONE = np.uint64(1)
# The index of the lowest set bit of a byte.
_LOWEST = np.array([0] + [(byte & -byte).bit_length() - 1 for byte in range(1, 256)], dtype=np.int64)


@numba.njit(cache=True, nogil=True)
def parse(data, limit):  # type: ignore[no-untyped-def]
    """(runs, fault, index of the faulty number). data: the bytes of the text."""
    size = data.size
    runs = np.empty(((size + 3) // 4, 2), dtype=np.int32)  # a run needs four bytes: "1 1 "
    numbers = 0
    start, previous_start, previous_end = np.int64(0), np.int64(0), np.int64(0)
    i = 0
    while True:
        while i < size and (data[i] == 32 or 9 <= data[i] <= 13):
            i += 1
        if i == size:
            break
        negative = data[i] == 45
        first_digit = i + 1 if negative else i
        i = first_digit
        value = np.int64(0)
        while i < size and 48 <= data[i] <= 57:
            # beyond the limit the value need not be exact, but it must not overflow
            value = min(value * 10 + (data[i] - 48), np.int64(1) << 40)
            i += 1
        if i == first_digit or (i < size and not (data[i] == 32 or 9 <= data[i] <= 13)):
            return runs[:0], NOT_A_NUMBER, numbers
        if negative or value < 1:
            return runs[:0], BELOW_ONE, numbers
        if numbers % 2 == 0:
            if value > limit:
                return runs[:0], PAST_THE_END, numbers
            if value <= previous_end:
                return runs[:0], UNSORTED if value < previous_start else OVERLAPPING, numbers
            start = value
        else:
            if start + value - 1 > limit:
                return runs[:0], PAST_THE_END, numbers
            runs[numbers // 2, 0] = start - 1
            runs[numbers // 2, 1] = value
            previous_start, previous_end = start, start + value - 1
        numbers += 1
    if numbers % 2:
        return runs[:0], ODD, numbers - 1
    return runs[: numbers // 2].copy(), 0, 0


@numba.njit(cache=True, nogil=True)
def to_bytes(runs):  # type: ignore[no-untyped-def]
    """The bytes of the text. runs: (K, 2) int32."""
    buffer = np.empty(22 * len(runs), dtype=np.uint8)  # two numbers of ten digits, two spaces
    end = 0
    for k in range(len(runs)):
        for j in range(2):
            value = np.uint32(runs[k, j]) + np.uint32(1 - j)
            digits, rest = 1, value
            while rest >= 10:
                rest //= np.uint32(10)
                digits += 1
            for index in range(end + digits - 1, end - 1, -1):
                buffer[index] = 48 + value % np.uint32(10)
                value //= np.uint32(10)
            buffer[end + digits] = 32
            end += digits + 1
    return buffer[: max(end - 1, 0)]


@numba.njit(cache=True, nogil=True)
def _pixels_in(word):  # type: ignore[no-untyped-def]
    """Eight bits: bit i is set where byte i of `word` is not zero.

    The sum sets the highest bit of a byte that has any other bit; the product then gathers the eight highest bits.
    """
    sevens, highest = np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(0x8080808080808080)
    filled = (((word & sevens) + sevens) | word) & highest
    return ((filled >> np.uint64(7)) * np.uint64(0x0102040810204080)) >> np.uint64(56)


@numba.njit(cache=True, nogil=True)
def _doubled(edges, count):  # type: ignore[no-untyped-def]
    """`edges` with twice the room, its first `count` kept. (np.concatenate takes seconds to compile.)"""
    room = np.empty(2 * edges.size, dtype=edges.dtype)
    for k in range(count):
        room[k] = edges[k]
    return room


@numba.njit(cache=True, nogil=True)
def encode_columns(pixels):  # type: ignore[no-untyped-def]
    """Runs of `pixels`: (H * W,) uint8, column after column."""
    words = pixels[: pixels.size - pixels.size % 8].view(np.uint64)
    edges = np.empty(1024, dtype=np.int32)
    count, inside = 0, False
    low, high = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    for first in range(0, words.size, _CHUNK):
        chunk = words[first : first + _CHUNK]
        changes = np.uint64(0)
        if inside:
            for w in range(chunk.size):
                changes |= (chunk[w] - low) & ~chunk[w] & high  # not zero where one of the bytes is
        else:
            for w in range(chunk.size):
                changes |= chunk[w]
        if changes == 0:
            continue
        if count + 8 * _CHUNK + 8 > edges.size:
            edges = _doubled(edges, count)
        for w in range(chunk.size):
            bits = _pixels_in(chunk[w])
            flips = bits ^ (((bits << _ONE) | np.uint64(inside)) & np.uint64(255))
            while flips:
                edges[count] = 8 * (first + w) + _LOWEST[flips]
                count += 1
                flips &= flips - _ONE
            inside = bits >= np.uint64(128)
    for i in range(8 * words.size, pixels.size):  # the bytes after the last word, seven at most
        if (pixels[i] != 0) != inside:
            inside = not inside
            edges[count] = i
            count += 1
    if inside:
        edges[count] = pixels.size
        count += 1
    return _pair(edges[:count])


@numba.njit(cache=True, nogil=True)
def encode_rows(words):  # type: ignore[no-untyped-def]
    """Runs of a mask, row after row, as (H, W // 8) uint64.

    A pixel that differs from the one above it is an edge. Rows are compared 8 pixels at a time, and the few edges are
    then sorted by column, which is cheaper than transposing the mask.
    """
    height, width = words.shape[0], 8 * words.shape[1]
    edges = np.empty(1024, dtype=np.int64)  # row * width + column
    count = 0
    per_column = np.zeros(width + 1, dtype=np.int64)
    above = np.zeros(words.shape[1], dtype=np.uint64)
    for y in range(height):
        here = words[y]
        for first in range(0, here.size, _CHUNK):
            words_here, words_above = here[first : first + _CHUNK], above[first : first + _CHUNK]
            changes = np.uint64(0)
            for w in range(words_here.size):
                changes |= words_here[w] ^ words_above[w]
            if changes == 0:
                continue
            if count + 8 * _CHUNK > edges.size:
                edges = _doubled(edges, count)
            for w in range(words_here.size):
                if words_here[w] == words_above[w]:
                    continue
                flips = _pixels_in(words_here[w]) ^ _pixels_in(words_above[w])
                while flips:
                    x = 8 * (first + w) + _LOWEST[flips]
                    flips &= flips - _ONE
                    edges[count] = y * width + x
                    count += 1
                    per_column[x + 1] += 1
        above = here
    ends = per_column  # where a column's edges begin; after the next loop, where they end
    for x in range(width):
        ends[x + 1] += ends[x]
    rows = np.empty(count, dtype=np.int64)
    for k in range(count):
        x = edges[k] % width
        rows[ends[x]] = edges[k] // width
        ends[x] += 1
    ordered = np.empty(count + width + 1, dtype=np.int32)
    filled, k = 0, 0
    for x in range(width):
        first = filled
        while k < ends[x]:
            ordered[filled] = x * height + rows[k]
            filled += 1
            k += 1
        if (filled - first) % 2:  # the last run of the column reaches its bottom
            ordered[filled] = (x + 1) * height
            filled += 1
    kept = 0
    for k in range(filled):  # a bottom edge is no end where a run starts at the top of the next column
        if kept > 0 and ordered[k] == ordered[kept - 1]:
            kept -= 1
        else:
            ordered[kept] = ordered[k]
            kept += 1
    return _pair(ordered[:kept])


@numba.njit(cache=True, nogil=True)
def _pair(edges):  # type: ignore[no-untyped-def]
    """Runs from the sorted pixels where they begin and end."""
    runs = np.empty((edges.size // 2, 2), dtype=np.int32)
    for k in range(edges.size // 2):
        runs[k, 0] = edges[2 * k]
        runs[k, 1] = edges[2 * k + 1] - edges[2 * k]
    return runs


@numba.njit(cache=True, nogil=True)
def decode(runs, height, x0, x1):  # type: ignore[no-untyped-def]
    """(H, x1 - x0) uint8: marks the pixels where the mask changes down a column, then accumulates down the rows.

    The accumulation works on whole rows, so its cost does not depend on the area of the mask.
    """
    width = x1 - x0
    mask = np.zeros((height, width), dtype=np.uint8)
    first_pixel, last_pixel = np.int64(x0) * height, np.int64(x1) * height
    low, high = 0, len(runs)
    while low < high:  # the first run that ends after the start of the strip
        middle = (low + high) // 2
        if np.int64(runs[middle, 0]) + runs[middle, 1] > first_pixel:
            high = middle
        else:
            low = middle + 1
    any_run = False
    for k in range(low, len(runs)):
        start = max(np.int64(runs[k, 0]), first_pixel) - first_pixel
        end = min(np.int64(runs[k, 0]) + runs[k, 1], last_pixel) - first_pixel
        if start >= end:
            break
        any_run = True
        x, y = start // height, start % height
        while True:
            mask[y, x] ^= 1
            bottom = (x + 1) * height
            if end < bottom:
                mask[end - x * height, x] ^= 1
            if end <= bottom:
                break
            x, y = x + 1, 0
    if any_run:
        for y in range(1, height):
            above, here = mask[y - 1], mask[y]
            for x in range(width):
                here[x] ^= above[x]
    return mask


@numba.njit(cache=True, nogil=True)
def area(runs):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for k in range(len(runs)):
        total += runs[k, 1]
    return total


@numba.njit(cache=True, nogil=True)
def overlap(a, b):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    i, j = 0, 0
    while i < len(a) and j < len(b):
        end_a, end_b = np.int64(a[i, 0]) + a[i, 1], np.int64(b[j, 0]) + b[j, 1]
        total += max(min(end_a, end_b) - max(np.int64(a[i, 0]), np.int64(b[j, 0])), 0)
        if end_a <= end_b:
            i += 1
        else:
            j += 1
    return total
