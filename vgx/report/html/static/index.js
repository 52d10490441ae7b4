"use strict";
/* The table of runs: sorted, filtered; two that are ticked, side by side. */

const ROWS = read("rows"), SIGNS = read("signs"), BODY = byId("runs").tBodies[0];
const LETTERS = ["A", "B"];
let sorted = {key: null, down: false}, ticked = [];

const figure = (x, digits) => x === null || x === undefined ? "-" : x.toFixed(digits);
const textOf = row => [row.name, row.net, row.word, ...Object.keys(row.words ?? {}), row.status, row.reason,
  ...Object.entries(row.options ?? {}).map(pair => pair.join(": "))].join(" ").toLowerCase();
ROWS.forEach(row => { row.text = textOf(row); });

function badge(word, count) {
  const sign = SIGNS[word], made = element("span", undefined, {class: "badge", style: `--verdict: ${sign?.colour ?? "#6b6b6b"}`});
  made.append(element("span", sign?.letter ?? "–", {class: "letter", "aria-hidden": "true"}), count ? `${word} ${count}` : word);
  return made;
}

/* The gradient from the output, at the left, to the input; the span of 2 decades to either side is always there. */
function spark({gradient, layers, depth, word}) {
  const made = svg("svg", {class: "spark", viewBox: "0 0 120 34", "aria-hidden": "true", style: `--verdict: ${SIGNS[word]?.colour ?? "#8a8a8a"}`});
  const finite = gradient.filter(Number.isFinite), low = Math.min(-2, ...finite), high = Math.max(2, ...finite);
  const y = value => 32 - 30 * (value - low) / (high - low), x = layer => depth > 1 ? 2 + 116 * (depth - layer) / (depth - 1) : 60;
  made.append(svg("line", {class: "zero", x1: 2, x2: 118, y1: y(0), y2: y(0)}));
  made.append(svg("path", {class: "curve", d: pathThrough(gradient.map((value, i) => [x(layers[i]), value === null ? NaN : y(value)]))}));
  return made;
}

function lineOf(row) {
  const line = element("tr", undefined, {"data-run": row.name}), cell = (content, name) => {
    const made = element("td", undefined, name ? {class: name} : {});
    made.append(...[content].flat());
    line.append(made);
    return made;
  };
  const tick = element("input", undefined, {type: "checkbox", "aria-label": `Compare ${row.name}`, autocomplete: "off"});
  tick.disabled = row.sweep || !row.page;
  tick.addEventListener("change", () => choosePair(tick.checked ? [...ticked, row.name].slice(-2) : ticked.filter(name => name !== row.name)));
  cell(tick);
  const name = row.page ? element("a", row.title, {href: encodeURIComponent(row.page)}) : row.name;
  cell([name, element("small", row.reason ?? row.net)], "name");
  const words = Object.entries(row.words ?? {});
  cell(words.length > 1 ? words.flatMap(([word, count]) => [badge(word, count), element("br")]).slice(0, -1) : badge(row.word));
  const curve = cell(row.gradient?.length ? spark(row) : "-");
  if (row.gradient?.length) curve.append(element("small", `${row.depth} layers, ${spanOf(row)}`));
  cell(figure(row.slope, 3), "number");
  cell(figure(row.accuracy, 4), "number");
  cell(row.step === undefined ? "-" : row.sweep ? `${row.step} lanes` : row.step.toLocaleString("en"), "number");
  cell(row.status ?? "-");
  cell((row.differs ?? []).join(", ") || "-", "differs");
  return line;
}

/* By how much the gradient changes from the top hidden layer to the bottom one, in words. */
function spanOf({gradient}) {
  const change = gradient[0] === null || gradient.at(-1) === null ? NaN : gradient[0] - gradient.at(-1);
  return Number.isFinite(change) ? `${change < 0 ? "" : "+"}${change.toFixed(1)} decades` : "none reaches the bottom";
}

const LINES = new Map(ROWS.map(row => [row.name, lineOf(row)]));

