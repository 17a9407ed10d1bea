// Filters and sorts images by the pixel counts of the index alone.
"use strict";

severstal.filters = (() => {
  const index = severstal.index;
  const classes = index.classes;
  const channels = Array.from({ length: classes }, (_, channel) => channel);
  const count = index.names.length;
  const ALL = -1;
  const CLEAN = -2;
  const kinds = index.truth
    ? [["right", "Right"], ["partial", "Partial"], ["missed", "Missed"], ["false", "False alarm"]]
    : [["found", "With masks"], ["empty", "Without masks"]];
  const bits = Object.fromEntries(kinds.map(([kind], number) => [kind, 1 << number]));
  const classLabel = (channel) => index.labels[channel];
  const names = index.names.map((name) => name.toLowerCase());

  const height = (image) => index.sizes[2 * image];
  const width = (image) => index.sizes[2 * image + 1];
  const truth = (image, channel) => (index.truth ? index.truth[image * classes + channel] : 0);
  const area = (candidate, image, channel) => index.candidates[candidate].area[image * classes + channel];

  function dice(candidate, image, channel) {
    const shared = index.candidates[candidate].overlap[image * classes + channel];
    return severstal.masks.dice(area(candidate, image, channel), truth(image, channel), shared);
  }

  function over(channel, call) {
    if (channel >= 0) call(channel);
    else for (let each = 0; each < classes; each++) call(each);
  }

  // The Dice of one class, or the mean over all classes.
  function meanDice(candidate, image, channel = ALL) {
    let sum = 0;
    let terms = 0;
    over(channel, (each) => {
      sum += dice(candidate, image, each);
      terms++;
    });
    return sum / terms;
  }

  function kindOf(candidate, image, channel) {
    const predicted = area(candidate, image, channel);
    if (!index.truth) return predicted ? "found" : "empty";
    if (!truth(image, channel)) return predicted ? "false" : "right";
    if (!index.candidates[candidate].overlap[image * classes + channel]) return "missed";
    return dice(candidate, image, channel) >= index.right ? "right" : "partial";
  }

  // Bits: an image is right if all its classes are; it can be of several other kinds.
  function kindsOf(candidate, image, channel = ALL) {
    let found = 0;
    over(channel, (each) => {
      const kind = kindOf(candidate, image, each);
      found |= bits[kind];
      // a mask elsewhere than the ground truth is a false alarm, too
      if (kind === "missed" && area(candidate, image, each)) found |= bits.false;
    });
    const whole = index.truth ? bits.right : bits.empty;
    return found === whole ? whole : found & ~whole;
  }

  function confidence(candidate, image, channel = ALL) {
    const all = index.candidates[candidate].confidence;
    if (!all) return 0;
    let lowest = 1;
    over(channel, (each) => {
      lowest = Math.min(lowest, all[image * classes + each]);
    });
    return lowest;
  }

  function isEmpty(image, candidate) {
    for (let channel = 0; channel < classes; channel++) {
      if (truth(image, channel) || area(candidate, image, channel)) return false;
    }
    return true;
  }

  function isClean(image) {
    for (let channel = 0; channel < classes; channel++) if (truth(image, channel)) return false;
    return true;
  }

  function fits(image, { candidate, channel, words }) {
    if (channel >= 0 && !truth(image, channel) && !area(candidate, image, channel)) return false;
    if (channel === CLEAN && !isClean(image)) return false;
    return words.every((word) => names[image].includes(word));
  }

  // state: {candidate, channel, kind, order, search} -> {images, counts}: the matching images, and the number per kind.
  function select(state) {
    const { candidate, channel, kind, order } = state;
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = { all: 0 };
    for (const [name] of kinds) counts[name] = 0;
    const images = [];
    for (let image = 0; image < count; image++) {
      if (!fits(image, { candidate, channel, words })) continue;
      const found = kindsOf(candidate, image, channel);
      counts.all++;
      for (const [name] of kinds) if (found & bits[name]) counts[name]++;
      if (kind === "all" || found & bits[kind]) images.push(image);
    }
    const by = {
      worst: (image) => meanDice(candidate, image, channel),
      best: (image) => -meanDice(candidate, image, channel),
      unconfident: (image) => confidence(candidate, image, channel),
      confident: (image) => -confidence(candidate, image, channel),
    }[order];
    if (by) {
      const keys = new Float64Array(count);
      for (const image of images) keys[image] = by(image);
      images.sort((a, b) => keys[a] - keys[b] || a - b);
    } else if (order === "name") {
      images.sort((a, b) => (index.names[a] < index.names[b] ? -1 : 1));
    }
    return { images, counts };
  }

  // The classes of an image that have a mask, for captions and screen readers.
  function classesOf(candidate, image) {
    const found = [];
    for (let channel = 0; channel < classes; channel++) {
      if (!truth(image, channel) && !area(candidate, image, channel)) continue;
      const kind = kindOf(candidate, image, channel);
      const name = (kinds.find(([own]) => own === kind) || ["", ""])[1].toLowerCase();
      found.push({ channel, kind, name, dice: dice(candidate, image, channel) });
    }
    return found;
  }

  return { ALL, kinds, classes, channels, count, height, width, truth, area, dice, meanDice, isEmpty, isClean, classLabel, classesOf, select };
})();
