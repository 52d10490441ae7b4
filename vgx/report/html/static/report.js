"use strict";
/* One lane, or several seeds together, step by step. The data and the figures are JSON in the page; selection.py draws
   the same rows for the stills. */

const DATA = read("data"), SPECS = read("specs");
const NULL = 0x7fc0dead;
const SUFFIXES = ["", "_low", "_high"];

function floats(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return {value: new Float32Array(bytes.buffer), bits: new Uint32Array(bytes.buffer)};
}

/* Where each lane's numbers begin. */
const numbers = floats(DATA.numbers), courses = floats(DATA.courseNumbers);
const statistics = Object.keys(DATA.statistics), courseNames = Object.keys(DATA.course);
const points = DATA.courseSteps.first.length;
const courseKinds = DATA.courseSteps.thin ? 3 : 1;
const offsets = [];
DATA.lanes.reduce((offset, lane) => {
  offsets.push(offset);
  if (lane.axis === null) return offset;
  const axis = DATA.axes[lane.axis];
  return offset + statistics.length * (axis.thin ? 3 : 1) * axis.first.length * axis.lowest.length;
}, 0);

/* A number of the layer table: null if it was not measured. Kinds: 0 the mean, 1 the lowest, 2 the highest. */
function at(lane, statistic, kind, s, g) {
  const axis = DATA.axes[DATA.lanes[lane].axis], groups = axis.lowest.length, steps = axis.first.length;
  const kinds = axis.thin ? 3 : 1;
  const i = offsets[lane] + ((statistics.indexOf(statistic) * kinds + (axis.thin ? kind : 0)) * steps + s) * groups + g;
  return numbers.bits[i] === NULL ? null : numbers.value[i];
}

function courseAt(lane, c, kind, p) {
  const i = ((lane * courseKinds + (courseKinds === 3 ? kind : 0)) * points + p) * courseNames.length + c;
  return courses.bits[i] === NULL ? null : courses.value[i];
}

/* Several lanes as one: their median, the lowest and the highest. */
function together(values, kind) {
  const measured = values.filter(x => x !== null);
  if (!measured.length) return null;
  if (measured.length === 1) return measured[0];
  const known = measured.filter(x => !Number.isNaN(x)).sort((a, b) => a - b);
  if (!known.length) return NaN;
  if (kind) return kind === 1 ? known[0] : known[known.length - 1];
  const lower = known[(known.length - 1) >> 1], upper = known[known.length >> 1];
  return lower === upper ? lower : (lower + upper) / 2;
}

const logarithmic = column => ["log10", "log"].includes(DATA.columns[column].scale);
/* A number of a column in words: one whose logarithm is drawn is said as it is, as the axis names it. */
const said = (column, x, mark, digits = 6) =>
  mark || (x == null ? "" : logarithmic(column) ? plain(x) : String(Number(x.toPrecision(digits))));

const scaled = (statistic, x) => x !== null && DATA.statistics[statistic].scale === "log" ? Math.log10(x) : x;
const flag = x => x === null || Number.isFinite(x) ? "" : Number.isNaN(x) ? "NaN" : x < 0 ? "0" : "∞";
const layerName = (axis, g) => axis.lowest[g] === axis.top ? "readout" : span(axis.lowest[g], axis.highest[g]);
const stepName = (axis, s) => axis.first[s] === axis.last[s]
  ? `step ${axis.first[s].toLocaleString("en")}` : `steps ${span(axis.first[s], axis.last[s])}`;

/* A row for each layer at one step, as the figures want it. */
function layerRows(lanes, s) {
  const axis = DATA.axes[DATA.lanes[lanes[0]].axis];
  const rows = axis.lowest.map((low, g) => {
    const row = {layer: (low + axis.highest[g]) / 2, layers: layerName(axis, g)};
    for (const name of statistics)
      SUFFIXES.forEach((suffix, kind) => {
        const value = scaled(name, together(lanes.map(lane => at(lane, name, kind, s, g)), kind));
        row[name + suffix] = drawn(value);
        if (!kind) row[name + "_flag"] = flag(value);
        if (!kind) row[name + "_said"] = said(name, row[name], row[name + "_flag"]);
      });
    if (row.act_mean != null && row.act_rms != null) {
      const spread = Math.sqrt(Math.max(row.act_rms ** 2 - row.act_mean ** 2, 0));
      row.act_below = row.act_mean - spread;
      row.act_above = row.act_mean + spread;
    }
    if (row.weight_grad_zero != null)
      row.seen = row.weight_grad_zero === 1 ? "only zeros" : row.weight_grad_zero > 0 ? "some zeros" : "no zeros";
    return row;
  });
  addPrediction(rows, lanes[0]);
  return rows;
}

