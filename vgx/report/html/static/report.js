"use strict";
/* One lane, or several seeds together, step by step. What is said, and the ends of axes, Python wrote for each choice of
   lanes; chart_rows.py draws the same rows for the stills. */

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
const points = DATA.courseSteps.length;
const courseKinds = DATA.courseThin ? 3 : 1;
const offsets = [];
DATA.lanes.reduce((offset, lane) => {
  offsets.push(offset);
  if (lane.axis === null) return offset;
  const axis = DATA.axes[lane.axis];
  return offset + statistics.length * (axis.thin ? 3 : 1) * axis.steps.length * axis.layers.length;
}, 0);

/* A number of the layer table: null if it was not measured. Kinds: 0 the mean, 1 the lowest, 2 the highest. */
function at(lane, statistic, kind, s, g) {
  const axis = DATA.axes[DATA.lanes[lane].axis], groups = axis.layers.length, steps = axis.steps.length;
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
const axisOf = lanes => DATA.axes[DATA.lanes[lanes[0]].axis];
const choice = () => DATA.choices[state.lanes.join()];

/* A row for each layer at one step, as the figures want it. */
function layerRows(lanes, s) {
  const {predicted} = DATA.choices[lanes.join()];
  return axisOf(lanes).layers.map((place, g) => {
    const row = {...place};
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
    for (const [name, values] of Object.entries(predicted)) row[name] = values[g];
    return row;
  });
}

/* A row for each step and layer of a statistic. */
function cellRows(lanes, name) {
  const {steps, layers} = axisOf(lanes), rows = [];
  steps.forEach((when, s) => layers.forEach((where, g) => {
    const [value, low, high] = [0, 1, 2].map(kind =>
      scaled(name, together(lanes.map(lane => at(lane, name, kind, s, g)), kind)));
    if (value === null) return;
    rows.push({
      ...when, ...where, value: drawn(value), low: drawn(low), high: drawn(high), flag: flag(value),
      said: said(name, drawn(value), flag(value), 5), low_said: said(name, drawn(low), flag(low), 5),
      high_said: said(name, drawn(high), flag(high), 5),
    });
  }));
  return rows;
}

/* A row for each step and curve of the metrics. */
function courseRows(lanes) {
  const rows = [];
  courseNames.forEach((name, c) => {
    const some = [];
    for (let p = 0; p < points; p++) {
      const [value, low, high] = [0, 1, 2].map(kind => together(lanes.map(lane => courseAt(lane, c, kind, p)), kind));
      if (value !== null && !Number.isNaN(value))
        some.push({...DATA.courseSteps[p], name: DATA.course[name],
                   value: drawn(value), low: drawn(low), high: drawn(high)});
    }
    const sparse = some.length < points / 2 || some.length === 1;
    some.forEach(row => rows.push({...row, sparse}));
  });
  return rows;
}

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
  for (const [key, text] of Object.entries(choice().captions)) {
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
  const axis = axisOf(state.lanes), hidden = state.rows.slice(0, -1);
  const low = hidden[0], high = hidden[hidden.length - 1], where = axis.steps[state.step].when;
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
  state.step = Math.min(state.step, axis.steps.length - 1);
  state.rows = layerRows(state.lanes, state.step);
  const slider = byId("step"), text = sentence();
  slider.max = axis.steps.length - 1;
  slider.value = state.step;
  slider.setAttribute("aria-valuetext", axis.steps[state.step].when);
  byId("step-name").textContent = axis.steps[state.step].when;
  byId("gradient-now").textContent = text;
  describe("gradient", text);
  await Promise.all(Object.keys(choice().ends).filter(id => views[id]).map(id => set(views[id].view, {}, {layers: state.rows})));
  for (const table of document.querySelectorAll("details[open] table[data-of=layers]")) fill(table);
}

/* What hangs on the lanes. */
async function showLanes() {
  const lane = DATA.lanes[state.lanes[0]];
  byId("curves").toggleAttribute("data-empty", lane.axis === null);
  if (lane.axis !== null) {
    const axis = DATA.axes[lane.axis];
    state.step = Math.min(state.step, axis.steps.length - 1);
    state.rows = layerRows(state.lanes, state.step);
    for (const [id, [lo, hi]] of Object.entries(choice().ends)) {
      if (!SPECS[id]) continue;
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
  const {steps, top} = axisOf(state.lanes), rows = cellRows(state.lanes, state.statistic);
  const [lo, hi, text, odd] = choice().maps[state.statistic], {label, scale} = DATA.statistics[state.statistic];
  const signals = {lo, hi, top, first: steps[0].x, last: steps[steps.length - 1].x2};
  await embed("heat", withParams(withData(SPECS["heat_" + scale], "cells", rows), signals));
  byId("heat-odd").textContent = odd;
  describe("heat", `${label}, over steps and layers: ${text} ${odd}`);
}

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
  const rows = cellRows(state.lanes, state.statistic), byStep = new Map();
  const layers = axisOf(state.lanes).layers.map(place => place.layers);
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
