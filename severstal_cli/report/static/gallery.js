// The gallery: a virtual list, whose cards are in the document only while they are visible.
"use strict";

severstal.gallery = (() => {
  const { filters, drawing, loader, index } = severstal;
  const GAP = 16;
  const AHEAD = 1; // rows above and below the visible ones
  const list = document.getElementById("cards");
  const byId = (id) => document.getElementById(id);
  const state = { candidate: 0, channel: filters.ALL, kind: "all", order: "set", search: "" };
  const cards = new Map(); // index in `images` -> li
  let images = [];
  let current = 0; // the card that Tab reaches
  let layout = { columns: 1, width: 0, thumbnail: 0, row: 1 };

  // Cards fit the median aspect ratio: wide strips need wide cards.
  const shapes = Array.from({ length: filters.count }, (_, image) => filters.width(image) / filters.height(image));
  const shape = Math.min(8, Math.max(0.5, shapes.sort((a, b) => a - b)[Math.floor(shapes.length / 2)] || 1));

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // The label of a card, for screen readers.
  function describe(image, candidate) {
    const parts = filters.classesOf(candidate, image).map(({ channel, name, dice }) =>
      index.truth ? `class ${filters.classLabel(channel)} ${name}, Dice ${dice.toFixed(4)}` : `class ${filters.classLabel(channel)}`);
    const mean = index.truth ? `, Dice ${filters.meanDice(candidate, image).toFixed(4)}` : "";
    return `${index.names[image]}${mean}; ${parts.join("; ") || "no mask"}`;
  }

  // The colour of a class.
  function swatch(channel) {
    const span = make("span", { className: "swatch" });
    span.style.setProperty("--colour", index.colours[channel]);
    return span;
  }

  // A button with the image, its masks and its scores.
  function card(image, candidate, open) {
    const img = make("img", { src: loader.imageFile(image), alt: "", decoding: "async", draggable: false });
    const canvas = make("canvas");
    const tags = make("span", { className: "tags" });
    for (const { channel, kind, name, dice } of filters.classesOf(candidate, image)) {
      const score = index.truth && kind === "partial" ? ` ${dice.toFixed(2)}` : "";
      tags.append(make("span", { className: `tag ${kind}` }, swatch(channel), `${filters.classLabel(channel)}${index.truth ? ` ${name}` : ""}${score}`));
    }
    if (!tags.childNodes.length) tags.append(make("span", { className: "tag none" }, "no mask"));
    const score = make("span", { className: "score" }, index.truth ? filters.meanDice(candidate, image).toFixed(4) : "");
    const button = make("button", { type: "button", className: "card" },
      make("span", { className: "thumbnail" }, img, canvas),
      make("span", { className: "caption" }, make("span", { className: "name", title: index.names[image] }, index.names[image]), score),
      tags);
    button.setAttribute("aria-label", describe(image, candidate));
    button.addEventListener("click", () => open(image, button));
    drawing.preview(canvas, image, candidate).catch(() => button.classList.add("broken"));
    return button;
  }

  function measure() {
    const width = list.clientWidth;
    const least = shape > 2.5 ? 540 : 250;
    const columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    const own = Math.floor((width - GAP * (columns - 1)) / columns);
    const thumbnail = Math.round(Math.min(own / shape, 300));
    layout = { columns, width: own, thumbnail, row: thumbnail + 74 + GAP };
    list.style.height = `${Math.ceil(images.length / columns) * layout.row}px`;
    list.style.setProperty("--thumbnail", `${thumbnail}px`);
  }

  function position(li, number) {
    const column = number % layout.columns;
    const row = Math.floor(number / layout.columns);
    li.style.width = `${layout.width}px`;
    li.style.transform = `translate(${column * (layout.width + GAP)}px, ${row * layout.row}px)`;
  }

  function remove(number) {
    const li = cards.get(number);
    li.querySelector("img").removeAttribute("src"); // lets the browser free it immediately
    Object.assign(li.querySelector("canvas"), { width: 0, height: 0 });
    li.remove();
    cards.delete(number);
  }

  function show() {
    const top = -list.getBoundingClientRect().top;
    const first = Math.max(0, (Math.floor(top / layout.row) - AHEAD) * layout.columns);
    const end = Math.min(images.length, (Math.ceil((top + innerHeight) / layout.row) + AHEAD) * layout.columns);
    for (const [number, li] of cards) {
      if ((number < first || number >= end) && !li.contains(document.activeElement)) remove(number);
    }
    // Tab must reach a visible card
    if (first < end && !cards.has(current) && (current < first || current >= end)) current = Math.min(end - 1, first + AHEAD * layout.columns);
    if (cards.has(current)) cards.get(current).firstChild.tabIndex = 0;
    for (let number = first; number < end; number++) {
      if (cards.has(number)) continue;
      const button = card(images[number], state.candidate, (image, from) => severstal.viewer.open(image, images, from));
      button.tabIndex = number === current ? 0 : -1;
      button.dataset.number = number;
      const li = make("li", {}, button);
      li.setAttribute("aria-posinset", number + 1);
      li.setAttribute("aria-setsize", images.length);
      position(li, number);
      cards.set(number, li);
      // keeps the order of the list for screen readers
      const after = [...cards.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
      list.insertBefore(li, after === undefined ? null : cards.get(after));
    }
  }

  function clear() {
    for (const number of [...cards.keys()]) remove(number);
  }

  // Scrolls to a card and focuses it, even if it is not in the document yet.
  function focus(number) {
    if (number < 0 || number >= images.length) return;
    const before = cards.get(current);
    current = number;
    const row = Math.floor(number / layout.columns) * layout.row;
    const top = list.getBoundingClientRect().top + scrollY;
    const bar = 12;
    // not smoothly, since only visible cards are in the document
    if (top + row < scrollY + bar) scrollTo({ top: top + row - bar, behavior: "instant" });
    else if (top + row + layout.row > scrollY + innerHeight) scrollTo({ top: top + row + layout.row - innerHeight, behavior: "instant" });
    show();
    if (before && before.isConnected) before.firstChild.tabIndex = -1;
    const button = cards.get(number).firstChild;
    button.tabIndex = 0;
    button.focus({ preventScroll: true });
    show();
  }

  function update() {
    const { images: found, counts } = filters.select(state);
    images = found;
    current = 0;
    for (const [kind, number] of Object.entries(counts)) {
      byId(`kind-${kind}`).nextElementSibling.lastElementChild.textContent = number.toLocaleString("en");
    }
    const shown = images.length === filters.count ? "All" : `${images.length.toLocaleString("en")} of`;
    byId("count").textContent = `${shown} ${filters.count.toLocaleString("en")} image${filters.count === 1 ? "" : "s"}`;
    byId("nothing").hidden = images.length > 0;
    clear();
    measure();
    show();
  }

  function choose(changes) {
    Object.assign(state, changes);
    update();
  }

  function build() {
    const set = byId("kinds");
    for (const [kind, name] of [["all", "All"], ...filters.kinds]) {
      const radio = make("input", { type: "radio", name: "kind", value: kind, id: `kind-${kind}`, checked: kind === "all" });
      radio.addEventListener("change", () => choose({ kind }));
      const label = make("label", { htmlFor: radio.id }, name, " ", make("span", { className: "many" }));
      set.append(radio, label);
    }
    byId("choose").addEventListener("submit", (event) => event.preventDefault());
    byId("search").addEventListener("input", (event) => choose({ search: event.target.value }));
    byId("class").addEventListener("change", (event) => choose({ channel: Number(event.target.value) }));
    byId("order").addEventListener("change", (event) => choose({ order: event.target.value }));
    byId("candidate").addEventListener("change", (event) => changeCandidate(Number(event.target.value)));
    byId("reset").addEventListener("click", () => {
      byId("choose").reset();
      Object.assign(state, { channel: filters.ALL, kind: "all", order: "set", search: "" });
      changeCandidate(Number(byId("candidate").value));
      byId("search").focus();
    });
    list.addEventListener("keydown", (event) => {
      const number = Number(event.target.dataset.number);
      if (Number.isNaN(number) || event.altKey || event.ctrlKey || event.metaKey) return;
      const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: layout.columns, ArrowUp: -layout.columns };
      const ends = { Home: 0, End: images.length - 1 };
      const next = event.key in steps ? number + steps[event.key] : ends[event.key];
      if (next === undefined) return;
      event.preventDefault();
      focus(next);
    });
    let request = 0;
    const later = () => {
      cancelAnimationFrame(request);
      request = requestAnimationFrame(show);
    };
    addEventListener("scroll", later, { passive: true });
    new ResizeObserver(() => {
      measure();
      for (const [number, li] of cards) position(li, number);
      later();
    }).observe(list);
    addEventListener("resize", later);
    updateOrders();
    update();
  }

  function changeCandidate(candidate) {
    state.candidate = candidate;
    updateOrders();
    update();
    severstal.showExtremes(candidate);
  }

  // A submission without a scores file has no confidence to sort by.
  function updateOrders() {
    const known = Boolean(index.candidates[state.candidate].confidence);
    for (const name of ["unconfident", "confident"]) byId("order").querySelector(`[value=${name}]`).disabled = !known;
    if (!known && ["unconfident", "confident"].includes(state.order)) byId("order").value = state.order = "set";
  }

  return { build, card, focus, make, state, swatch, images: () => images };
})();