/* The predicted gradient is relative to the readout's: it hangs on the one that was measured first. */
function addPrediction(rows, lane) {
  for (const [name, predicted] of Object.entries(DATA.lanes[lane].predicted)) {
    if (!predicted.value) continue;
    const anchor = name === "delta_log10" ? at(lane, name, 0, 0, rows.length - 1) : 0;
    const prefix = name === "delta_log10" ? "predicted" : "predicted_" + name;
    rows.forEach((row, g) => {
      const value = predicted.value[g] === null ? NaN : predicted.value[g] + anchor;
      const band = predicted.band[g] === null ? NaN : DATA.far * predicted.band[g];
      row[prefix] = drawn(value);
      row[prefix + "_low"] = drawn(value - band);
      row[prefix + "_high"] = drawn(value + band);
    });
  }
}

/* A row for each step and layer of a statistic. */
function cellRows(lanes, name) {
  const axis = DATA.axes[DATA.lanes[lanes[0]].axis], count = axis.first.length, rows = [];
  const width = count > 1 ? axis.first[1] - axis.first[0] : 1;
  for (let s = 0; s < count; s++)
    for (let g = 0; g < axis.lowest.length; g++) {
      const [value, low, high] = [0, 1, 2].map(kind =>
        scaled(name, together(lanes.map(lane => at(lane, name, kind, s, g)), kind)));
      if (value === null) continue;
      rows.push({
        x: axis.first[s], x2: s + 1 < count ? axis.first[s + 1] : axis.last[s] + width,
        y: axis.lowest[g] - 0.5, y2: axis.highest[g] + 0.5,
        value: drawn(value), low: drawn(low), high: drawn(high), flag: flag(value), said: said(name, drawn(value), flag(value), 5),
        low_said: said(name, drawn(low), flag(low), 5), high_said: said(name, drawn(high), flag(high), 5),
        steps: span(axis.first[s], axis.last[s]), layers: layerName(axis, g),
      });
    }
  return rows;
}

/* A row for each step and curve of the metrics. */
function courseRows(lanes) {
  const {first, last} = DATA.courseSteps, rows = [];
  courseNames.forEach((name, c) => {
    const some = [];
    for (let p = 0; p < points; p++) {
      const [value, low, high] = [0, 1, 2].map(kind => together(lanes.map(lane => courseAt(lane, c, kind, p)), kind));
      if (value !== null && !Number.isNaN(value))
        some.push({step: (first[p] + last[p]) / 2, steps: span(first[p], last[p]), name: DATA.course[name],
                   value: drawn(value), low: drawn(low), high: drawn(high)});
    }
    const sparse = some.length < points / 2 || some.length === 1;
    some.forEach(row => rows.push({...row, sparse}));
  });
  return rows;
}

/* Figures over the layers: which fields their axis holds, and how long it is at the least. */
const BY_LAYER = {
  gradient: {fields: ["delta_log10_low", "delta_log10_high", "predicted_low", "predicted_high", "predicted"], least: 1},
  weights: {fields: ["weight_grad_log10_low", "weight_grad_log10_high"], least: 1},
  activations: {hidden: true, fields: ["act_below", "act_above"]},
  sizes: {hidden: true, fields: ["preact_std", "act_rms", "predicted_preact_std", "predicted_act_rms"], zero: true},
  shares: {share: true, fields: ["dead", "saturated", "weight_grad_zero"]},
  updates: {fields: ["update_ratio_low", "update_ratio_high"], least: 1},
};

const state = {cell: DATA.first, lanes: DATA.cells[DATA.first].shown, step: 0, statistic: "delta_log10", rows: []};

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
  const told = state.lanes.slice(0, DATA.told);
  [...byId("verdicts").children].forEach((item, i) => item.hidden = !told.includes(i));
  if (byId("lane")) {
    byId("lane").replaceChildren(...DATA.cells[state.cell].menu.map(([value, text]) => element("option", text, {value})));
    byId("lane").value = state.lanes.length > 1 ? "all" : state.lanes[0];
  }
  for (const [key, text] of Object.entries(DATA.captions[state.lanes.join()])) {
    const figure = byId("figure-" + key);
    if (!figure) byId(key).textContent = text;
    else {
      figure.querySelector("figcaption").textContent = text;
      describe(key, `${figure.querySelector("h3").textContent}. ${text}`);
    }
  }
}

const shown = (row, field) => row[field + "_flag"] || (row[field] == null ? "not measured" : power(row[field]));

function sentence() {
  const axis = DATA.axes[DATA.lanes[state.lanes[0]].axis], hidden = state.rows.slice(0, -1);
  const low = hidden[0], high = hidden[hidden.length - 1], where = stepName(axis, state.step);
  const many = state.lanes.length > 1 ? `, the median of ${state.lanes.length} seeds` : "";
  if (low.delta_log10_flag === "" && low.delta_log10 == null) return `${where}: no gradient was measured here${many}`;
  if (hidden.length === 1) return `${where}: |dloss/dh| is ${shown(low, "delta_log10")} in the only hidden layer${many}`;
  return `${where}: |dloss/dh| is ${shown(low, "delta_log10")} at layer 1 and ${shown(high, "delta_log10")}`
    + ` at layer ${high.layers}, the top${many}`;
}

