// Starts the page: worst and best images, gallery, viewer, and the image that the address names.
"use strict";

(() => {
  const { filters, gallery, index, viewer } = severstal;
  const EXTREMES = 4;

  severstal.showExtremes = (candidate) => {
    if (!index.truth) return;
    const name = document.getElementById("extremes-of");
    if (name) name.textContent = index.candidates[candidate].name;
    const all = { candidate, channel: filters.ALL, kind: "all", search: "" };
    const dice = (image) => filters.meanDice(candidate, image);
    const worst = filters.select({ ...all, order: "worst" }).images.filter((image) => dice(image) < 1);
    const best = filters.select({ ...all, order: "best" }).images.filter((image) =>
      !filters.isClean(image) && filters.classesOf(candidate, image).every(({ kind }) => kind === "right"));
    for (const [id, images] of [["worst", worst], ["best", best]]) {
      const shown = images.slice(0, EXTREMES).map((image) => {
        return gallery.make("li", {}, gallery.card(image, candidate, (wanted, from) => viewer.open(wanted, images, from)));
      });
      document.getElementById(id).replaceChildren(...(shown.length ? shown : [gallery.make("li", {}, "none")]));
    }
  };

  viewer.build();
  gallery.build();
  severstal.showExtremes(0);

  // The images of the gallery, or all if the filters exclude this one.
  function among(image) {
    const filtered = gallery.images();
    return filtered.includes(image) ? filtered : Array.from({ length: filters.count }, (_, number) => number);
  }

  function follow() {
    const named = /^#image=(\d+)$/.exec(location.hash);
    const image = named && Number(named[1]) - 1;
    if (named && image >= 0 && image < filters.count) viewer.open(image, among(image), null);
  }
  follow();
  addEventListener("hashchange", follow);

  addEventListener("keydown", (event) => {
    const isTyping = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (event.key !== "/" || isTyping || document.getElementById("viewer").open) return;
    event.preventDefault();
    document.getElementById("search").focus();
  });
  document.documentElement.dataset.ready = "yes";
})();
