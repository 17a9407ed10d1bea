// Light, dark, or the theme of the system. Runs before the first paint, so that nothing flashes.
(() => {
  const themes = ["auto", "light", "dark"];
  let theme = "auto";
  try {
    theme = localStorage.getItem("severstal-theme") || "auto";
  } catch {
    // some browsers have no storage for pages opened as files
  }

  function show() {
    if (!themes.includes(theme)) theme = "auto";
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${theme}`;
  }

  show();
  addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      try {
        localStorage.setItem("severstal-theme", theme);
      } catch {
        // as above
      }
      show();
    });
  });
})();
