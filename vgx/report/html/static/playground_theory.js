"use strict";
/* Mean-field theory at infinite width, layer by layer, from tables of moments that Python worked out (Chebyshev
   coefficients). What each step means stands in vgx/theory/layer_response.py and mean_field.py; here h has mean 0. */

const SPAN = 2, SATURATED = 0.8, SATURATED_LAYER = 0.95, NOTABLE = 0.5;
const TINY = 1e-90, HUGE = 1e90;

function numbers(text, bytes) {
  const raw = Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
  return bytes === 8 ? new Float64Array(raw) : new Float32Array(raw);
}

const CHOICES = read("choices");
const AXES = CHOICES.axes;
const ACTIVATIONS = Object.fromEntries(Object.entries(read("activations")).map(([name, {formula, random, tables}]) => [
  name, {name, formula, random, ...Object.fromEntries(Object.entries(tables).map(([key, text]) => [key, numbers(text, key === "line" ? 8 : 4)]))},
]));
const byName = (list, name) => list.find(one => one.name === name);

const basis = new Float64Array(64);

/* Chebyshev's polynomials at u, the first n of them, from `from` on in `basis`. */
function fillBasis(u, n, from = 0) {
  basis[from] = 1;
  basis[from + 1] = u;
  for (let k = 2; k < n; k++) basis[from + k] = 2 * u * basis[from + k - 1] - basis[from + k - 2];
}

/* A column of a table [columns, pieces, nodes] at x; it begins at `start`. Outside, a straight line goes on. */
function along(table, axis, column, x, start = 0) {
  const end = axis.start + axis.piece * axis.pieces;
  if (x > end) {
    const last = along(table, axis, column, end, start);
    return last + (x - end) * (last - along(table, axis, column, end - 1, start));
  }
  if (x < axis.start) {
    const first = along(table, axis, column, axis.start, start);
    return first + (x - axis.start) * (along(table, axis, column, axis.start + 1, start) - first);
  }
  const place = (x - axis.start) / axis.piece, piece = Math.min(Math.floor(place), axis.pieces - 1);
  fillBasis(2 * (place - piece) - 1, axis.nodes);
  const at = start + (column * axis.pieces + piece) * axis.nodes;
  let sum = 0;
  for (let k = 0; k < axis.nodes; k++) sum += table[at + k] * basis[k];
  return sum;
}

/* The correlation of f at two normals of deviation 2^x and correlation c. */
function correlation(f, x, c) {
  if (c === 1 && !f.random) return 1;
  const axis = AXES.plane, m = CHOICES.angles, end = axis.start + axis.piece * axis.pieces;
  const place = (Math.min(Math.max(x, axis.start), end) - axis.start) / axis.piece;
  const piece = Math.min(Math.floor(place), axis.pieces - 1);
  fillBasis(2 * (place - piece) - 1, axis.nodes, 32);
  fillBasis(2 / Math.PI * Math.acos(Math.min(Math.max(c, -1), 1)) - 1, m);
  let angle = 0;
  for (let k = 0; k < axis.nodes; k++) {
    let row = 0;
    const at = (piece * axis.nodes + k) * m;
    for (let j = 0; j < m; j++) row += f.plane[at + j] * basis[j];
    angle += row * basis[32 + k];
  }
  return Math.cos(Math.min(Math.max(angle, 0), Math.PI));
}

function saturatedShare(f, std) {
  const axis = AXES.shares, steps = axis.nodes - 1;
  const place = std > 0 ? Math.min(Math.max((Math.log2(std) - axis.start) / axis.piece, 0), 1) * steps : 0;
  const low = Math.min(Math.floor(place), steps - 1), part = place - low;
  return f.shares[low] * (1 - part) + f.shares[low + 1] * part;
}

const divide = (a, b) => b ? a / b : 0;

/* Batch norm after the activation is tabulated for biases of 0. */
const hasTables = net => !(net.normalization.name === "batch" && net.normalization.placement === "after" && net.bias);

/* The variance of one weight of a layer of nIn inputs and nOut units. */
function weightVariance(net, nIn, nOut, square) {
  const {fits, fan, coefficient, option} = net.initializer;
  if (fits) return divide(Math.max(1 - net.bias ** 2, 0), nIn * square);
  const fans = {one: 1, in: nIn, out: nOut, mean: (nIn + nOut) / 2, largest: Math.max(nIn, nOut)};
  return coefficient * (option ? net.gain ** 2 : 1) / fans[fan];
}

