// Zooms and pans all panels together: by buttons, keys, wheel, drag or pinch.
"use strict";

severstal.zooming = (() => {
  const MAX_ZOOM = 32;
  const STEP = 1.5; // factor of a button or key
  const view = { zoom: 1, x: 0, y: 0 }; // x, y: corner of the sheet, in pixels of the stage
  let panels = [];
  let size = { height: 1, width: 1 };
  let fitted = { height: 1, width: 1, stage: 1 }; // the sheet at zoom 1, and the stage's width
  let least = 180; // height of a stage, px: on a small screen a wide strip would be a line
  let redraw = () => {};
  let observer = null;

  const scale = () => (fitted.width * view.zoom) / size.width;

  function watch(shown, height, width, draw, lowest = 180) {
    panels = shown;
    least = lowest;
    size = { height, width };
    redraw = draw;
    observer?.disconnect();
    observer = new ResizeObserver(measure);
    observer.observe(document.getElementById("panels"));
    for (const { stage } of panels) listen(stage);
    measure();
  }

  function measure() {
    if (!panels.length) return;
    const wide = document.getElementById("panels").classList.contains("wide");
    const { stage } = panels.find(({ figure }) => !figure.hidden) || panels[0];
    const highest = Math.max(96, (innerHeight * 0.62) / (wide ? panels.length : 1));
    const width = stage.clientWidth;
    const fit = Math.min(width / size.width, highest / size.height);
    fitted = { height: size.height * fit, width: size.width * fit, stage: width };
    const room = Math.max(fitted.height, Math.min(least, highest));
    for (const panel of panels) panel.stage.style.height = `${Math.round(room)}px`;
    fitted.room = room;
    position();
    redraw();
  }

  function position() {
    const clamp = (at, own, room) => (own <= room ? (room - own) / 2 : Math.min(0, Math.max(room - own, at)));
    view.x = clamp(view.x, fitted.width * view.zoom, fitted.stage);
    view.y = clamp(view.y, fitted.height * view.zoom, fitted.room);
    for (const { sheet, stage } of panels) {
      stage.classList.toggle("near", view.zoom > 1); // otherwise a finger scrolls the page
      sheet.style.width = `${fitted.width * view.zoom}px`;
      sheet.style.height = `${fitted.height * view.zoom}px`;
      sheet.style.transform = `translate(${view.x}px, ${view.y}px)`;
      sheet.classList.toggle("pixels", scale() >= 3);
    }
    document.getElementById("zoom").textContent = `${Math.round(100 * scale())} %`;
  }

  // x, y: the fixed point, by default the centre of the stage.
  function by(factor, x = fitted.stage / 2, y = fitted.room / 2) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
    const change = zoom / view.zoom;
    Object.assign(view, { zoom, x: x - (x - view.x) * change, y: y - (y - view.y) * change });
    position();
    redraw();
  }

  // In quarters of the stage.
  function move(right, down) {
    view.x += (right * fitted.stage) / 4;
    view.y += (down * fitted.room) / 4;
    position();
  }

  // Shows a box, in pixels of the image, as large as the stage allows.
  function to(x, y, width, height) {
    const fit = fitted.width / size.width;
    const zoom = Math.min(MAX_ZOOM, Math.max(1, Math.min(fitted.stage / (width * fit), fitted.room / (height * fit))));
    const middle = (at, length, room) => room / 2 - (at + length / 2) * fit * zoom;
    Object.assign(view, { zoom, x: middle(x, width, fitted.stage), y: middle(y, height, fitted.room) });
    position();
    redraw();
  }

  function fit() {
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    if (panels.length) {
      position();
      redraw();
    }
  }

  function listen(stage) {
    const fingers = new Map();
    const middle = () => {
      const box = stage.getBoundingClientRect();
      const all = [...fingers.values()];
      const mean = (axis) => all.reduce((sum, one) => sum + one[axis], 0) / all.length;
      const apart = all.length > 1 ? Math.hypot(all[0].x - all[1].x, all[0].y - all[1].y) : 0;
      return { x: mean("x") - box.left, y: mean("y") - box.top, apart };
    };
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // a plain wheel scrolls; a pinch on a touchpad counts as Ctrl
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      by(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    stage.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      const before = middle();
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      const after = middle();
      Object.assign(view, { x: view.x + after.x - before.x, y: view.y + after.y - before.y });
      if (before.apart && after.apart) by(after.apart / before.apart, after.x, after.y);
      else position();
    });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
    stage.addEventListener("dblclick", (event) => {
      const box = stage.getBoundingClientRect();
      by(2, event.clientX - box.left, event.clientY - box.top);
    });
  }

  const zoomIn = () => by(STEP);
  const zoomOut = () => by(1 / STEP);
  for (const [id, call] of [["zoom-in", zoomIn], ["zoom-out", zoomOut], ["zoom-fit", fit]]) {
    document.getElementById(id).addEventListener("click", call);
  }

  return { watch, zoomIn, zoomOut, fit, to, move, scale };
})();
