// The tables below the pictures of an image: pixels and Dice by class, and a slider for the threshold of each.
"use strict";

severstal.tables = (() => {
  const { filters, gallery, index } = severstal;
  const { make } = gallery;
  const candidates = index.candidates;
  const byId = (id) => document.getElementById(id);
  const tables = [];

  // Once for all images. places: candidate -> channel -> where the slider stands; moved(candidate, channel, place).
  function build(places, moved) {
    byId("filters-label").hidden = byId("to-rules").hidden = !candidates.some(({ rules }) => rules);
    tables.push(...candidates.map((_, number) => table(number, places[number], moved)));
    byId("sliders").replaceChildren(...tables.map((own, number) => make("div", {}, own, ...notes(number))));
  }

  function notes(candidate) {
    const text = "A submission holds masks and no levels: there is no threshold to move.";
    return candidates[candidate].rules ? [] : [make("p", { className: "note" }, text)];
  }

  function table(candidate, places, moved) {
    const { name, rules } = candidates[candidate];
    const titles = ["Class", ...(rules ? ["Threshold"] : []), ...(index.truth ? ["True px"] : []), "Mask px", ...(index.truth ? ["Dice"] : [])];
    const head = titles.map((text) => {
      const isNumber = text !== "Class" && text !== "Threshold";
      return make("th", { scope: "col", className: isNumber ? "number" : "" }, text);
    });
    const body = make("tbody", {}, ...filters.channels.map((channel) => row(candidate, channel, places, moved)));
    if (index.truth) {
      body.append(make("tr", { className: "all" }, make("th", { scope: "row", colSpan: rules ? 4 : 3 }, "all classes"),
        make("td", { className: "number mean" })));
    }
    const own = make("table", { className: "sliders" }, make("caption", {}, name), make("thead", {}, make("tr", {}, ...head)), body);
    own.dataset.table = candidate;
    return own;
  }

  function row(candidate, channel, places, moved) {
    const { name, rules, steps } = candidates[candidate];
    const swatch = make("span", { className: "swatch" });
    swatch.style.setProperty("--colour", index.colours[channel]);
    const tr = make("tr", {}, make("th", { scope: "row" }, swatch, String(channel + 1)));
    tr.dataset.channel = channel;
    if (rules) {
      const slider = make("input", { type: "range", min: 0, max: steps[channel].length, value: places[channel] });
      slider.setAttribute("aria-label", `Threshold of class ${channel + 1}, ${name}`);
      slider.addEventListener("input", () => moved(candidate, channel, Number(slider.value)));
      tr.append(make("td", { className: "slide" }, make("div", {}, slider, make("output", { ariaLive: "off" }))));
    }
    if (index.truth) tr.append(make("td", { className: "number true" }));
    tr.append(make("td", { className: "number found" }));
    if (index.truth) tr.append(make("td", { className: "number dice" }));
    return tr;
  }

  // counts: by channel {found, there, dice}; places, own: by channel, of the sliders and of the rules.
  function tell(candidate, { counts, mean, places, own }) {
    const { rules, steps } = candidates[candidate];
    const table = tables[candidate];
    for (const tr of table.querySelectorAll("[data-channel]")) {
      const channel = Number(tr.dataset.channel);
      const { found, there, dice } = counts[channel];
      tr.classList.toggle("idle", !found && !there);
      tr.querySelector(".found").textContent = found.toLocaleString("en");
      if (index.truth) {
        tr.querySelector(".true").textContent = there.toLocaleString("en");
        tr.querySelector(".dice").textContent = dice.toFixed(4);
        tr.querySelector(".dice").dataset.dice = dice;
      }
      if (!rules) continue;
      const place = places[channel];
      const threshold = place < steps[channel].length ? (steps[channel][place] / 255).toFixed(3) : "never";
      const isOwn = place === own[channel];
      const slider = tr.querySelector("input");
      slider.value = place;
      slider.setAttribute("aria-valuetext", `${threshold}${isOwn ? ", the rule" : ""}${index.truth ? `, Dice ${dice.toFixed(4)}` : ""}`);
      tr.querySelector("output").textContent = threshold;
      tr.querySelector("output").classList.toggle("own", isOwn);
    }
    if (index.truth) {
      table.querySelector(".mean").textContent = mean.toFixed(4);
      table.querySelector(".mean").dataset.dice = mean;
    }
  }

  return { build, tell };
})();
