// Masks: decodes RLE, thresholds levels, applies the post-processing of a class, and computes the Dice. The counterpart
// of steel/masks and steel/scoring/dice, in integers, so that the Dice is the same to the last bit.
//
// A mask is {x, w, h, bits}: columns x to x + w - 1 of an image of height h, in column-major order as in RLE. The other
// columns are empty.
"use strict";
const severstal = {};

severstal.masks = (() => {
  // Decodes alternating counts of pixels outside and inside a mask, down the columns.
  function fromGaps(gaps, h) {
    let end = 0;
    for (const count of gaps) end += count;
    const x = Math.floor((gaps[0] || 0) / h);
    const w = Math.max(0, Math.ceil(end / h) - x);
    const bits = new Uint8Array(w * h);
    let at = -x * h;
    for (let i = 0; i + 1 < gaps.length; i += 2) {
      at += gaps[i];
      bits.fill(1, at, at + gaps[i + 1]);
      at += gaps[i + 1];
    }
    return { x, w, h, bits };
  }

  // Decodes the text of a table: start and length of each run, counted from 1.
  function fromText(text, h) {
    const numbers = text.trim() ? text.trim().split(/\s+/).map(Number) : [];
    let first = Infinity;
    let end = 0;
    for (let i = 0; i + 1 < numbers.length; i += 2) {
      first = Math.min(first, numbers[i] - 1);
      end = Math.max(end, numbers[i] - 1 + numbers[i + 1]);
    }
    const x = end ? Math.floor(first / h) : 0;
    const w = Math.ceil(end / h) - x;
    const bits = new Uint8Array(w * h);
    for (let i = 0; i + 1 < numbers.length; i += 2) {
      bits.fill(1, numbers[i] - 1 - x * h, numbers[i] - 1 + numbers[i + 1] - x * h);
    }
    return { x, w, h, bits };
  }

  // Removes 8-connected components of fewer than `minimum` pixels, in place.
  function dropSmall(mask, minimum) {
    const { w, h, bits } = mask;
    const seen = new Uint8Array(bits.length);
    const members = new Int32Array(bits.length);
    for (let start = 0; start < bits.length; start++) {
      if (!bits[start] || seen[start]) continue;
      let count = 1;
      members[0] = start;
      seen[start] = 1;
      for (let next = 0; next < count; next++) {
        const column = Math.floor(members[next] / h);
        const row = members[next] - column * h;
        const top = Math.max(0, row - 1);
        const bottom = Math.min(h - 1, row + 1);
        for (let c = Math.max(0, column - 1); c <= Math.min(w - 1, column + 1); c++) {
          for (let i = c * h + top; i <= c * h + bottom; i++) {
            if (bits[i] && !seen[i]) {
              seen[i] = 1;
              members[count++] = i;
            }
          }
        }
      }
      if (count < minimum) for (let i = 0; i < count; i++) bits[members[i]] = 0;
    }
  }

  // levels: {x, w, h, top, steps}; `reach`: the number of steps that a pixel must reach, i.e. the threshold `level`.
  // rule: {min_component_px, min_mask_px, min_image_score}, or null for the threshold alone.
  function fromLevels(levels, reach, level, rule) {
    const { x, w, h, top, steps } = levels;
    const mask = { x, w, h, bits: new Uint8Array(steps.length) };
    if (top < level || (rule && top < rule.min_image_score)) return mask;
    for (let i = 0; i < steps.length; i++) mask.bits[i] = steps[i] >= reach ? 1 : 0;
    if (!rule) return mask;
    if (rule.min_component_px > 1) dropSmall(mask, rule.min_component_px);
    if (rule.min_mask_px > 1 && area(mask) < rule.min_mask_px) mask.bits.fill(0);
    return mask;
  }

  function area(mask) {
    let count = 0;
    if (mask) for (const bit of mask.bits) count += bit;
    return count;
  }

  function overlap(one, other) {
    if (!one || !other) return 0;
    const first = Math.max(one.x, other.x);
    const end = Math.min(one.x + one.w, other.x + other.w);
    let count = 0;
    let a = (first - one.x) * one.h;
    let b = (first - other.x) * other.h;
    for (let left = (end - first) * one.h; left > 0; left--) count += one.bits[a++] & other.bits[b++];
    return count;
  }

  // From pixel counts: of each mask, and of their intersection.
  function dice(predicted, truth, shared) {
    return predicted + truth ? (2 * shared) / (predicted + truth) : 1;
  }

  return { fromGaps, fromText, fromLevels, area, overlap, dice };
})();
