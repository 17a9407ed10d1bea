// All together: the worst and the best, the gallery, the viewer, and what the address names.
"use strict";

(() => {
  const { filters, gallery, index, viewer } = severstal;
  const ENDS = 4;

  severstal.ends = (candidate) => {
    if (!index.truth) return;
    const name = document.getElementById("ends-of");
    if (name) name.textContent = index.candidates[candidate].name;
    const all = { candidate, channel: filters.ALL, kind: "all", search: "" };
    const dice = (image) => filters.meanDice(candidate, image);
    const worst = filters.select({ ...all, order: "worst" }).images.filter((image) => dice(image) < 1);
    const best = filters.select({ ...all, order: "best" }).images.filter((image) =>
      !filters.isClean(image) && filters.told(candidate, image).every(({ kind }) => kind === "right"));
    for (const [id, images] of [["worst", worst], ["best", best]]) {
      const shown = images.slice(0, ENDS).map((image) => {
        return gallery.make("li", {}, gallery.card(image, candidate, (wanted, from) => viewer.open(wanted, images, from)));
      });
      document.getElementById(id).replaceChildren(...(shown.length ? shown : [gallery.make("li", {}, "none")]));
    }
  };

  viewer.build();
  gallery.build();
  severstal.ends(0);

  // The images that are chosen, or all where they leave out this one.
  function among(image) {
    const chosen = gallery.images();
    return chosen.includes(image) ? chosen : Array.from({ length: filters.count }, (_, number) => number);
  }

  function follow() {
    const named = /^#image=(\d+)$/.exec(location.hash);
    const image = named && Number(named[1]) - 1;
    if (named && image >= 0 && image < filters.count) viewer.open(image, among(image), null);
  }
  follow();
  addEventListener("hashchange", follow);

  addEventListener("keydown", (event) => {
    const writes = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.key !== "/" || writes || document.getElementById("viewer").open) return;
    event.preventDefault();
    document.getElementById("search").focus();
  });
  document.documentElement.dataset.ready = "yes";
})();
