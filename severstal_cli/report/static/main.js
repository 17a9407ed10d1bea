// All together: the worst and the best, the gallery, the viewer, and what the address names.
"use strict";

(() => {
  const { choosing, gallery, index, viewer } = severstal;
  const ENDS = 4;

  severstal.ends = (candidate) => {
    if (!index.truth) return;
    const name = document.getElementById("ends-of");
    if (name) name.textContent = index.candidates[candidate].name;
    const all = { candidate, channel: choosing.ALL, kind: "all", search: "" };
    const worst = choosing.select({ ...all, order: "worst" }).images;
    const best = choosing.select({ ...all, order: "best" }).images.filter((image) => !choosing.isClean(image));
    for (const [id, images] of [["worst", worst], ["best", best]]) {
      const shown = images.slice(0, ENDS).map((image) => {
        const li = gallery.make("li");
        // in the page before its canvas is drawn
        document.getElementById(id).append(li);
        li.append(gallery.card(image, candidate, (wanted, from) => viewer.open(wanted, images, from)));
        return li;
      });
      document.getElementById(id).replaceChildren(...shown);
    }
  };

  viewer.build();
  gallery.build();
  severstal.ends(0);

  function follow() {
    const named = /^#image=(\d+)$/.exec(location.hash);
    const image = named && Number(named[1]) - 1;
    if (named && image >= 0 && image < choosing.count) viewer.open(image, gallery.images(), null);
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
