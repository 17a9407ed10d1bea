// Draws masks on a canvas: ground truth as a tint, each model as an outline with its own dash, classes by colour.
"use strict";

severstal.drawing = (() => {
  const colours = severstal.index.colours.map((text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)));
  const TINT = 105;

  // layers: [{mask, channel, style, tint}], style "fill", with the opacity `tint`, or the number of a model. One pixel of the canvas stands for `step`
  // pixels of the image, in both directions. `thick`: thickness of the outline, in pixels of the canvas.
  function paint(canvas, layers, height, width, step, thick) {
    const h = Math.ceil(height / step);
    const w = Math.ceil(width / step);
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(w, h);
    for (const layer of layers) {
      if (layer.style === "fill") fill(pixels, layer, step);
      else outline(pixels, layer, step, thick);
    }
    context.putImageData(pixels, 0, 0);
  }

  function forEachPixel(pixels, mask, step, call) {
    const first = Math.ceil(mask.x / step);
    const end = Math.min(pixels.width, Math.ceil((mask.x + mask.w) / step));
    for (let column = first; column < end; column++) {
      const base = (column * step - mask.x) * mask.h;
      for (let row = 0; row < pixels.height; row++) {
        if (mask.bits[base + row * step]) call(column, row);
      }
    }
  }

  function fill(pixels, { mask, channel, tint = TINT }, step) {
    const colour = colours[channel];
    forEachPixel(pixels, mask, step, (column, row) => set(pixels, column, row, colour, tint));
  }

  function outline(pixels, { mask, channel, style }, step, thick) {
    const colour = colours[channel];
    const inside = (column, row) => {
      const x = column * step - mask.x;
      return x >= 0 && x < mask.w && row >= 0 && row * step < mask.h && mask.bits[x * mask.h + row * step];
    };
    const dash = [0, 5, 2][style % 3] * Math.max(1, thick);
    forEachPixel(pixels, mask, step, (column, row) => {
      if (dash && Math.floor((column + row) / dash) % 2) return;
      for (let distance = 1; distance <= thick; distance++) {
        if (!inside(column - distance, row) || !inside(column + distance, row) ||
            !inside(column, row - distance) || !inside(column, row + distance)) {
          set(pixels, column, row, colour, 255);
          return;
        }
      }
    });
  }

  function set(pixels, column, row, colour, opacity) {
    const at = 4 * (row * pixels.width + column);
    pixels.data[at] = colour[0];
    pixels.data[at + 1] = colour[1];
    pixels.data[at + 2] = colour[2];
    pixels.data[at + 3] = opacity;
  }

  // Draws ground truth and prediction on the canvas of a thumbnail.
  async function preview(canvas, image, candidate) {
    const { height, width, isEmpty } = severstal.filters;
    const h = height(image);
    if (isEmpty(image, candidate)) return;
    const columns = await severstal.loader.masks(image);
    if (!canvas.isConnected) return;
    const layers = [];
    for (const [column, style] of [[0, "fill"], [candidate + 1, 0]]) {
      for (const [channel, gaps] of Object.entries(columns[column])) {
        layers.push({ mask: severstal.masks.fromGaps(gaps, h), channel: Number(channel), style });
      }
    }
    const step = Math.max(1, Math.floor(Math.max(h, width(image)) / 800));
    paint(canvas, layers, h, width(image), step, 2);
  }

  return { paint, preview };
})();
