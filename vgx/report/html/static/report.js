"use strict";
/* One lane, or several seeds together, step by step. What is said, and the ends of axes over all steps, Python wrote for
   each choice of lanes. */

const state = {cell: DATA.first, lanes: DATA.cells[DATA.first].shown, step: 0, statistic: "delta_log10",
               whole: false, smoothing: 0, rows: []};

/* The address says what is chosen, #cell-3 or #lane-7: so reload, back and a link show the same. Of a single run the
   seeds are one cell. An address that says nothing is the first choice; one of another place on the page changes none. */
function follow() {
  const [, kind, number] = /^#(cell|lane)-(\d+)$/.exec(location.hash) ?? [];
  if (kind === "lane" && DATA.lanes[number])
    [state.cell, state.lanes] = [DATA.cells.findIndex(cell => cell.menu.some(([value]) => value === number)), [Number(number)]];
  else if (kind === "cell" && DATA.cells[number])
    [state.cell, state.lanes] = [Number(number), DATA.cells[number].shown];
  else if (location.hash === "")
    [state.cell, state.lanes] = [DATA.first, DATA.cells[DATA.first].shown];
}

/* What the page says of the lanes that are chosen; Python wrote it, as it wrote what the page says at first. */
function showWords() {
  if (typeof showCell === "function") showCell();
  showAnswer();
  const told = state.lanes.slice(0, DATA.told);
  [...byId("verdicts").children].forEach((item, i) => item.hidden = !told.includes(i));
  if (byId("lane")) {
    byId("lane").replaceChildren(...DATA.cells[state.cell].menu.map(([value, text]) => element("option", text, {value})));
    byId("lane").value = state.lanes.length > 1 ? "all" : state.lanes[0];
  }
  for (const [key, text] of Object.entries(choice().captions)) {
    const figure = byId("figure-" + key);
    if (!figure) {
      if (byId(key)) byId(key).textContent = text;
    }
    else {
      figure.querySelector("figcaption").textContent = text;
      describe(key, `${figure.querySelector("h3").textContent}. ${text}`);
    }
  }
}

/* The verdict, and how well it does. */
function showAnswer() {
  const {verdicts, tiles} = choice();
  byId("words").replaceChildren(...verdicts.flatMap(([word, share]) => [badge(word), element("small", ` ${share} `)]));
  byId("tiles").replaceChildren(...tiles.map(([name, value, note]) => {
    const tile = element("div"), figure = element("dd", value);
    if (note) figure.append(element("small", note));
    tile.append(element("dt", name), figure);
    return tile;
  }));
}

function badge(word) {
  const [letter, colour, ink] = DATA.signs[word] ?? ["–", "#707070", "#ffffff"], made = element("span", undefined, {class: "badge"});
  made.style.cssText = `--verdict: ${colour}; --on: ${ink}`;
  made.append(element("span", letter, {class: "letter", "aria-hidden": "true"}), word);
  return made;
}

const shown = (row, field) => row[field + "_flag"] || (row[field] == null ? "not measured" : power(row[field]));

function sentence() {
  const axis = axisOf(state.lanes), hidden = DATA.named ? state.rows : state.rows.slice(0, -1);
  const low = hidden[0], high = hidden[hidden.length - 1], where = axis.steps[state.step].when;
  const many = state.lanes.length > 1 ? `, the median of ${state.lanes.length} seeds` : "";
  if (DATA.named && hidden.length > 1)
    return `${where}: |dloss/dh| is ${shown(low, "delta_log10")} at ${low.place} and ${shown(high, "delta_log10")} at ${high.place}`;
  if (low.delta_log10_flag === "" && low.delta_log10 == null) return `${where}: no gradient was measured here${many}`;
  if (hidden.length === 1) return `${where}: |dloss/dh| is ${shown(low, "delta_log10")} in the only ${DATA.named ? "" : "hidden "}layer${many}`;
  return `${where}: |dloss/dh| is ${shown(low, "delta_log10")} at layer 1 and ${shown(high, "delta_log10")}`
    + ` at layer ${high.layers}, the top${many}`;
}

/* The ends of a figure's axis: those of the step that is shown, or of all steps. */
const endsNow = id => state.whole ? choice().ends[id] : shownEnds(id, state.rows);

