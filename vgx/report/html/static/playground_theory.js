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

/* A column of a table [columns, pieces, nodes] at x; it begins at `start`. Outside, a straight line goes on: f is a power
   there, and its averages are whole ones of the deviation. */
function along(table, axis, column, x, start = 0) {
  const end = axis.start + axis.piece * axis.pieces;
  if (x > end) {
    const last = along(table, axis, column, end, start);
    return last + (x - end) * Math.round(last - along(table, axis, column, end - 1, start));
  }
  if (x < axis.start) {
    const first = along(table, axis, column, axis.start, start);
    return first + (x - axis.start) * Math.round(along(table, axis, column, axis.start + 1, start) - first);
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

/* The moments of h of a layer that receives a signal {square, cross, mean}, and the variance of its weights. */
function affinity(net, signal, nIn, nOut) {
  const weight = weightVariance(net, nIn, nOut, signal.square), biases = net.bias ** 2;
  const variance = nIn * weight * signal.square + biases;
  return {weight, variance, covariance: Math.min(nIn * weight * signal.cross + biases, variance)};
}

/* What normalization and activation make of h, and of a gradient. */
function respond(net, {weight, variance, covariance}) {
  const unit = net.normalization.name !== "batch" ? byExample(net, variance, covariance)
    : net.normalization.placement === "before" ? batchBefore(net, variance - covariance) : batchAfter(net, variance, covariance);
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
  let cross = square - spread + shared, mean = Math.sqrt(square) * along(f.mean, AXES.mean, 0, x), after = 1;
  if (placement === "after") {
    if (name === "layer") [square, cross, mean] = [spread, shared, 0];
    after = divide(1, square + epsilon);
    [square, cross, mean] = [square * after, cross * after, mean * Math.sqrt(after)];
  }
  const gain = before * steep * after;
  return {square, cross, mean, gain, topGain: gain, std};
}

function batchBefore(net, spread) {
  const f = net.activation, B = net.batch, {epsilon} = net.normalization, axis = AXES.sphere;
  const typical = spread * (B - 1) / B, scale = Math.sqrt(divide(typical, typical + epsilon));
  const x = scale > 0 ? Math.log2(scale) : -1e3, start = CHOICES.batches.indexOf(B) * 5 * axis.pieces * axis.nodes;
  const at = column => along(f.sphere, axis, column, x, start);
  const inverse = divide(1, spread * (B - 3) / B + epsilon), square = 2 ** at(0);
  const mean = Math.sqrt(square) * at(4);
  return {square, cross: square * at(1), mean, gain: inverse * 2 ** at(2), topGain: inverse * 2 ** at(3), std: scale};
}

function batchAfter(net, variance, covariance) {
  if (!variance) return {square: 0, cross: 0, mean: 0, gain: 0, topGain: 0, std: 0};
  const {cross, square} = CHOICES.signal, rest = -1 / (net.batch - 1), x = Math.log2(variance) / 2;
  // Of the first layer's h, that is; nothing else has a part that examples share.
  const share = (covariance / variance - rest) / (cross / square - rest);
  const [gain, topGain, out] = [0, 1, 2].map(column => 2 ** ofShare(net, column, x, share));
  return {square: out, cross: out * rest, mean: 0, gain: gain / variance, topGain: topGain / variance, std: Math.sqrt(variance)};
}

/* Between the shares that are tabulated, Lagrange's polynomial of the logarithms; the gains as if of h's own variance. */
function ofShare({activation, batch}, column, x, share) {
  const place = CHOICES.batches.indexOf(batch), {batch: none, first: all, between} = AXES, n = CHOICES.first_shares.length;
  const at = (table, axis, start) => along(table, axis, column, x, start * 3 * axis.pieces * axis.nodes);
  if (share < 1e-9) return at(activation.batch, none, place);
  if (share > 1 - 1e-9) return at(activation.first, all, place);
  const {cross, square} = CHOICES.signal, rest = -1 / (batch - 1), shares = [0, ...CHOICES.first_shares, 1];
  const own = part => column < 2 ? Math.log2(1 - rest - part * (cross / square - rest)) : 0;
  return shares.reduce((sum, part, i) => {
    const weight = shares.reduce((product, other, j) => i === j ? product : product * (share - other) / (part - other), 1);
    const value = i === 0 ? at(activation.batch, none, place) : i > n ? at(activation.first, all, place) : at(activation.between, between, place * n + i - 1);
    return sum + weight * (value + own(part));
  }, -own(share));
}

/* The signal, or one with the same ratios whose square is a number that can be squared. */
function inRange(signal) {
  if (signal.square === 0 || (TINY <= signal.square && signal.square <= HUGE)) return signal;
  const scale = (signal.square < TINY ? TINY : HUGE) / signal.square;
  return {...signal, square: signal.square * scale, cross: signal.cross * scale, mean: signal.mean * Math.sqrt(scale)};
}

/* What each hidden layer does, from the bottom up: [L]. */
function hiddenResponses(net, signal) {
  const responses = [], {depth, width} = net, {features} = CHOICES;
  let settled = false;
  for (let l = 0; l < depth; l++) {
    const response = settled ? responses[l - 1] : respond(net, affinity(net, signal, l ? width : features, width));
    const after = inRange(response);
    settled ||= (l > 0 || features === width) && ["square", "cross"].every(k => Math.abs(signal[k] - after[k]) <= 1e-15 * Math.abs(signal[k]));
    signal = after;
    responses.push(response);
  }
  return responses;
}

/* ln |dloss/dh|^2 relative to the readout's, [L]; `top` is the variance of the readout's weights. */
function comeDown({width}, responses, top) {
  const found = new Float64Array(responses.length);
  let above = 0;
  for (let l = responses.length - 1; l >= 0; l--) {
    const next = responses[l + 1];
    above += Math.log(width * (next ? next.weight * responses[l].gain : top * responses[l].topGain));
    found[l] = above;
  }
  return found;
}

/* log10 |dloss/dh| relative to the readout's, or of the stream where there is one, the cosine of two inputs' x, and the
   share of saturated entries, of each hidden layer from the bottom up: [L] each. `alike` takes two inputs to be one. */
function propagate(net, alike = false) {
  const over = net.normalization.name === "batch", {skips} = net.residual, {signal} = CHOICES;
  const responses = (skips ? streamResponses : hiddenResponses)(net, alike && !over ? {...signal, cross: signal.square} : signal);
  const top = weightVariance(net, net.width, CHOICES.classes, inRange(responses.at(-1)).square);
  return {
    delta: (skips ? descent : comeDown)(net, responses, top).map(x => x / 2 / Math.LN10),
    cosine: Float64Array.from(responses, ({square, cross}) => square ? cross / square : NaN),
    saturated: Float64Array.from(responses, ({std}) => saturatedShare(net.activation, std)),
  };
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
