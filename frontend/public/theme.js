// Runs before the first paint, so that a chosen theme does not flash the other one.
try {
  const theme = localStorage.getItem("sibyl.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const language = localStorage.getItem("sibyl.language");
  if (language) document.documentElement.lang = language;
} catch {
  // Storage may be forbidden; the system's theme then holds.
}
