// Niceties. Everything works without this file.
"use strict";

// Times: the page has UTC; the reader gets words, and its own zone on hover.
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const steps = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function tellTime(el) {
  const at = new Date(el.dateTime);
  if (isNaN(at)) return;
  const seconds = Math.round((at - Date.now()) / 1000);
  const [unit, size] = steps.find(([, s]) => Math.abs(seconds) >= s) || steps[5];
  const text = Math.abs(seconds) < 5 ? "now" : words.format(Math.trunc(seconds / size), unit);
  if (el.textContent !== text) el.textContent = text;
  el.title = exact.format(at);
}
const tellTimes = (root) => root.querySelectorAll("time[datetime]").forEach(tellTime);
setInterval(() => tellTimes(document), 10000);

// Plots of a credential.
function drawPlot(el) {
  if (!window.uPlot || el.dataset.drawn) return;
  el.dataset.drawn = "1";
  const d = JSON.parse(el.dataset.plot);
  const css = getComputedStyle(document.documentElement);
  const color = (name) => css.getPropertyValue(name).trim();
  const axis = { stroke: color("--plot-text"), grid: { stroke: color("--plot-grid"), width: 1 }, ticks: { stroke: color("--plot-grid"), width: 1 } };
  const bars = uPlot.paths.bars({ size: [0.7, 40], align: 1 });
  const series = (label, stroke) => ({ label, stroke, fill: stroke, width: 0, paths: bars, points: { show: false } });
  // Stacked: each series is drawn from zero over the one before, highest first.
  const all = d.times.map((_, i) => d.hits[i] + d.worked[i] + d.failed[i]);
  const two = d.times.map((_, i) => d.worked[i] + d.failed[i]);
  const plot = new uPlot({
    width: el.clientWidth, height: 190, legend: { show: false }, cursor: { show: false },
    scales: { x: { range: (_, min, max) => [min, max + (d.times[1] - d.times[0] || 60)] }, y: { range: (_, __, max) => [0, Math.max(max * 1.1, 4)] } },
    axes: [axis, { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6] }],
    series: [{}, series("From the cache", color("--plot-hits")), series("Fetched", color("--plot-worked")), series("Failed", color("--plot-failed"))],
  }, [d.times, all, two, d.failed], el);
  new ResizeObserver(() => el.clientWidth && plot.setSize({ width: el.clientWidth, height: 190 })).observe(el);
}

function enhance(root) {
  tellTimes(root);
  root.querySelectorAll("[data-plot]").forEach(drawPlot);
}

document.addEventListener("DOMContentLoaded", () => {
  enhance(document);
  const wrong = document.querySelector("[data-focus]");
  if (wrong) wrong.focus();
});
document.addEventListener("htmx:afterSwap", (e) => enhance(e.detail.target.isConnected ? e.detail.target : document));
document.addEventListener("htmx:afterSettle", () => tellTimes(document));
// A button that is off while its request runs loses the focus, and gets it back.
let pressed = null;
document.addEventListener("htmx:beforeRequest", (e) => { pressed = e.target.contains(document.activeElement) ? document.activeElement : null; });
document.addEventListener("htmx:afterRequest", () => { if (pressed?.isConnected && document.activeElement === document.body) pressed.focus({ preventScroll: true }); });
// An answer that is an error is a whole page, unless it is a part: say that it did not work.
document.addEventListener("htmx:responseError", (e) => location.assign(e.detail.pathInfo.requestPath));

document.addEventListener("click", (e) => {
  const copy = e.target.closest("[data-copy]");
  if (copy) {
    const from = copy.dataset.copy ? document.querySelector(copy.dataset.copy).value : copy.parentElement.querySelector("code").textContent;
    navigator.clipboard.writeText(from).then(() => { copy.classList.add("copied"); setTimeout(() => copy.classList.remove("copied"), 1500); });
  }
  // An open menu closes when one clicks elsewhere.
  document.querySelectorAll("details.drop[open]").forEach((d) => { if (!d.contains(e.target)) d.open = false; });
});
document.addEventListener("keydown", (e) => {
  if (e.key === "Escape") document.querySelectorAll("details.drop[open]").forEach((d) => { d.open = false; d.querySelector("summary").focus(); });
  if (e.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    const search = document.querySelector("#q");
    if (search) { e.preventDefault(); search.focus(); }
  }
});
document.addEventListener("change", (e) => {
  if (e.target.matches("[data-check-all]")) e.target.form.querySelectorAll("input[name=id]").forEach((box) => { box.checked = e.target.checked; });
  // Methods that need more open Advanced, where it is.
  if (e.target.matches("[name='in.auth_method']") && /jwt|tls/.test(e.target.value)) e.target.form.querySelector("details.advanced").open = true;
});

// Colors change at once; the cookie is the same that the form sets.
document.addEventListener("submit", (e) => {
  if (!e.target.matches("[data-theme-form]")) return;
  e.preventDefault();
  const theme = e.submitter.value;
  document.cookie = "grantway_theme=" + theme + "; path=/; max-age=31536000; samesite=lax" + (location.protocol === "https:" ? "; secure" : "");
  document.documentElement.setAttribute("data-bs-theme", theme);
});

// Plots are drawn with the colors of their moment.
new MutationObserver(() => document.querySelectorAll("[data-plot]").forEach((el) => { el.replaceChildren(); delete el.dataset.drawn; drawPlot(el); }))
  .observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });

// Networks that cannot be read turn Save off, before anything is sent.
const network = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?:\/(?:3[0-2]|[12]?\d))?|(?=.*:)[0-9a-f:.]{2,45}(?:\/(?:12[0-8]|1[01]\d|[1-9]?\d))?)$/i;
function checkNetworks(field) {
  const wrong = field.value.split(/[\s,]+/).filter((text) => text && !network.test(text));
  field.setCustomValidity(wrong.length ? "Not a network" : "");
  field.classList.toggle("is-invalid", wrong.length > 0);
  field.parentElement.querySelector("[data-networks-error]").textContent = wrong.length ? `${wrong[0]} is not a network such as 10.0.0.0/8, or an address.` : "";
  field.form.querySelector("#save").disabled = wrong.length > 0;
}
document.addEventListener("input", (e) => { if (e.target.matches("[data-networks]")) checkNetworks(e.target); });
