// Loads data on demand. A page opened as a file can only add scripts: each of them calls severstal.receive.
"use strict";

severstal.loader = (() => {
  const waiting = new Map();
  const cached = { masks: new Map(), levels: new Map(), rows: new Map() };
  const limits = { masks: 300, levels: 32e6, rows: 6 };
  const size = {
    masks: () => 1,
    rows: () => 1,
    levels: (maps) => Array.from(maps.values()).reduce((sum, { steps }) => sum + steps.length, 0),
  };

  severstal.receive = (key, value) => {
    const one = waiting.get(key);
    if (one) one.value = value;
  };

  function read(key) {
    const pending = waiting.get(key);
    if (pending) return pending.promise;
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

  // Caches values; drops the least recently used ones when the total size exceeds the limit.
  function remember(kind, key, make) {
    const own = cached[kind];
    let one = own.get(key);
    if (one) own.delete(key);
    else {
      one = { value: make(), size: 0 };
      const done = (value) => {
        one.size = size[kind](value);
        evict(own, limits[kind]);
      };
      one.value.then(done, () => own.delete(key));
    }
    own.set(key, one);
    return one.value;
  }

  function evict(own, limit) {
    let total = 0;
    for (const one of own.values()) total += one.size;
    for (const [key, one] of own) {
      if (total <= limit || own.size === 1) return;
      own.delete(key);
      total -= one.size;
    }
  }

  const number = (image) => String(image + 1).padStart(6, "0");
  const imageFile = (image) => `images/${number(image)}.jpg`;

  // [ground truth, first candidate, ...], each {channel: gaps}
  function masks(image) {
    const key = `masks/${number(image)}`;
    return remember("masks", key, () => read(key));
  }

  // channel -> {x, w, h, top, steps}
  function levels(image, candidate, h) {
    const key = `levels/${number(image)}-${candidate}`;
    return remember("levels", key, async () => {
      const maps = new Map();
      for (const { channel, x, w, top, data } of await read(key)) {
        maps.set(channel, { x, w, h, top, steps: await inflate(data) });
      }
      return maps;
    });
  }

  // The fields of the rows of an audit in one file.
  function rows(file) {
    const key = `rows/${number(file)}`;
    return remember("rows", key, () => read(key));
  }

  async function inflate(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  return { imageFile, masks, levels, rows, cached, limits };
})();
