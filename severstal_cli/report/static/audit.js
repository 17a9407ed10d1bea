// Shows one finding of an audit over its image, takes the choice on it, and starts the page.
"use strict";

(() => {
  const { index, masks, loader, drawing, zooming, choices, findings } = severstal;
  const { make, swatch } = findings;
  const byId = (id) => document.getElementById(id);
  const section = byId("finding");
  const FAINT = 35; // opacity of the annotation of other classes
  const STRONG = 75;
  let shown = -1; // a finding
  let known = null; // its masks, once they are read
  let panels = [];
  let painted = 0;

  const height = (image) => index.sizes[2 * image];
  const width = (image) => index.sizes[2 * image + 1];
  const boxOf = (finding) => index.box.slice(4 * finding, 4 * finding + 4);
  // the class of the outline: that to which a component would move
  const outlineChannel = (finding) => (index.predicted[finding] >= 0 ? index.predicted[finding] : index.channel[finding]);

  // ---- a finding

  async function open(finding) {
    const isNew = finding !== shown;
    shown = finding;
    findings.goTo(finding);
    describe();
    if (!isNew) return;
    known = null;
    delete section.dataset.shown;
    delete section.dataset.unknown;
    layOut();
    try {
      const read = await readMasks(finding);
      if (finding !== shown) return; // another one was opened meanwhile
      known = read;
      if (index.other[finding] >= 0 && !read.outline.bits.length) byId("fault").append(" It has no such mask.");
    } catch (error) {
      if (finding !== shown) return;
      byId("status").textContent = byId("fault").textContent = error.message;
      section.dataset.unknown = ""; // hides the choices
      return;
    }
    draw();
    section.dataset.shown = finding; // everything is drawn
    prefetch();
  }

  async function readMasks(finding) {
    const image = index.image[finding];
    const other = index.other[finding];
    const [own, near, rows] = await Promise.all([
      loader.masks(image), other < 0 ? [{}] : loader.masks(other), loader.rows(Math.floor(finding / index.rows)),
    ]);
    const drawn = (columns) => Object.entries(columns[0]).map(([channel, gaps]) =>
      ({ channel: Number(channel), mask: masks.fromGaps(gaps, height(image)) }));
    const text = rows[finding % index.rows][index.mask];
    return { own: drawn(own), near: drawn(near), outline: masks.fromText(text, height(image)) };
  }

  // The files of the next finding.
  function prefetch() {
    const next = findings.all()[findings.all().indexOf(shown) + 1];
    if (next === undefined) return;
    for (const image of [index.image[next], index.other[next]]) if (image >= 0) new Image().src = loader.imageFile(image);
    readMasks(next).catch(() => {}); // reported when it is opened
  }

  function describe() {
    const kind = index.kinds[index.kind[shown]];
    const channel = index.channel[shown];
    const [x, y, w, h] = boxOf(shown);
    const fill = (text) => text
      .replace("{class}", () => index.labels[index.predicted[shown]] ?? "")
      .replace("{other}", () => index.names[index.other[shown]] ?? "");
    byId("finding-title").replaceChildren(`${index.rank[shown]}. ${kind.name}: class `, swatch(channel), index.labels[channel]);
    byId("image-name").textContent =
      `${index.names[index.image[shown]]} · score ${index.score[shown].toFixed(4)} · ` +
      `${index.pixels[shown].toLocaleString("en")} px in ${w} × ${h} at ${x}, ${y}`;
    byId("fault").replaceChildren(make("strong", {}, fill(kind.fault)), ` If accepted, ${fill(kind.accepted)}`);
    byId("outline-name").textContent = kind.outline;
    byId("legend").textContent = index.predicted[shown] >= 0
      ? `in the colour of class ${index.labels[outlineChannel(shown)]}` : "";
    const all = findings.all();
    const position = all.indexOf(shown);
    byId("position").textContent = `${(position + 1).toLocaleString("en")} of ${all.length.toLocaleString("en")}`;
    // not disabled: a disabled button loses the focus
    byId("previous").setAttribute("aria-disabled", position <= 0);
    byId("next").setAttribute("aria-disabled", position >= all.length - 1);
    const choice = choices.of(shown);
    for (const button of document.querySelectorAll(".choice")) {
      button.setAttribute("aria-pressed", button.dataset.choice === choice);
    }
    byId("status").textContent = `${byId("finding-title").textContent}, ${index.names[index.image[shown]]}` +
      (choice ? `, ${choice}` : "");
  }

  // ---- panels: the image alone and with its masks, and a near-duplicate with its own

  function layOut() {
    const image = index.image[shown];
    const other = index.other[shown];
    const titles = [["", image, "image"], ["own", image, "annotation and outline"]];
    if (other >= 0) titles.push(["near", other, `near-duplicate ${index.names[other]}`]);
    release();
    byId("panels").classList.toggle("wide", isWide());
    panels = titles.map(([layer, number, title]) => {
      const img = make("img", { src: loader.imageFile(number), alt: "", draggable: false });
      const canvas = make("canvas");
      const sheet = make("div", { className: "sheet" }, img, canvas, place(make("span", { className: "box" })));
      const stage = make("div", { className: "stage" }, sheet);
      stage.setAttribute("role", "img");
      stage.setAttribute("aria-label", `${index.names[number]}, ${title}`);
      return { layer, img, canvas, sheet, stage, figure: make("figure", {}, make("figcaption", {}, title), stage) };
    });
    byId("panels").replaceChildren(...panels.map(({ figure }) => figure));
    const whole = document.querySelector(".sheet-whole");
    whole.style.aspectRatio = `${width(image)} / ${height(image)}`;
    whole.style.setProperty("--shape", width(image) / height(image));
    whole.firstElementChild.src = loader.imageFile(image);
    place(whole.querySelector(".box"));
    zooming.watch(panels, height(image), width(image), zoomed, lowest());
    toBox();
  }

  // Frees images and canvases at once.
  function release() {
    for (const { img, canvas } of panels) {
      img.removeAttribute("src");
      Object.assign(canvas, { width: 0, height: 0 });
    }
    const canvas = document.querySelector(".sheet-whole canvas");
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }

  function place(element) {
    const image = index.image[shown];
    const [x, y, w, h] = boxOf(shown);
    Object.assign(element.style, {
      left: `${(100 * x) / width(image)}%`, top: `${(100 * y) / height(image)}%`,
      width: `${(100 * w) / width(image)}%`, height: `${(100 * h) / height(image)}%`,
    });
    return element;
  }

  // The box and the outline with as much around them, within the image.
  function crop() {
    const image = index.image[shown];
    const [x, y, w, h] = index.view.slice(4 * shown, 4 * shown + 4);
    const around = Math.max(16, 0.5 * Math.max(w, h));
    const left = Math.max(0, x - around);
    const top = Math.max(0, y - around);
    const right = Math.min(width(image), x + w + around);
    const bottom = Math.min(height(image), y + h + around);
    return [left, top, right - left, bottom - top];
  }

  const toBox = () => zooming.to(...crop());

  // Wide crops are stacked, others are side by side.
  function isWide() {
    const [, , w, h] = crop();
    return w > 1.8 * h;
  }

  // Height of a stage that the crop fills, in px.
  function lowest() {
    const [, , w, h] = crop();
    const most = isWide() ? innerHeight * 0.23 : Math.min(380, innerHeight * 0.42); // two of them are in sight
    return Math.max(140, Math.min(most, (panels[0].stage.clientWidth * h) / w));
  }

  function layersOf(layer) {
    const layers = [];
    if (byId("drawn").checked) {
      for (const { channel, mask } of known[layer]) {
        const tint = channel === index.channel[shown] ? STRONG : FAINT;
        layers.push({ mask, channel, style: "fill", tint });
      }
    }
    if (byId("outlined").checked && layer === "own") {
      layers.push({ mask: known.outline, channel: outlineChannel(shown), style: 0 });
    }
    return layers;
  }

  function draw() {
    if (!known) return;
    const image = index.image[shown];
    for (const { layer, canvas } of panels) {
      if (layer) drawing.paint(canvas, layersOf(layer), height(image), width(image), pixelStep(), thickness());
    }
    const whole = document.querySelector(".sheet-whole canvas");
    const step = Math.max(1, Math.floor(Math.max(height(image), width(image)) / 1600));
    drawing.paint(whole, layersOf("own"), height(image), width(image), step, 2);
    painted = thickness();
  }

  // Thickness of an outline, in pixels of the canvas: it must stand out from a tint of the same colour.
  const thickness = () => Math.min(8, Math.max(1, Math.round(2.6 / (zooming.scale() * pixelStep()))));

  // Pixels of the image per pixel of the canvas, in each direction: browsers limit the size of a canvas.
  const pixelStep = () => Math.max(1, Math.ceil(Math.sqrt((height(index.image[shown]) * width(index.image[shown])) / 16e6)));

  function zoomed() {
    if (known && thickness() !== painted) draw();
  }

  // ---- choices

  function decide(choice) {
    if (section.dataset.unknown !== undefined || byId("work").hidden) return;
    const decided = shown;
    // the same choice again removes it
    choices.set(decided, choices.of(decided) === choice ? "" : choice);
    if (choices.of(decided)) step(1);
    byId("status").textContent = `${index.rank[decided]}: ${choices.of(decided) || "no choice"}. ${byId("status").textContent}`;
  }

  function undo() {
    const finding = choices.undo();
    if (finding === null) return;
    if (byId("work").hidden || !findings.all().includes(finding)) findings.showAll();
    open(finding);
  }

  function step(by) {
    const all = findings.all();
    const next = all[all.indexOf(shown) + by];
    if (next !== undefined) open(next);
  }

  function showProgress() {
    const counts = choices.counts();
    const many = (number) => number.toLocaleString("en");
    byId("progress").textContent = `${many(index.rank.length - counts[""])} of ${many(index.rank.length)} decided: ` +
      `${many(counts.accept)} accept, ${many(counts.reject)} reject, ${many(counts.skip)} skip`;
    byId("storage").hidden = choices.isKept();
    byId("undo").setAttribute("aria-disabled", !choices.canUndo());
    if (shown >= 0) describe();
    findings.show();
  }

  // ---- controls

  function toggle(box) {
    box.checked = !box.checked;
    draw();
  }

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.tagName === "SELECT" || event.target.type === "search") return;
    if (event.target.type === "radio" && event.key.startsWith("Arrow")) return;
    const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (event.shiftKey && moves) {
      event.preventDefault();
      zooming.move(...moves);
      return;
    }
    const inList = byId("list").contains(event.target);
    const actions = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), k: () => step(-1), j: () => step(1), u: undo,
      ...(inList ? { ArrowUp: () => step(-1), ArrowDown: () => step(1) } : {}),
      d: () => toggle(byId("drawn")), o: () => toggle(byId("outlined")), b: toBox,
      "+": zooming.zoomIn, "=": zooming.zoomIn, "-": zooming.zoomOut, 0: zooming.fit,
      "/": () => byId("search").focus(), "?": () => { byId("keys").open = !byId("keys").open; },
    };
    for (const choice of index.choices) actions[choice[0]] = () => { if (!event.repeat) decide(choice); };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  }

  for (const button of document.querySelectorAll(".choice")) {
    button.addEventListener("click", () => decide(button.dataset.choice));
  }
  for (const [id, call] of [["previous", () => step(-1)], ["next", () => step(1)], ["undo", undo], ["zoom-box", toBox]]) {
    byId(id).addEventListener("click", call);
  }
  for (const id of ["drawn", "outlined"]) byId(id).addEventListener("change", draw);
  byId("export").addEventListener("click", () => {
    choices.save().then(
      () => { byId("status").textContent = "decisions.csv is exported"; },
      (error) => { byId("progress").textContent = byId("status").textContent = `Nothing was exported: ${error.message}`; },
    );
  });
  document.addEventListener("keydown", onKey);
  choices.watch(showProgress);
  findings.build(open);
  showProgress();
  document.documentElement.dataset.ready = "yes";
})();
