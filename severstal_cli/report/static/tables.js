// The tables below an image: pixels and Dice of each class, and a slider for its threshold.
"use strict";

severstal.tables = (() => {
  const { filters, gallery, index } = severstal;
  const { make, swatch } = gallery;
  const candidates = index.candidates;
  const byId = (id) => document.getElementById(id);
  const tables = [];

  // Called once. positions: candidate -> channel -> position of the slider; moved(candidate, channel, position).
  function build(positions, moved) {
    byId("postprocess-label").hidden = byId("reset-thresholds").hidden = !candidates.some(({ rules }) => rules);
    tables.push(...candidates.map((_, number) => table(number, positions[number], moved)));
    byId("sliders").replaceChildren(...tables.map((own, number) => make("div", {}, own, ...notes(number))));
  }

  function notes(candidate) {
    const text = "A submission holds masks, not levels, so it has no thresholds to change.";
    return candidates[candidate].rules ? [] : [make("p", { className: "note" }, text)];
  }

  function table(candidate, positions, moved) {
    const { name, rules } = candidates[candidate];
    const scored = (title) => (index.truth ? [title] : []);
    const titles = ["Class", ...(rules ? ["Threshold"] : []), ...scored("Ground truth, px"), "Predicted, px", ...scored("Dice")];
    const head = titles.map((text) => {
      const isNumber = text !== "Class" && text !== "Threshold";
      return make("th", { scope: "col", className: isNumber ? "number" : "" }, text);
    });
    const body = make("tbody", {}, ...filters.channels.map((channel) => row(candidate, channel, positions, moved)));
    if (index.truth) {
      body.append(make("tr", { className: "all" }, make("th", { scope: "row", colSpan: rules ? 4 : 3 }, "all classes"),
        make("td", { className: "number mean" })));
    }
    const own = make("table", { className: "sliders" }, make("caption", {}, name), make("thead", {}, make("tr", {}, ...head)), body);
    own.dataset.table = candidate;
    return own;
  }

  function row(candidate, channel, positions, moved) {
    const { name, rules, steps } = candidates[candidate];
    const tr = make("tr", {}, make("th", { scope: "row" }, swatch(channel), filters.classLabel(channel)));
    tr.dataset.channel = channel;
    if (rules) {
      const slider = make("input", { type: "range", min: 0, max: steps[channel].length, value: positions[channel] });
      slider.setAttribute("aria-label", `Threshold of class ${filters.classLabel(channel)}, ${name}`);
      slider.addEventListener("input", () => moved(candidate, channel, Number(slider.value)));
      tr.append(make("td", { className: "slide" }, make("div", {}, slider, make("output", { ariaLive: "off" }))));
    }
    if (index.truth) tr.append(make("td", { className: "number truth" }));
    tr.append(make("td", { className: "number predicted" }));
    if (index.truth) tr.append(make("td", { className: "number dice" }));
    return tr;
  }

  // counts: channel -> {predicted, truth, dice}; positions, tuned: channel -> position of the slider, of the tuned threshold.
  function update(candidate, { counts, mean, positions, tuned }) {
    const { rules, steps } = candidates[candidate];
    const table = tables[candidate];
    for (const tr of table.querySelectorAll("[data-channel]")) {
      const channel = Number(tr.dataset.channel);
      const { predicted, truth, dice } = counts[channel];
      tr.classList.toggle("idle", !predicted && !truth);
      tr.querySelector(".predicted").textContent = predicted.toLocaleString("en");
      if (index.truth) {
        tr.querySelector(".truth").textContent = truth.toLocaleString("en");
        tr.querySelector(".dice").textContent = dice.toFixed(4);
        tr.querySelector(".dice").dataset.dice = dice;
      }
      if (!rules) continue;
      const position = positions[channel];
      const threshold = position < steps[channel].length ? (steps[channel][position] / 255).toFixed(3) : "disabled";
      const isTuned = position === tuned[channel];
      const slider = tr.querySelector("input");
      slider.value = position;
      slider.setAttribute("aria-valuetext", `${threshold}${isTuned ? ", tuned" : ""}${index.truth ? `, Dice ${dice.toFixed(4)}` : ""}`);
      tr.querySelector("output").textContent = threshold;
      tr.querySelector("output").classList.toggle("tuned", isTuned);
    }
    if (index.truth) {
      table.querySelector(".mean").textContent = mean.toFixed(4);
      table.querySelector(".mean").dataset.dice = mean;
    }
  }

  return { build, update };
})();
