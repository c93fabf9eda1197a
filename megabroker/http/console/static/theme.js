// The theme that was chosen, before anything is drawn.
(() => {
  "use strict";
  let theme = null;
  try { theme = localStorage.getItem("megabroker-theme"); } catch { /* storage is switched off */ }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  document.documentElement.classList.add("scripted");
})();
