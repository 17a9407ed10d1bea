// The list of findings: filters, and a virtual list whose rows are in the document only while they are visible.
"use strict";

severstal.findings = (() => {
  const { index, choices } = severstal;
  const byId = (id) => document.getElementById(id);
  const box = byId("list");
  const list = byId("findings");
  const ROW = 52; // px
  const AHEAD = 4; // rows above and below the visible ones
  const names = index.names.map((name) => name.toLowerCase());
  const state = { kind: -1, channel: -1, decision: "all", search: "" };
  const rows = new Map(); // position in `found` -> li
  let found = []; // numbers of findings
  let current = -1; // a finding
  let open = () => {};

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function swatch(channel) {
    const span = make("span", { className: "swatch" });
    span.style.setProperty("--colour", index.colours[channel]);
    return span;
  }

  function fits(finding, words) {
    const { channel, decision } = state;
    if (channel >= 0 && index.channel[finding] !== channel && index.predicted[finding] !== channel) return false;
    if (decision !== "all" && choices.of(finding) !== decision) return false;
    const other = index.other[finding];
    return words.every((word) => index.rank[finding] === word || names[index.image[finding]].includes(word) ||
      (other >= 0 && names[other].includes(word)));
  }

  // The matching findings, and the number per kind. A choice made later leaves a finding in the list until the next
  // filter: one can go back to it.
  function select() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = [0, ...index.kinds.map(() => 0)];
    found = [];
    for (let finding = 0; finding < index.rank.length; finding++) {
      if (!fits(finding, words)) continue;
      counts[0]++;
      counts[index.kind[finding] + 1]++;
      if (state.kind < 0 || index.kind[finding] === state.kind) found.push(finding);
    }
    return counts;
  }

  function row(finding, position) {
    const { name } = index.kinds[index.kind[finding]];
    const label = index.labels[index.channel[finding]];
    const image = index.names[index.image[finding]];
    const button = make("button", { type: "button", className: "row", tabIndex: -1 },
      make("span", { className: "rank" }, index.rank[finding]),
      make("span", { className: "about" },
        make("span", {}, swatch(index.channel[finding]), `${name}, ${label}`),
        make("span", { className: "name", title: image }, image)),
      make("span", { className: "right" },
        make("span", { className: "score" }, index.score[finding].toFixed(2)), make("span", { className: "mark" })));
    button.addEventListener("click", () => open(finding));
    const li = make("li", {}, button);
    li.style.transform = `translateY(${position * ROW}px)`;
    li.setAttribute("aria-posinset", position + 1);
    li.setAttribute("aria-setsize", found.length);
    return li;
  }

  function mark(li, finding) {
    const choice = choices.of(finding);
    const button = li.firstChild;
    const text = button.lastChild.lastChild;
    text.textContent = choice;
    text.className = `mark ${choice}`;
    if (finding === current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }

  function show() {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - AHEAD);
    const end = Math.min(found.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + AHEAD);
    for (const [position, li] of rows) {
      if ((position < first || position >= end) && !li.contains(document.activeElement)) {
        li.remove();
        rows.delete(position);
      }
    }
    for (let position = first; position < end; position++) {
      if (rows.has(position)) continue;
      const li = row(found[position], position);
      rows.set(position, li);
      // keeps the order of the list for screen readers
      const after = [...rows.keys()].filter((other) => other > position).sort((a, b) => a - b)[0];
      list.insertBefore(li, after === undefined ? null : rows.get(after));
    }
    const at = found.indexOf(current);
    const reached = rows.has(at) ? at : Math.min(...rows.keys()); // by Tab
    for (const [position, li] of rows) {
      mark(li, found[position]);
      li.firstChild.tabIndex = position === reached ? 0 : -1;
    }
  }

  function update() {
    const counts = select();
    for (const [kind, number] of counts.entries()) {
      byId(`kind-${kind - 1}`).nextElementSibling.lastElementChild.textContent = number.toLocaleString("en");
    }
    const all = index.rank.length;
    const shown = found.length === all ? "All" : `${found.length.toLocaleString("en")} of`;
    byId("count").textContent = `${shown} ${all.toLocaleString("en")} finding${all === 1 ? "" : "s"}`;
    byId("nothing").hidden = found.length > 0;
    byId("work").hidden = !found.length;
    for (const li of rows.values()) li.remove();
    rows.clear();
    list.style.height = `${found.length * ROW}px`;
    box.scrollTop = 0;
    if (found.length) open(found.includes(current) ? current : found[0]);
    show();
  }

  function choose(changes) {
    Object.assign(state, changes);
    update();
  }

  function showAll() {
    byId("choose").reset();
    choose({ kind: -1, channel: -1, decision: "all", search: "" });
  }

  // Marks a finding as the one that is shown, and scrolls the list to it.
  function goTo(finding) {
    const hadFocus = list.contains(document.activeElement);
    current = finding;
    const top = found.indexOf(finding) * ROW;
    if (top >= 0 && (top < box.scrollTop || top + ROW > box.scrollTop + box.clientHeight)) {
      box.scrollTop = Math.max(0, top - box.clientHeight / 2 + ROW / 2);
    }
    show();
    if (hadFocus) rows.get(found.indexOf(finding))?.firstChild.focus({ preventScroll: true });
  }

  function build(opened) {
    open = opened;
    const set = byId("kinds");
    for (const [kind, name] of [[-1, "All"], ...index.kinds.map(({ name }, number) => [number, name])]) {
      const radio = make("input", { type: "radio", name: "kind", value: kind, id: `kind-${kind}`, checked: kind < 0 });
      radio.addEventListener("change", () => choose({ kind }));
      set.append(radio, make("label", { htmlFor: radio.id }, name, " ", make("span", { className: "many" })));
    }
    byId("choose").addEventListener("submit", (event) => event.preventDefault());
    byId("search").addEventListener("input", (event) => choose({ search: event.target.value }));
    byId("class").addEventListener("change", (event) => choose({ channel: Number(event.target.value) }));
    byId("decision").addEventListener("change", (event) => choose({ decision: event.target.value }));
    byId("reset").addEventListener("click", () => {
      showAll();
      byId("search").focus();
    });
    let request = 0;
    const later = () => {
      cancelAnimationFrame(request);
      request = requestAnimationFrame(show);
    };
    box.addEventListener("scroll", later, { passive: true });
    new ResizeObserver(later).observe(box);
    update();
  }

  return { build, showAll, make, swatch, show, goTo, all: () => found };
})();