/* What a hidden layer makes of a signal {square, cross}, and of a gradient. */
function respond(net, signal, nIn, nOut, first) {
  const weight = weightVariance(net, nIn, nOut, signal.square), biases = net.bias ** 2;
  const variance = nIn * weight * signal.square + biases;
  const covariance = Math.min(nIn * weight * signal.cross + biases, variance);
  const unit = net.normalization.name !== "batch" ? byExample(net, variance, covariance)
    : net.normalization.placement === "before" ? batchBefore(net, variance - covariance) : batchAfter(net, variance, first);
  return {weight, ...unit};
}

function byExample(net, variance, covariance) {
  const {placement, epsilon, name} = net.normalization, f = net.activation;
  const c = variance ? Math.max(divide(covariance, variance), -1) : 1;
  const before = placement === "before" ? divide(1, variance + epsilon) : 1;
  const std = Math.sqrt(variance * before);
  const x = std > 0 ? Math.log2(std) : -1e3, own = 2 ** (2 * x);
  let square = own * 2 ** along(f.line, AXES.line, 0, x);
  const spread = own * 2 ** along(f.line, AXES.line, 1, x), steep = 2 ** along(f.line, AXES.line, 2, x);
  const shared = spread * correlation(f, x, c);
  let cross = square - spread + shared, after = 1;
  if (placement === "after") {
    if (name === "layer") [square, cross] = [spread, shared];
    after = divide(1, square + epsilon);
    [square, cross] = [square * after, cross * after];
  }
  const gain = before * steep * after;
  return {square, cross, gain, topGain: gain, std};
}

function batchBefore(net, spread) {
  const f = net.activation, B = net.batch, {epsilon} = net.normalization, axis = AXES.sphere;
  const typical = spread * (B - 1) / B, scale = Math.sqrt(divide(typical, typical + epsilon));
  const x = scale > 0 ? Math.log2(scale) : -1e3, start = CHOICES.batches.indexOf(B) * 5 * axis.pieces * axis.nodes;
  const at = column => along(f.sphere, axis, column, x, start);
  const inverse = divide(1, spread * (B - 3) / B + epsilon), square = 2 ** at(0);
  return {square, cross: square * at(1), gain: inverse * 2 ** at(2), topGain: inverse * 2 ** at(3), std: scale};
}

function batchAfter(net, variance, first) {
  if (!variance) return {square: 0, cross: 0, gain: 0, topGain: 0, std: 0};
  const axis = first ? AXES.first : AXES.batch, table = first ? net.activation.first : net.activation.batch;
  const x = Math.log2(variance) / 2;
  const start = CHOICES.batches.indexOf(net.batch) * 3 * axis.pieces * axis.nodes;
  const at = column => along(table, axis, column, x, start);
  const [gain, topGain] = [0, 1].map(column => 2 ** (at(column) - 2 * x)), square = 2 ** at(2);
  return {square, cross: -square / (net.batch - 1), gain, topGain, std: Math.sqrt(variance)};
}

/* The signal, or one with the same ratios whose square is a number that can be squared. */
function inRange(signal) {
  if (signal.square === 0 || (TINY <= signal.square && signal.square <= HUGE)) return signal;
  const scale = (signal.square < TINY ? TINY : HUGE) / signal.square;
  return {...signal, square: signal.square * scale, cross: signal.cross * scale};
}

/* log10 |dloss/dh| relative to the readout's, the cosine of two inputs' x, and the share of saturated entries, of each
   hidden layer from the bottom up: [L] each. `alike` takes two inputs to be the same one. */
function propagate(net, alike = false) {
  const {depth, width} = net, {features, classes} = CHOICES;
  const log10 = new Float64Array(depth), cosine = new Float64Array(depth), saturated = new Float64Array(depth);
  const over = net.normalization.name === "batch";
  let signal = {square: CHOICES.signal.square, cross: alike && !over ? CHOICES.signal.square : CHOICES.signal.cross};
  let last = null, settled = false;
  for (let l = 0; l < depth; l++) {
    const response = settled ? last : respond(net, signal, l ? width : features, width, l === 0);
    if (last) log10[l - 1] = Math.log10(width * response.weight * last.gain) / 2;
    cosine[l] = response.square ? response.cross / response.square : NaN;
    saturated[l] = settled ? saturated[l - 1] : saturatedShare(net.activation, response.std);
    const after = inRange(response);
    settled ||= (l > 0 || features === width) && ["square", "cross"].every(k => Math.abs(signal[k] - after[k]) <= 1e-15 * Math.abs(signal[k]))
      && !(over && l === 0);
    [signal, last] = [after, response];
  }
  const top = weightVariance(net, width, classes, signal.square);
  log10[depth - 1] = Math.log10(width * top * last.topGain) / 2;
  for (let l = depth - 2; l >= 0; l--) log10[l] += log10[l + 1];
  return {delta: log10, cosine, saturated};
}

