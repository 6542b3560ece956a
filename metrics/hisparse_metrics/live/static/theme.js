// Dark or light: the system's choice unless the reader makes another. A plain script, so that it runs before the first paint.
"use strict";
(() => {
  const KEY = "hisparse-theme";
  const CHOICES = ["system", "light", "dark"];
  const root = document.documentElement;
  let chosen = "system";
  try {
    chosen = CHOICES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "system";
  } catch { /* storage is forbidden here: the choice lasts as long as the page */ }

  const show = () => {
    root.dataset.theme = chosen;
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${chosen}`;
    dispatchEvent(new Event("themechange"));
  };

  show();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
      try { localStorage.setItem(KEY, chosen); } catch { /* as above */ }
      show();
    });
  });
})();