/* What hangs on the step. */
async function showStep() {
  const lane = DATA.lanes[state.lanes[0]];
  if (lane.axis === null) return;
  const axis = DATA.axes[lane.axis];
  state.step = Math.min(state.step, axis.steps.length - 1);
  state.rows = layerRows(state.lanes, state.step);
  const text = sentence(), now = middleOf(axis.steps[state.step]);
  stepper.show();
  if (byId("gradient-now")) byId("gradient-now").textContent = text;
  describe("gradient", text);
  await Promise.all(Object.keys(choice().ends).filter(id => views[id]).map(id => {
    const [lo, hi] = endsNow(id);
    return set(views[id].view, {lo, hi}, {layers: state.rows});
  }));
  await Promise.all(["strip", "heat"].filter(id => views[id]).map(id => set(views[id].view, {now}, {})));
  for (const table of document.querySelectorAll("details[open] table[data-of=layers]")) fill(table);
}

const middleOf = when => (when.x + when.x2) / 2;

/* The number of the group of steps in which a lane of the chosen ones was first found broken; null if none was. */
function brokenAt() {
  const lane = DATA.lanes[state.lanes[0]], first = Math.min(...state.lanes.map(i => DATA.lanes[i].diverged ?? Infinity));
  if (lane.axis === null || first === Infinity) return null;
  const {steps} = DATA.axes[lane.axis], at = steps.findLastIndex(when => when.x <= first);
  return Math.max(at, 0);
}

const stepper = player({
  count: () => axisOf(state.lanes).steps.length,
  at: () => state.step,
  go: step => {
    state.step = step;
    return showStep();
  },
  name: step => axisOf(state.lanes).steps[step].when,
  diverged: brokenAt,
});

/* What hangs on the lanes. */
async function showLanes() {
  const lane = DATA.lanes[state.lanes[0]];
  byId("curves").toggleAttribute("data-empty", lane.axis === null);
  if (lane.axis !== null) {
    const axis = DATA.axes[lane.axis];
    state.step = Math.min(state.step, axis.steps.length - 1);
    state.rows = layerRows(state.lanes, state.step);
    for (const id of Object.keys(choice().ends)) {
      if (!SPECS[id]) continue;
      const [lo, hi] = endsNow(id), signals = {lo, hi, top: axis.top};
      if (views[id]) await set(views[id].view, signals, {layers: state.rows});
      else chooseLayers(await embed(id, withParams(withData(SPECS[id], "layers", state.rows), signals)));
    }
    await showStrip();
    await showHeat();
  }
  await showCourse();
  await showStep();
  for (const table of document.querySelectorAll("details[open] table:not([data-of=layers])")) fill(table);
}

async function showCourse() {
  const rows = smooth(courseRows(state.lanes), state.smoothing), smoothed = state.smoothing > 0;
  for (const id of DATA.overSteps) {
    if (!SPECS[id]) continue;
    const {lo, hi} = courseEnds(rows, id), has = SPECS[id].params.some(({name}) => name === "lo");
    const signals = {smoothed, ...has ? {lo, hi} : {}};
    if (views[id]) await set(views[id].view, signals, {course: rows});
    else await embed(id, withParams(withData(SPECS[id], "course", rows), signals));
  }
}

/* The ends of an axis of values over the steps, as Python's stills have them. */
function courseEnds(rows, id) {
  const some = rows.filter(row => row.name.includes(id.replaceAll("_", " "))), fields = ["low", "high", "value"];
  const most = Math.max(...some.flatMap(row => fields.map(field => Math.abs(row[field] ?? 0))), 0), share = id === "accuracy";
  const [lo, hi] = endsOf(some, fields, share ? DATA.least.accuracy : DATA.least.level * most);
  const negative = some.some(row => fields.some(field => row[field] < 0));
  return {lo: negative ? lo : Math.max(lo, 0), hi: share ? Math.min(hi, 1) : hi};
}

/* What a map of a statistic needs to know besides its cells. */
function mapSignals(name) {
  const {steps, top} = axisOf(state.lanes), [lo, hi] = choice().maps[name];
  return {lo, hi, top, first: steps[0].x, last: steps[steps.length - 1].x2, now: middleOf(steps[state.step])};
}

/* A step is chosen by clicking on a map. */
function chooseOn(view) {
  view.addEventListener("click", (_, item) => {
    const s = axisOf(state.lanes).steps.findIndex(when => when.x === item?.datum?.x);
    if (s >= 0) stepper.jump(s);
  });
}

/* A layer is put among those over the steps, or taken out, by clicking on one of its points. */
function chooseLayers(view) {
  view.addEventListener("click", (_, item) => {
    const g = state.rows.findIndex(row => item?.mark.marktype === "symbol" && row.layer === item.datum?.layer);
    if (g >= 0) toggleTrack(g);
  });
}