/* The least-squares slope in decades per layer, from the top down; NaN for fewer than two layers. */
function slopeOf(delta) {
  let n = 0, sumX = 0, sumY = 0;
  delta.forEach((y, x) => { if (Number.isFinite(y)) [n, sumX, sumY] = [n + 1, sumX + x, sumY + y]; });
  if (n < 2) return NaN;
  let xy = 0, xx = 0;
  delta.forEach((y, x) => { if (Number.isFinite(y)) [xy, xx] = [xy + (x - sumX / n) * y, xx + (x - sumX / n) ** 2]; });
  return -xy / xx;
}

/* The largest fall or rise from any layer down to any other, as vgx/results/verdict.py takes it. */
function largestChange(delta) {
  const layers = [...delta.keys()].filter(l => Number.isFinite(delta[l])).reverse();
  if (!layers.length) return null;
  const down = layers.map(l => delta[l] - delta[layers[0]]);
  const [fall, rise] = [down.map(x => -x), down].map(values => {
    let low = 0, best = {start: 0, end: 0, by: 0};
    values.forEach((x, i) => {
      if (x < values[low]) low = i;
      if (x - values[low] > best.by) best = {start: low, end: i, by: x - values[low]};
    });
    return best;
  });
  const falls = Math.min(fall.by, rise.by) >= SPAN ? -Math.min(...down) >= Math.max(...down) : fall.by >= rise.by;
  const {start, end, by} = falls ? fall : rise;
  return {start: layers[start] + 1, end: layers[end] + 1, decades: falls ? -by : by};
}

const signed = (x, digits = 3) => {
  if (!Number.isFinite(x)) return "-";
  const text = (Math.round(x * 10 ** digits) / 10 ** digits + 0).toFixed(digits);
  return text.startsWith("-") ? text : "+" + text;
};
const percent = x => `${Math.floor(Math.round(x * 1e6) / 1e3) / 10}%`;

/* The word for a net, the figures it rests on, and a sentence. */
function judge({delta, saturated}) {
  const slope = slopeOf(delta), change = largestChange(delta), none = delta.some(x => x === -Infinity);
  const span = none ? -Infinity : change ? change.decades : NaN;
  let [word, reason] = unitsFault(saturated) ?? (
    none ? ["vanishing", `no gradient reaches ${delta.every(x => x === -Infinity) ? "the hidden layers" : "some of the hidden layers"}`]
      : span <= -SPAN ? ["vanishing", "the gradient shrinks on its way down"]
        : span >= SPAN ? ["exploding", "the gradient grows on its way down"]
          : ["healthy", "the gradient keeps its size"]);
  if (Number.isFinite(slope)) reason += "; " + travel(delta, slope, change);
  return {word, slope, span, evidence: reason};
}

function unitsFault(saturated) {
  if (!saturated) return null;
  const sorted = Float64Array.from(saturated).sort(), n = sorted.length;
  const median = (sorted[Math.floor((n - 1) / 2)] + sorted[Math.ceil((n - 1) / 2)]) / 2;
  if (median >= SATURATED) return ["saturated", `${percent(median)} of the median layer's entries are saturated`];
  const full = sorted.filter(x => x >= SATURATED_LAYER);
  if (full.length < n / 2) return null;
  return ["saturated", `${percent(full[0])} or more of the entries of ${full.length} layers are saturated`];
}

function travel(delta, slope, change) {
  const fit = `${signed(slope)} decades per layer (${signed(20 * slope, 1)} dB, fitted)`, bottom = delta.findIndex(Number.isFinite);
  const top = delta.findLastIndex(Number.isFinite), ends = delta[bottom] - delta[top];
  if (Math.abs(change.decades - ends) < NOTABLE) {
    const whole = bottom === 0 && top === delta.length - 1;
    return `${fit}, ${signed(ends, 1)} from ${whole ? "top to bottom" : `layer ${top + 1} to layer ${bottom + 1}`}`;
  }
  const after = delta[bottom] - delta[change.end - 1];
  const rest = Math.abs(after) >= NOTABLE ? `, recovers by ${signed(after, 1)}` : "";
  return `${fit}, ${signed(change.decades, 1)} from layer ${change.start} to layer ${change.end}${rest}`;
}
