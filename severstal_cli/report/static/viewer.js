// One image, large: layers, zoom, and the slider that redraws the masks from the levels.
"use strict";

severstal.viewer = (() => {
  const { choosing, drawing, gallery, index, masks, store, zooming } = severstal;
  const { make } = gallery;
  const byId = (id) => document.getElementById(id);
  const dialog = byId("viewer");
  const candidates = index.candidates;
  const runs = candidates.map((_, number) => number).filter((number) => candidates[number].rules);
  // where each slider stands: a place in the steps of the class; behind the last one: never
  const places = candidates.map((_, number) => ownPlaces(number));
  let images = [];
  let image = 0;
  let from = null;
  let known = null; // what is read of the image: {truth, found, levels}
  let current = []; // candidate -> channel -> mask, as the sliders stand
  let panels = [];

  function ownPlaces(number) {
    const { rules, steps } = candidates[number];
    return rules ? rules.map((rule, channel) => {
      const place = steps[channel].indexOf(rule.pixel_threshold);
      return place < 0 ? steps[channel].length : place;
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
    const place = images.indexOf(image);
    byId("viewer-name").textContent = index.names[image];
    byId("viewer-place").textContent =
      `${(place + 1).toLocaleString("en")} of ${images.length.toLocaleString("en")} · ` +
      `${choosing.height(image)} × ${choosing.width(image)} px`;
    byId("previous").disabled = place <= 0;
    byId("next").disabled = place >= images.length - 1;
    history.replaceState(null, "", `#image=${image + 1}`);
    zooming.fit();
    layOut();
    sliders();
    try {
      await read(wanted);
    } catch (error) {
      if (image === wanted) byId("viewer-place").textContent = error.message;
      return;
    }
    if (image !== wanted || !dialog.open) return; // another one was asked for meanwhile
    for (const candidate of candidates.keys()) recompute(candidate);
    draw();
    const means = candidates.map((one, number) => `${one.name} Dice ${mean(number).toFixed(4)}`);
    byId("told").textContent = `${index.names[image]}${index.truth ? `: ${means.join(", ")}` : ""}`;
    dialog.dataset.shown = image; // all of it is drawn
  }

  async function read(wanted) {
    const height = choosing.height(wanted);
    const isEmpty = candidates.every((_, number) => choosing.isEmpty(wanted, number));
    const [columns, ...levels] = await Promise.all([
      isEmpty ? candidates.map(() => ({})).concat({}) : store.masks(wanted),
      ...candidates.map((one, number) => (one.levels?.[wanted] ? store.levels(wanted, number, height) : new Map())),
    ]);
    const [truth, ...found] = columns.map((column) =>
      new Map(Object.entries(column).map(([channel, gaps]) => [Number(channel), masks.fromGaps(gaps, height)])));
    if (image === wanted) known = { truth, found, levels };
  }

  // ---- masks as the sliders stand

  function recompute(candidate, only = null) {
    const { rules, steps } = candidates[candidate];
    if (!rules) current[candidate] = known.found[candidate];
    else {
      if (only === null) current[candidate] = new Map();
      for (let channel = 0; channel < choosing.classes; channel++) {
        const levels = known.levels[candidate].get(channel);
        if (!levels || (only !== null && only !== channel)) continue;
        const place = places[candidate][channel];
        const level = steps[channel][place] ?? 256;
        const rule = byId("filters").checked ? rules[channel] : null;
        current[candidate].set(channel, masks.fromLevels(levels, place + 1, level, rule));
      }
    }
    tell(candidate);
  }

  function counts(candidate, channel) {
    const mask = current[candidate].get(channel);
    const truth = known.truth.get(channel);
    const found = masks.area(mask);
    const there = masks.area(truth);
    return { found, there, dice: masks.dice(found, there, masks.overlap(mask, truth)) };
  }

  function mean(candidate) {
    let sum = 0;
    for (let channel = 0; channel < choosing.classes; channel++) sum += counts(candidate, channel).dice;
    return sum / choosing.classes;
  }

  // ---- the table with the sliders

  function sliders() {
    byId("filters-label").hidden = byId("to-rules").hidden = !runs.length;
    byId("sliders").replaceChildren(...candidates.map((_, number) => table(number)));
  }

  function table(candidate) {
    const { name, rules } = candidates[candidate];
    const head = make("tr", {}, ...["Class", ...(rules ? ["Threshold"] : []), ...(index.truth ? ["True px"] : []), "Mask px",
      ...(index.truth ? ["Dice"] : [])].map((text, number) => make("th", { scope: "col", className: number && text !== "Threshold" ? "number" : "" }, text)));
    const body = make("tbody");
    for (let channel = 0; channel < choosing.classes; channel++) body.append(row(candidate, channel));
    if (index.truth) {
      const all = make("tr", { className: "all" }, make("th", { scope: "row", colSpan: rules ? 4 : 3 }, "all classes"),
        make("td", { className: "number mean" }));
      body.append(all);
    }
    const own = make("table", { className: "sliders" }, make("caption", {}, name), make("thead", {}, head), body);
    own.dataset.table = candidate;
    const wrap = make("div", {}, own);
    if (!rules) wrap.append(make("p", { className: "note" }, "A submission holds masks and no levels: there is no threshold to move."));
    return wrap;
  }

  function row(candidate, channel) {
    const { rules, steps } = candidates[candidate];
    const swatch = make("span", { className: "swatch" });
    swatch.style.setProperty("--colour", index.colours[channel]);
    const tr = make("tr", {}, make("th", { scope: "row" }, swatch, String(channel + 1)));
    tr.dataset.channel = channel;
    if (rules) {
      const slider = make("input", { type: "range", min: 0, max: steps[channel].length, value: places[candidate][channel] });
      slider.setAttribute("aria-label", `Threshold of class ${channel + 1}, ${candidates[candidate].name}`);
      slider.addEventListener("input", () => {
        places[candidate][channel] = Number(slider.value);
        if (!known) return;
        recompute(candidate, channel);
        draw();
      });
      tr.append(make("td", { className: "slide" }, slider, make("output", { ariaLive: "off" })));
    }
    if (index.truth) tr.append(make("td", { className: "number true" }));
    tr.append(make("td", { className: "number found" }));
    if (index.truth) tr.append(make("td", { className: "number dice" }));
    return tr;
  }

  function tell(candidate) {
    const own = dialog.querySelector(`[data-table="${candidate}"]`);
    const { rules, steps } = candidates[candidate];
    for (const tr of own.querySelectorAll("[data-channel]")) {
      const channel = Number(tr.dataset.channel);
      const { found, there, dice } = counts(candidate, channel);
      tr.classList.toggle("idle", !found && !there);
      tr.querySelector(".found").textContent = found.toLocaleString("en");
      if (index.truth) {
        tr.querySelector(".true").textContent = there.toLocaleString("en");
        tr.querySelector(".dice").textContent = dice.toFixed(4);
        tr.querySelector(".dice").dataset.dice = dice;
      }
      if (!rules) continue;
      const place = places[candidate][channel];
      const threshold = place < steps[channel].length ? (steps[channel][place] / 255).toFixed(3) : "never";
      const isOwn = place === ownPlaces(candidate)[channel];
      const slider = tr.querySelector("input");
      slider.value = place;
      slider.setAttribute("aria-valuetext", `${threshold}${isOwn ? ", the rule" : ""}${index.truth ? `, Dice ${dice.toFixed(4)}` : ""}`);
      tr.querySelector("output").textContent = threshold;
      tr.querySelector("output").classList.toggle("own", isOwn);
    }
    if (index.truth) {
      own.querySelector(".mean").textContent = mean(candidate).toFixed(4);
      own.querySelector(".mean").dataset.dice = mean(candidate);
    }
  }

  // ---- the pictures

  // A panel for each candidate, or one for all of them.
  function layOut() {
    const groups = isApart() ? candidates.map((_, number) => [number]) : [candidates.map((_, number) => number)];
    panels = groups.map((members) => {
      const photograph = make("img", { src: store.photograph(image), alt: "", draggable: false });
      const canvas = make("canvas");
      const sheet = make("div", { className: "sheet" }, photograph, canvas);
      const stage = make("div", { className: "stage" }, sheet);
      const title = members.map((number) => candidates[number].name).join(", ");
      stage.setAttribute("role", "img");
      stage.setAttribute("aria-label", `${index.names[image]}, ${title}`);
      const figure = make("figure", {}, ...(groups.length > 1 ? [make("figcaption", {}, title)] : []), stage);
      return { members, photograph, canvas, sheet, stage, figure };
    });
    for (const one of byId("panels").querySelectorAll("canvas")) Object.assign(one, { width: 0, height: 0 });
    byId("panels").replaceChildren(...panels.map(({ figure }) => figure));
    byId("panels").classList.toggle("wide", choosing.width(image) > 2 * choosing.height(image));
    zooming.watch(panels, choosing.height(image), choosing.width(image), draw);
  }

  function draw() {
    if (!known) return;
    const height = choosing.height(image);
    const width = choosing.width(image);
    const step = Math.max(1, Math.ceil(Math.sqrt((height * width) / 16e6)));
    for (const { members, canvas, figure } of panels) {
      figure.hidden = isApart() && !isOn(members[0]) && candidates.some((_, number) => isOn(number));
      const layers = [];
      const add = (found, style) => {
        for (const [channel, mask] of found) layers.push({ mask, channel, style });
      };
      if (showsTruth()) add(known.truth, "fill");
      for (const number of members) if (isOn(number)) add(current[number], number);
      const thick = Math.min(8, Math.max(1, Math.round(1.7 / (zooming.scale(width) * step))));
      drawing.paint(canvas, layers, height, width, step, thick);
    }
  }

  // ---- controls

  function step(by) {
    const next = images.indexOf(image) + by;
    if (next >= 0 && next < images.length) show(images[next]);
  }

  function toRules() {
    for (const number of runs) places[number] = ownPlaces(number);
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
    for (const { photograph, canvas } of panels) {
      photograph.removeAttribute("src");
      Object.assign(canvas, { width: 0, height: 0 });
    }
    byId("panels").replaceChildren();
    panels = [];
    delete dialog.dataset.shown;
  }

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const slides = event.target.type === "range" && event.key.startsWith("Arrow");
    const actions = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), k: () => step(-1), j: () => step(1),
      t: () => toggle(byId("truth")), s: () => toggle(byId("apart")), r: toRules,
      "+": zooming.nearer, "=": zooming.nearer, "-": zooming.farther, 0: zooming.fit,
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
    on("to-rules", "click", toRules);
    on("truth", "change", draw);
    on("apart", "change", () => { layOut(); draw(); });
    on("filters", "change", () => { for (const number of runs) if (known) recompute(number); draw(); });
    for (const box of dialog.querySelectorAll("[data-candidate]")) box.addEventListener("change", draw);
    dialog.addEventListener("keydown", onKey);
    dialog.addEventListener("close", closed);
  }

  return { build, open };
})();
