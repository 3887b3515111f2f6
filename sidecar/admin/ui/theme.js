// The theme: the user's choice, or else the system's. It is a classic script, so that it applies before the first paint.
(() => {
  const CHOICES = ["auto", "light", "dark"];
  const KEY = "sidecar.theme";

  const read = () => {
    try {
      const kept = localStorage.getItem(KEY);
      return CHOICES.includes(kept) ? kept : "auto";
    } catch {
      return "auto"; // storage may be forbidden
    }
  };

  const apply = (choice) => {
    if (choice === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
  };

  apply(read());

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => { button.textContent = `Theme: ${read()}`; };
    show();
    button.addEventListener("click", () => {
      const next = CHOICES[(CHOICES.indexOf(read()) + 1) % CHOICES.length];
      try { localStorage.setItem(KEY, next); } catch { /* storage is forbidden: the choice lasts until the page closes */ }
      apply(next);
      show();
      document.dispatchEvent(new Event("themechange"));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      document.dispatchEvent(new Event("themechange"));
    });
  });
})();
