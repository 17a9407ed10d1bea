// One image in full size: layers, zoom, and sliders that recompute the masks from the levels.
"use strict";

severstal.viewer = (() => {
  const { filters, drawing, gallery, index, masks, loader, tables, zooming } = severstal;
  const { make } = gallery;
  const byId = (id) => document.getElementById(id);
  const dialog = byId("viewer");
  const candidates = index.candidates;
  const runs = candidates.map((_, number) => number).filter((number) => candidates[number].rules);
  // position of each slider: an index into the steps of the class; past the last one, the class is disabled
  const positions = candidates.map((_, number) => tunedPositions(number));
  let images = [];
  let image = 0;
  let from = null;
  let known = null; // data of the image: {truth, predicted, levels}
  let current = []; // candidate -> channel -> mask, at the thresholds of the sliders
  let panels = [];
  let painted = 0; // thickness of the outlines as painted

  function tunedPositions(number) {
    const { rules, steps } = candidates[number];
    return rules ? rules.map((rule, channel) => {
      const position = steps[channel].indexOf(rule.pixel_threshold);
      return position < 0 ? steps[channel].length : position;
    }) : [];
  }

  const isOn = (candidate) => dialog.querySelector(`[data-candidate="${candidate}"]`).checked;
  const showsTruth = () => Boolean(byId("truth")?.checked);
  const isApart = () => Boolean(byId("apart")?.checked);

  // ---- an image

  async function open(wanted, among, opener) {
    images = among;
    from = opener;
    if (!dialog.open) dialog.showModal();
    document.documentElement.classList.add("still");
    await show(wanted);
  }

  async function show(wanted) {
    image = wanted;
    known = null;
    delete dialog.dataset.shown;
    delete dialog.dataset.unknown;
    const position = images.indexOf(image);
    byId("viewer-name").textContent = index.names[image];
    byId("viewer-position").textContent =
      `${(position + 1).toLocaleString("en")} of ${images.length.toLocaleString("en")} · ` +
      `${filters.height(image)} × ${filters.width(image)} px`;
    // not disabled: a disabled button loses the focus, and with it the keys
    byId("previous").setAttribute("aria-disabled", position <= 0);
    byId("next").setAttribute("aria-disabled", position >= images.length - 1);
    history.replaceState(null, "", `#image=${image + 1}`);
    zooming.fit();
    layOut();
    try {
      await read(wanted);
    } catch (error) {
      if (image !== wanted) return;
      byId("viewer-position").textContent = byId("status").textContent = error.message;
      dialog.dataset.unknown = ""; // hides the masks and figures of the previous image
      return;
    }
    if (image !== wanted || !dialog.open) return; // another image was opened meanwhile
    for (const candidate of candidates.keys()) recompute(candidate);
    draw();
    const means = candidates.map((one, number) => `${one.name} Dice ${mean(number).toFixed(4)}`);
    byId("status").textContent = `${index.names[image]}${index.truth ? `: ${means.join(", ")}` : ""}`;
    dialog.dataset.shown = image; // everything is drawn
  }

  async function read(wanted) {
    const height = filters.height(wanted);
    const isEmpty = candidates.every((_, number) => filters.isEmpty(wanted, number));
    const [columns, ...levels] = await Promise.all([
      isEmpty ? candidates.map(() => ({})).concat({}) : loader.masks(wanted),
      ...candidates.map((one, number) => (one.levels?.[wanted] ? loader.levels(wanted, number, height) : new Map())),
    ]);
    const [truth, ...predicted] = columns.map((column) =>
      new Map(Object.entries(column).map(([channel, gaps]) => [Number(channel), masks.fromGaps(gaps, height)])));
    if (image === wanted) known = { truth, predicted, levels };
  }

  // ---- masks at the thresholds of the sliders

  function recompute(candidate, only = null) {
    const { rules, steps } = candidates[candidate];
    if (!rules) current[candidate] = known.predicted[candidate];
    else {
      if (only === null) current[candidate] = new Map();
      for (let channel = 0; channel < filters.classes; channel++) {
        const levels = known.levels[candidate].get(channel);
        if (!levels || (only !== null && only !== channel)) continue;
        const position = positions[candidate][channel];
        const level = steps[channel][position] ?? 256;
        const rule = byId("postprocess").checked ? rules[channel] : null;
        current[candidate].set(channel, masks.fromLevels(levels, position + 1, level, rule));
      }
    }
    tables.update(candidate, {
      counts: filters.channels.map((channel) => counts(candidate, channel)), mean: mean(candidate),
      positions: positions[candidate], tuned: tunedPositions(candidate),
    });
  }

  function counts(candidate, channel) {
    const mask = current[candidate].get(channel);
    const truth = known.truth.get(channel);
    const area = masks.area(mask);
    const trueArea = masks.area(truth);
    return { predicted: area, truth: trueArea, dice: masks.dice(area, trueArea, masks.overlap(mask, truth)) };
  }

  function mean(candidate) {
    let sum = 0;
    for (let channel = 0; channel < filters.classes; channel++) sum += counts(candidate, channel).dice;
    return sum / filters.classes;
  }

  // ---- panels

  // One panel per candidate, or one for all.
  function layOut() {
    const groups = isApart() ? candidates.map((_, number) => [number]) : [candidates.map((_, number) => number)];
    panels = groups.map((members) => {
      const img = make("img", { src: loader.imageFile(image), alt: "", draggable: false });
      const canvas = make("canvas");
      const sheet = make("div", { className: "sheet" }, img, canvas);
      const stage = make("div", { className: "stage" }, sheet);
      const title = members.map((number) => candidates[number].name).join(", ");
      stage.setAttribute("role", "img");
      stage.setAttribute("aria-label", `${index.names[image]}, ${title}`);
      const figure = make("figure", {}, ...(groups.length > 1 ? [make("figcaption", {}, title)] : []), stage);
      return { members, img, canvas, sheet, stage, figure };
    });
    for (const one of byId("panels").querySelectorAll("canvas")) Object.assign(one, { width: 0, height: 0 });
    byId("panels").replaceChildren(...panels.map(({ figure }) => figure));
    byId("panels").classList.toggle("wide", filters.width(image) > 2 * filters.height(image));
    zooming.watch(panels, filters.height(image), filters.width(image), zoomed);
  }

  function draw() {
    if (!known) return;
    const height = filters.height(image);
    const width = filters.width(image);
    const step = pixelStep();
    for (const { members, canvas, figure } of panels) {
      figure.hidden = isApart() && !isOn(members[0]) && candidates.some((_, number) => isOn(number));
      const layers = [];
      const add = (classes, style) => {
        for (const [channel, mask] of classes) layers.push({ mask, channel, style });
      };
      if (showsTruth()) add(known.truth, "fill");
      for (const number of members) if (isOn(number)) add(current[number], number);
      drawing.paint(canvas, layers, height, width, step, thickness());
    }
    painted = thickness();
  }

  // Thickness of an outline, in pixels of the canvas.
  const thickness = () => Math.min(8, Math.max(1, Math.round(1.7 / (zooming.scale() * pixelStep()))));

  // Pixels of the image per pixel of the canvas, in each direction: browsers limit the size of a canvas.
  const pixelStep = () => Math.max(1, Math.ceil(Math.sqrt((filters.height(image) * filters.width(image)) / 16e6)));

  // A zoom scales the canvas; it is redrawn only if the outlines change.
  function zoomed() {
    if (known && thickness() !== painted) draw();
  }

  // ---- controls

  function moved(candidate, channel, position) {
    positions[candidate][channel] = position;
    if (!known) return;
    recompute(candidate, channel);
    draw();
  }

  function step(by) {
    const next = images.indexOf(image) + by;
    if (next >= 0 && next < images.length) show(images[next]);
  }

  function resetThresholds() {
    for (const number of runs) positions[number] = tunedPositions(number);
    for (const number of runs) if (known) recompute(number);
    draw();
  }

  function toggle(box) {
    if (!box) return;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change"));
  }

  function closed() {
    document.documentElement.classList.remove("still");
    history.replaceState(null, "", location.pathname + location.search);
    const inGallery = from?.dataset.number !== undefined || !from?.isConnected;
    if (inGallery && gallery.images() === images) gallery.focus(images.indexOf(image));
    else from?.focus();
    for (const { img, canvas } of panels) {
      img.removeAttribute("src");
      Object.assign(canvas, { width: 0, height: 0 });
    }
    byId("panels").replaceChildren();
    panels = [];
    delete dialog.dataset.shown;
  }

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const slides = event.target.type === "range" && event.key.startsWith("Arrow") && !event.shiftKey;
    const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.shiftKey && moves) {
      event.preventDefault();
      zooming.move(...moves);
      return;
    }
    const actions = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), k: () => step(-1), j: () => step(1),
      t: () => toggle(byId("truth")), s: () => toggle(byId("apart")), r: resetThresholds,
      "+": zooming.zoomIn, "=": zooming.zoomIn, "-": zooming.zoomOut, 0: zooming.fit,
      "?": () => { byId("keys").open = !byId("keys").open; },
    };
    const model = /^[1-9]$/.test(event.key) && dialog.querySelector(`[data-candidate="${event.key - 1}"]`);
    if (slides || !(actions[event.key] || model)) return;
    event.preventDefault();
    if (model) toggle(model);
    else actions[event.key]();
  }

  function build() {
    const on = (id, kind, call) => byId(id)?.addEventListener(kind, call);
    on("previous", "click", () => step(-1));
    on("next", "click", () => step(1));
    on("close", "click", () => dialog.close());
    on("reset-thresholds", "click", resetThresholds);
    on("truth", "change", draw);
    on("apart", "change", () => { layOut(); draw(); });
    on("postprocess", "change", () => { for (const number of runs) if (known) recompute(number); draw(); });
    for (const box of dialog.querySelectorAll("[data-candidate]")) box.addEventListener("change", draw);
    // on the document, because a click beside the controls removes the focus
    document.addEventListener("keydown", (event) => { if (dialog.open) onKey(event); });
    tables.build(positions, moved);
    dialog.addEventListener("close", closed);
  }

  return { build, open };
})();
