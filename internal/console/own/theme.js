// Before anything is drawn: the colors that were chosen, else those of the system.
(function () {
  var root = document.documentElement;
  var dark = matchMedia("(prefers-color-scheme: dark)");
  function follow() {
    if (!/(?:^|; )grantway_theme=/.test(document.cookie)) root.setAttribute("data-bs-theme", dark.matches ? "dark" : "light");
  }
  follow();
  dark.addEventListener("change", follow);
  root.classList.add("js");
})();
