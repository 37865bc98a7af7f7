// Before the first paint: the chosen theme and height of rows, and that scripts run.
(function (root) {
  root.classList.add("js");
  try {
    var theme = localStorage.getItem("fairchild.theme"), rows = localStorage.getItem("fairchild.rows");
    if (theme) root.dataset.theme = theme;
    if (rows) root.dataset.rows = rows;
  } catch (e) { /* private mode */ }
})(document.documentElement);