function showRows() {
  const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean), word = byId("word").value;
  const shown = ROWS.filter(row => wanted.every(part => row.text.includes(part)) && (!word || row.word === word));
  if (sorted.key) {
    const value = row => sorted.key === "differs" ? (row.differs ?? []).join(", ") : row[sorted.key] ?? null;
    shown.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null);  // what was not measured stands last either way
      const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
      return sorted.down ? -order : order;
    });
  }
  BODY.replaceChildren(...shown.map(row => LINES.get(row.name)));
  byId("shown").textContent = `${shown.length} of ${ROWS.length} shown`;
  for (const head of document.querySelectorAll("#runs th[data-key]")) {
    if (head.dataset.key === sorted.key) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

/* Opens the comparison of two runs by name; with fewer it closes. The address keeps the pair. */
function choosePair(names, move = true) {
  ticked = names;
  for (const [name, line] of LINES) line.querySelector("input").checked = ticked.includes(name);
  const open = ticked.length === 2;
  history.replaceState(null, "", open ? "#compare=" + ticked.map(encodeURIComponent).join(",") : location.pathname + location.search);
  byId("comparison").hidden = !open;
  if (!open) return;
  showPair(ticked.map(name => ROWS.find(row => row.name === name)));
  if (move) {
    byId("comparison-title").focus({preventScroll: true});
    byId("comparison").scrollIntoView({block: "start"});
  }
}

function showPair(pair) {
  byId("comparison-title").textContent = `${pair[0].title} against ${pair[1].title}`;
  byId("comparison-key").replaceChildren(...pair.flatMap((row, i) => {
    const swatch = svg("svg", {class: "swatch", viewBox: "0 0 30 8", "aria-hidden": "true"});
    swatch.append(svg("line", {x1: 0, x2: 30, y1: 4, y2: 4, "stroke-width": 3, class: "ab"[i]}));
    return [swatch, ` ${LETTERS[i]}: ${row.title} `];
  }));
  const paths = Object.keys(pair[0].options ?? {}).filter(path => pair[0].options[path] !== pair[1].options[path]);
  fillTable(byId("outcomes"), ["outcome", ...pair.map((row, i) => `${LETTERS[i]}: ${row.title}`)], [
    ["verdict", ...pair.map(row => Object.entries(row.words).map(([word, n]) => row.lanes > 1 ? `${word} ${n}` : word).join(", ") || row.status)],
    ["slope", ...pair.map(row => figure(row.slope, 4))], ["test accuracy", ...pair.map(row => figure(row.accuracy, 4))],
    ["training loss", ...pair.map(row => figure(row.loss, 4))], ["steps", ...pair.map(row => row.step.toLocaleString("en"))],
    ...paths.map(path => [path, ...pair.map(row => row.options[path])]),
  ]);
  const same = pair[0].depth === pair[1].depth;
  plot("gradient", pair.map(({gradient, layers, depth}) => layers.map((layer, i) => [same ? layer : depth > 1 ? (layer - 1) / (depth - 1) : 1, gradient[i]])),
    same ? "layer" : "relative depth, 1 at the top", true);
  for (const key of ["test_accuracy", "train_loss"]) plot(key, pair.map(row => row[key].steps.map((step, i) => [step, row[key].values[i]])), "step");
  byId("command").textContent = `vgx compare ${pair.map(row => row.name).join(" ")} --html comparison.html`;
}

/* Lines through points [x, y], a null y breaking them; `back` has x fall from left to right. */
function plot(id, series, label, back = false) {
  const place = byId("chart-" + id), width = place.clientWidth, height = place.clientHeight, left = 48, right = width - 10, bottom = height - 42;
  const points = series.flat().filter(([, y]) => Number.isFinite(y)), root = svg("svg", {viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true"});
  place.setAttribute("aria-label", `${label}: ` + series.map((line, i) => {
    const end = line.filter(([, y]) => Number.isFinite(y)).at(back ? 0 : -1);
    return `${LETTERS[i]} ${end ? `ends at ${end[1]}` : "was not measured"}`;
  }).join(", "));
  if (points.length) {
    const xs = points.map(([x]) => x), ys = points.map(([, y]) => y), [xLow, xHigh] = [Math.min(...xs), Math.max(...xs)];
    let [low, high] = [Math.min(...ys), Math.max(...ys)];
    if (high - low < 1e-9) [low, high] = [low - 1, high + 1];
    const along = x => xHigh > xLow ? (x - xLow) / (xHigh - xLow) : 0.5, at = x => left + (right - left) * (back ? 1 - along(x) : along(x));
    const y = value => bottom - (bottom - 10) * (value - low) / (high - low);
    for (const tick of ticks(low, high, 4)) {
      root.append(svg("line", {class: "grid-line", x1: left, x2: right, y1: y(tick), y2: y(tick)}), svg("text", {x: left - 6, y: y(tick) + 4, "text-anchor": "end"}, String(tick)));
    }
    for (const tick of xHigh > xLow ? ticks(xLow, xHigh, 4) : [xLow]) root.append(svg("text", {x: at(tick), y: bottom + 17, "text-anchor": "middle"}, String(tick)));
    series.forEach((line, i) => root.append(svg("path", {class: `curve ${"ab"[i]}`, d: pathThrough(line.map(([x, value]) => [at(x), value === null ? NaN : y(value)]))})));
  }
  root.append(svg("text", {x: (left + right) / 2, y: bottom + 35, "text-anchor": "middle"}, points.length ? label : "not measured"));
  place.replaceChildren(root);
}

for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const key = button.dataset.sort;
    sorted = {key, down: sorted.key === key && !sorted.down};
    showRows();
  });
}
function fromAddress() {
  const names = (new URLSearchParams(location.hash.slice(1)).get("compare") ?? "").split(",").filter(name => LINES.has(name) && !LINES.get(name).querySelector("input").disabled);
  choosePair(names.slice(0, 2), false);
}

byId("filter").addEventListener("input", showRows);
byId("word").addEventListener("change", showRows);
byId("close").addEventListener("click", () => choosePair([]));
addEventListener("resize", () => ticked.length === 2 && showPair(ticked.map(name => ROWS.find(row => row.name === name))));
addEventListener("hashchange", fromAddress);
listenToTheme();
showRows();
fromAddress();
document.documentElement.dataset.ready = "";