async function showStrip() {
  if (!SPECS.strip) return;
  const {steps: all} = axisOf(state.lanes), rows = cellRows(state.lanes, "delta_log10");
  chooseOn(await embed("strip", withParams(withData(SPECS.strip, "cells", rows), mapSignals("delta_log10")), "canvas"));
  byId("strip-first").textContent = all[0].when;
  byId("strip-last").textContent = all[all.length - 1].steps;
  describe("strip", `The gradient at every step and every layer, as a small map: ${choice().maps.delta_log10[2]}`);
}

async function showHeat() {
  if (!byId("chart-heat")) return;
  const rows = cellRows(state.lanes, state.statistic);
  const [, , text, odd] = choice().maps[state.statistic], {label, scale} = DATA.statistics[state.statistic];
  chooseOn(await embed("heat", withParams(withData(SPECS["heat_" + scale], "cells", rows), mapSignals(state.statistic))));
  byId("figure-heat").querySelector("figcaption").textContent = `${label}: ${text} ${odd}`;
  describe("heat", `${label}, over steps and layers: ${text} ${odd}`);
  await showTracks();
}

/* Tables of numbers, made when they are opened. */
function fill(table) {
  const [head, body] = table.dataset.of === "layers" ? layerTable(table.dataset.columns.split(","))
    : table.dataset.of === "cells" ? cellTable() : table.dataset.of === "tracks" ? trackTable() : courseTable(table.dataset.columns.split(","));
  fillTable(table, head, body);
}

function layerTable(columns) {
  const there = columns.filter(column => state.rows.some(row => row[column] != null || row[column + "_flag"]));
  return [["layer", ...there.map(column => DATA.columns[column].label)],
          state.rows.map(row => [row.layers, ...there.map(column => said(column, row[column], row[column + "_flag"]))])];
}

function cellTable() {
  const rows = cellRows(state.lanes, state.statistic), byStep = new Map();
  const {layers: places} = axisOf(state.lanes), layers = places.map(place => place.layers);
  for (const row of rows) {
    if (!byStep.has(row.steps)) byStep.set(row.steps, {});
    byStep.get(row.steps)[row.layers] = row.said;
  }
  return [["step", ...places.map(({place}) => place)],
          [...byStep].map(([step, cells]) => [step, ...layers.map(name => cells[name] ?? "")])];
}

function courseTable(columns) {
  const rows = courseRows(state.lanes), bySteps = new Map();
  const names = columns.map(column => DATA.course[column]);
  for (const row of rows)
    if (names.includes(row.name)) {
      if (!bySteps.has(row.steps)) bySteps.set(row.steps, {});
      bySteps.get(row.steps)[row.name] = row.value == null ? "∞" : String(Number(row.value.toPrecision(6)));
    }
  return [["step", ...names], [...bySteps].map(([step, values]) => [step, ...names.map(name => values[name] ?? "")])];
}

function listen() {
  byId("whole-range").addEventListener("change", event => {
    state.whole = event.target.checked;
    inTurn(showStep);
  });
  // While the steps go by an axis that jumps would be all that is seen.
  byId("play").addEventListener("click", () => state.whole = byId("whole-range").checked = true);
  byId("smoothing")?.addEventListener("input", event => {
    state.smoothing = Number(event.target.value);
    byId("smoothing-value").textContent = state.smoothing ? state.smoothing.toFixed(2) : "off";
    inTurn(showCourse);
  });
  choose("add-layer", value => value && toggleTrack(Number(value)));
  listenToZoom();
  choose("lane", value => location.hash = value === "all" ? `cell-${state.cell}` : `lane-${value}`);
  addEventListener("hashchange", () => {
    follow();
    showWords();
    inTurn(showLanes);
  });
  choose("statistic", value => {
    state.statistic = value;
    inTurn(showHeat).then(() => document.querySelectorAll("details[open] table[data-of=cells]").forEach(fill));
  });
  for (const details of document.querySelectorAll("details"))
    details.addEventListener("toggle", () => details.open && details.querySelectorAll("table[data-of]").forEach(fill));
  listenToTheme();
}

async function start() {
  listen();
  state.statistic = byId("statistic")?.value ?? state.statistic;
  follow();
  showWords();
  if (typeof startSweep === "function") await startSweep();
  await inTurn(showLanes);
  document.documentElement.dataset.ready = "yes";
}

addEventListener("DOMContentLoaded", start);
