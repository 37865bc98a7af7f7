// Before the first paint: the chosen theme, and that scripts run.
(function (root) {
  root.classList.add("js");
  try { var theme = localStorage.getItem("fairchild.theme"); if (theme) root.dataset.theme = theme; } catch (e) { /* private mode */ }
})(document.documentElement);
