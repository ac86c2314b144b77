// Before the page is drawn: the colours that somebody chose here before.
try {
  const chosen = localStorage.getItem("expunge-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing shows the system's colours.
}