/* What hangs on the step. */
async function showStep() {
  const lane = DATA.lanes[state.lanes[0]];
  if (lane.axis === null) return;
  const axis = DATA.axes[lane.axis];
  state.step = Math.min(state.step, axis.first.length - 1);
  state.rows = layerRows(state.lanes, state.step);
  const slider = byId("step"), text = sentence();
  slider.max = axis.first.length - 1;
  slider.value = state.step;
  slider.setAttribute("aria-valuetext", stepName(axis, state.step));
  byId("step-name").textContent = stepName(axis, state.step);
  byId("gradient-now").textContent = text;
  describe("gradient", text);
  await Promise.all(Object.keys(BY_LAYER).filter(id => views[id]).map(id => set(views[id].view, {}, {layers: state.rows})));
  for (const table of document.querySelectorAll("details[open] table[data-of=layers]")) fill(table);
}

/* What hangs on the lanes. */
async function showLanes() {
  const lane = DATA.lanes[state.lanes[0]];
  byId("curves").toggleAttribute("data-empty", lane.axis === null);
  if (lane.axis !== null) {
    const axis = DATA.axes[lane.axis];
    state.step = Math.min(state.step, axis.first.length - 1);
    state.rows = layerRows(state.lanes, state.step);
    const all = axis.first.flatMap((_, s) => layerRows(state.lanes, s));
    for (const [id, {fields, least, share, zero, hidden}] of Object.entries(BY_LAYER)) {
      if (!SPECS[id]) continue;
      let [lo, hi] = share ? [0, 1] : ends(hidden ? all.filter(row => row.layers !== "readout") : all, fields, least);
      if (zero) lo = Math.min(lo, 0);
      const signals = {lo, hi, top: axis.top};
      if (views[id]) await set(views[id].view, signals, {layers: state.rows});
      else await embed(id, withParams(withData(SPECS[id], "layers", state.rows), signals));
    }
    await showHeat();
  }
  const rows = courseRows(state.lanes);
  for (const id of ["loss", "accuracy", "learning_rate"]) {
    if (!SPECS[id]) continue;
    if (views[id]) await set(views[id].view, {}, {course: rows});
    else await embed(id, withData(SPECS[id], "course", rows));
  }
  await showStep();
  for (const table of document.querySelectorAll("details[open] table:not([data-of=layers])")) fill(table);
}

async function showHeat() {
  if (!byId("chart-heat")) return;
  const {label, scale} = DATA.statistics[state.statistic];
  const axis = DATA.axes[DATA.lanes[state.lanes[0]].axis], rows = cellRows(state.lanes, state.statistic);
  let [lo, hi] = scale === "share" ? [0, 1] : ends(rows, ["value"]);
  if (scale === "signed") [lo, hi] = [-1, 1].map(sign => sign * Math.max(Math.abs(lo), Math.abs(hi)));
  const last = Math.max(...rows.map(row => row.x2), axis.last[axis.last.length - 1]);
  const signals = {lo, hi, top: axis.top, first: axis.first[0], last};
  await embed("heat", withParams(withData(SPECS["heat_" + scale], "cells", rows), signals));
  const odd = [...new Set(rows.map(row => row.flag).filter(Boolean))];
  byId("heat-odd").textContent = odd.map(mark => DATA.odd[mark]).join(" ");
  describe("heat", `${label}, over steps and layers: ${rows.length} cells from `
    + `${number(ends(rows, ["value"])[0], scale)} to ${number(ends(rows, ["value"])[1], scale)}. ${byId("heat-odd").textContent}`);
}

const number = (x, scale) => x == null ? "" : scale === "log10" || scale === "log" ? power(x)
  : scale === "share" ? `${(100 * x).toFixed(1)} %` : String(Number(x.toPrecision(5)));

/* Tables of numbers, made when they are opened. */
function fill(table) {
  const [head, body] = table.dataset.of === "layers" ? layerTable(table.dataset.columns.split(","))
    : table.dataset.of === "cells" ? cellTable() : courseTable(table.dataset.columns.split(","));
  fillTable(table, head, body);
}

function layerTable(columns) {
  const there = columns.filter(column => state.rows.some(row => row[column] != null || row[column + "_flag"]));
  return [["layer", ...there.map(column => DATA.columns[column].label)],
          state.rows.map(row => [row.layers, ...there.map(column => said(column, row[column], row[column + "_flag"]))])];
}

function cellTable() {
  const axis = DATA.axes[DATA.lanes[state.lanes[0]].axis], rows = cellRows(state.lanes, state.statistic);
  const layers = axis.lowest.map((_, g) => layerName(axis, g)), byStep = new Map();
  for (const row of rows) {
    if (!byStep.has(row.steps)) byStep.set(row.steps, {});
    byStep.get(row.steps)[row.layers] = row.said;
  }
  return [["step", ...layers.map(name => name === "readout" ? name : "layer " + name)],
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
  byId("step")?.addEventListener("input", event => {
    state.step = Number(event.target.value);
    inTurn(showStep);
  });
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
