"use strict";
/* What every page needs: the figures are JSON in the page, and are drawn in its own ink. */

const read = id => JSON.parse(document.getElementById(id).textContent);
const THEME = read("theme");
const byId = id => document.getElementById(id);
const drawn = x => x !== null && Number.isFinite(x) ? x : null;

const views = {}, spoken = {};

/* What a figure is to those who do not see it. */
function describe(id, text) {
  spoken[id] = text;
  byId("chart-" + id)?.setAttribute("aria-label", text);
}

async function embed(id, spec, renderer = "svg") {
  views[id]?.finalize();
  const place = byId("chart-" + id);
  spoken[id] ??= place.getAttribute("aria-label");
  const done = await vegaEmbed(place, spec, {
    mode: "vega-lite", renderer, actions: false, config: THEME, tooltip: {theme: "custom"}, logLevel: 1,
  });
  describe(id, spoken[id]);  // Vega has put its own name there
  place.querySelector("svg")?.setAttribute("aria-hidden", "true");  // the words are the place's
  views[id] = done;
  return done.view;
}

/* Figures are drawn one after the other, so that the last choice is the last that is drawn. */
let turn = Promise.resolve();
const inTurn = draw => turn = turn.catch(() => {}).then(async () => void await draw());

function set(view, signals, data) {
  for (const [name, value] of Object.entries(signals)) view.signal(name, value);
  for (const [name, rows] of Object.entries(data)) view.data(name, rows);
  return view.runAsync();
}

const withData = (spec, name, rows) => ({...spec, datasets: {...spec.datasets, [name]: rows}});
const withParams = (spec, values) => ({
  ...spec, params: (spec.params ?? []).map(p => p.name in values ? {...p, value: values[p.name]} : p),
});

/* The ends of an axis that holds these fields of rows, `least` from each other at the least. */
function endsOf(rows, fields, least = 0) {
  const known = rows.flatMap(row => fields.map(field => row[field]).filter(x => x != null));
  const [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  const lack = Math.max(least - (high - low), high === low ? 1e-9 : 0) / 2;
  return [low - lack, high + lack];
}

/* The number 10**exponent in two significant figures, however small: 0.24, 3200, 6e-5, 5.6e-629. */
function power(exponent) {
  if (-3 <= exponent && exponent < 5) return String(Number((10 ** exponent).toPrecision(2)));
  const whole = Math.floor(exponent), mantissa = Number((10 ** (exponent - whole)).toFixed(1));
  return mantissa < 10 ? `${mantissa}e${whole}` : `1e${whole + 1}`;
}

/* The number 10**exponent in full, however small: 0.98, 5.6234e-629. */
function plain(exponent, digits = 5) {
  if (-5 < exponent && exponent < 6) return String(Number((10 ** exponent).toPrecision(digits)));
  const whole = Math.floor(exponent), mantissa = Number((10 ** (exponent - whole)).toPrecision(digits));
  return mantissa < 10 ? `${mantissa}e${whole}` : `1e${whole + 1}`;
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function fillTable(table, head, body) {
  const line = (tag, cells) => {
    const row = element("tr");
    row.append(...cells.map((cell, i) => element(i ? tag : "th", cell, i ? {} : {scope: tag === "th" ? "col" : "row"})));
    return row;
  };
  table.tHead.replaceChildren(line("th", head));
  table.tBodies[0].replaceChildren(...body.map(cells => line("td", cells)));
}

function choose(select, change) {
  byId(select)?.addEventListener("change", event => change(event.target.value));
}

function listenToTheme() {
  byId("theme-toggle").addEventListener("click", () => {
    const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
    byId("theme-toggle").setAttribute("aria-pressed", root.dataset.theme === "dark");
  });
}
