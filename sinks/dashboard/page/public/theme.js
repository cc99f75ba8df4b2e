// Applies the chosen theme before the first paint. A separate file, since the page's policy forbids inline scripts.
try {
  var theme = localStorage.getItem("watchfold.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch (error) {
  // Storage can be forbidden; the system's theme applies then.
}
