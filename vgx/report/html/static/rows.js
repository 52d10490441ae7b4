"use strict";
/* The numbers of a run, and the rows that its figures draw of them; chart_rows.py draws the same rows for the stills. */

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

/* The ends of the axis of a figure over the layers at the step that is shown. */
function shownEnds(id, rows) {
  const {fields, least, readout, zero} = DATA.ranges[id], some = readout ? rows : rows.slice(0, -1);
  const [low, high] = endsOf(zero ? [...some, {zero: 0}] : some, zero ? [...fields, "zero"] : fields, least);
  return zero ? [0, high - low] : [low, high];
}

/* The curves smoothed as TensorBoard does it: an exponential moving average, corrected for its beginning. */
function smooth(rows, weight) {
  const last = {};
  for (const row of rows) {
    const mine = last[row.name] ??= {sum: 0, norm: 0};
    row.smooth = null;
    if (!weight || row.sparse || row.value === null) continue;
    mine.sum = weight * mine.sum + (1 - weight) * row.value;
    mine.norm = weight * mine.norm + (1 - weight);
    row.smooth = mine.sum / mine.norm;
  }
  return rows;
}
