// What is read when it is needed. A page that is a file may add scripts, and no more: each calls severstal.got.
"use strict";

severstal.loader = (() => {
  const waiting = new Map();
  const kept = { masks: new Map(), levels: new Map() };
  const most = { masks: 300, levels: 32e6 };
  const size = {
    masks: () => 1,
    levels: (found) => Array.from(found.values()).reduce((sum, { steps }) => sum + steps.length, 0),
  };

  severstal.got = (key, value) => {
    const one = waiting.get(key);
    if (one) one.value = value;
  };

  function read(key) {
    const there = waiting.get(key);
    if (there) return there.promise;
    const one = { value: undefined, promise: undefined };
    one.promise = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${key}.js`;
      script.onload = script.onerror = () => {
        waiting.delete(key);
        script.remove();
        if (one.value === undefined) reject(new Error(`${key}.js is missing or damaged`));
        else resolve(one.value);
      };
      document.head.append(script);
    });
    waiting.set(key, one);
    return one.promise;
  }

  // Read once; what was not asked for the longest time is forgotten when all together is too large.
  function remember(kind, key, make) {
    const own = kept[kind];
    let one = own.get(key);
    if (one) own.delete(key);
    else {
      one = { found: make(), size: 0 };
      const done = (value) => {
        one.size = size[kind](value);
        forget(own, most[kind]);
      };
      one.found.then(done, () => own.delete(key));
    }
    own.set(key, one);
    return one.found;
  }

  function forget(own, most) {
    let total = 0;
    for (const one of own.values()) total += one.size;
    for (const [key, one] of own) {
      if (total <= most || own.size === 1) return;
      own.delete(key);
      total -= one.size;
    }
  }

  const number = (image) => String(image + 1).padStart(6, "0");
  const imageFile = (image) => `images/${number(image)}.jpg`;

  // [truth, first candidate, ...], each {channel: gaps}
  function masks(image) {
    const key = `masks/${number(image)}`;
    return remember("masks", key, () => read(key));
  }

  // channel -> {x, w, h, top, steps}
  function levels(image, candidate, h) {
    const key = `levels/${number(image)}-${candidate}`;
    return remember("levels", key, async () => {
      const found = new Map();
      for (const { channel, x, w, top, data } of await read(key)) {
        found.set(channel, { x, w, h, top, steps: await inflate(data) });
      }
      return found;
    });
  }

  async function inflate(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  return { imageFile, masks, levels, kept, most };
})();
