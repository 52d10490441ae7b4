"use strict";
/* Cures: the smallest change that makes a net's gradient level, as vgx/theory/cure.py looks for it. */

const MAX_REMAINING_SLOPE = 0.1, MIN_COSINE_DISTANCE = 1e-4, MAX_ADDED_SATURATION = 0.25, DEEP_RATIO = 0.25, BIAS = 0.2;
const GRID_INITIALIZERS = ["lecun_normal", "glorot_normal", "he_normal", "orthogonal", "lsuv"];
const rounded = x => Number(x.toPrecision(5));
const GAINS = Array.from({length: 17}, (_, i) => 2 ** (i / 2 - 4));

function effectOf(net) {
  const curves = propagate(net), verdict = judge({delta: curves.delta});
  return {verdict, cosine: curves.cosine.at(-1), saturated: curves.saturated.at(-1)};
}

function faultOf({verdict, saturated, cosine}) {
  if (!(Math.abs(verdict.span) < SPAN)) return verdict.evidence;
  if (saturated >= SATURATED) return `${Math.round(100 * saturated)}% of the top layer's entries are saturated`;
  return 1 - cosine < MIN_COSINE_DISTANCE ? "the layers map all inputs to one" : null;
}

const words = changes => Object.entries(changes).map(([path, value]) =>
  `${path}: ${typeof value === "object" ? `{${Object.entries(value).map(([k, v]) => `${k}: ${v}`).join(", ")}}` : value}`).join(", ");

/* What theory expects of a net, the changes that help (the smallest first), and of those that do not the nearest. */
function diagnose(net) {
  const before = effectOf(net), fault = faultOf(before), tried = [];
  if (!fault) return {effect: before, fault, cures: [], rejected: []};
  for (const changes of [smallChanges, largeChanges]) {
    for (const change of changes(net)) if (hasTables(change.net)) tried.push(judged(change, before));
    if (tried.some(cure => !cure.fault)) break;
  }
  const cures = tried.filter(cure => !cure.fault), rejected = new Map();
  const steepness = cure => Number.isNaN(cure.effect.verdict.slope) ? Infinity : Math.abs(cure.effect.verdict.slope);
  for (const cure of tried.filter(cure => cure.fault).sort((a, b) => steepness(a) - steepness(b))) {
    if (!rejected.has(cure.kind) && !cures.some(other => other.kind === cure.kind)) rejected.set(cure.kind, cure);
  }
  return {effect: before, fault, cures, rejected: [...rejected.values()]};
}

function judged({kind, changes, net}, before) {
  const effect = effectOf(net);
  let fault = faultOf(effect);
  if (!fault && Math.abs(before.verdict.span) >= SPAN) {
    const left = Math.abs(effect.verdict.slope / before.verdict.slope);
    if (left > MAX_REMAINING_SLOPE) fault = `${Math.round(100 * left)}% of the slope is left`;
  }
  if (!fault && effect.saturated > before.saturated + MAX_ADDED_SATURATION) {
    fault = `level, but ${Math.round(100 * effect.saturated)}% of the entries are saturated, which learn little`;
  }
  return {kind, words: words(changes), net, effect, fault};
}

const withInitializer = (net, name, gain = 1) => ({...net, initializer: byName(CHOICES.initializers, name), gain});

function* smallChanges(net) {
  const deep = net.depth > DEEP_RATIO * net.width;
  if (deep) yield* rotations(net);
  for (const gain of levelGains(net)) yield {kind: "gain", changes: {"initializer.gain": gain}, net: {...net, gain}};
  for (const name of GRID_INITIALIZERS) {
    if (name === net.initializer.name || (name === "orthogonal" && deep)) continue;
    yield {kind: "initializer", changes: {initializer: name}, net: withInitializer(net, name)};
  }
  yield* normalized(net);
  yield* connected(net);
}

function* connected(net) {
  if (net.depth < 2) return;
  const kinds = net.residual.skips ? [net.residual] : ["pre_activation", "post_activation"].map(name => byName(CHOICES.residuals, name));
  for (const residual of kinds) for (const scale of [1, "depth"]) {
    if (residual === net.residual && scale === net.scale) continue;
    const {name} = residual;
    yield {kind: "residual", changes: {residual: scale === 1 ? name : {name, scale}}, net: {...net, residual, scale}};
  }
}

function* rotations(net) {
  if (net.initializer.name === "orthogonal") return;
  const turned = withInitializer(net, "orthogonal");
  yield {kind: "initializer", changes: {initializer: "orthogonal"}, net: turned};
  for (const gain of levelGains(turned)) {
    yield {kind: "initializer", changes: {initializer: {name: "orthogonal", gain}}, net: {...turned, gain}};
  }
}

function* normalized(net) {
  for (const normalization of CHOICES.normalizations) {
    const {name, placement} = normalization;
    if (name === "none" || normalization === net.normalization) continue;
    yield {kind: "normalization", changes: {normalization: placement ? {name, placement} : name}, net: {...net, normalization}};
  }
}

function* largeChanges(net) {
  const biased = {...withInitializer(net, "variance_scaling"), bias: BIAS};
  for (const gain of levelGains(biased)) {
    const initializer = {name: "variance_scaling", scale: rounded(gain ** 2), distribution: "normal"};
    yield {
      kind: "weights and biases", changes: {initializer, bias: {name: "normal", std: BIAS}},
      net: {...biased, gain: Math.sqrt(initializer.scale)},
    };
  }
  for (const {changes, net: other} of normalized(net)) {
    if (!hasTables(other)) continue;
    for (const gain of levelGains(other)) {
      yield {kind: "normalization and gain", changes: {...changes, "initializer.gain": gain}, net: {...other, gain}};
    }
  }
}

/* Gains that level the gradient, the nearest to the present one first. */
function levelGains(net) {
  if (net.initializer.option !== "gain") return [];
  const slope = gain => slopeOf(propagate({...net, gain}, true).delta);
  const points = GAINS.map(x => x * net.gain), slopes = points.map(slope), found = [];
  for (let i = 0; i + 1 < points.length; i++) {
    const [below, above] = [slopes[i], slopes[i + 1]];
    if (below * above < 0) found.push(rounded(bisect(slope, points[i], points[i + 1], below < 0)));
    else if (above === 0) found.push(rounded(points[i + 1]));
  }
  return found.sort((a, b) => Math.abs(a - net.gain) - Math.abs(b - net.gain));
}

function bisect(f, low, high, rising) {
  for (let i = 0; i < 8; i++) {
    const middle = (low + high) / 2;
    if ((f(middle) < 0) === rising) low = middle; else high = middle;
  }
  const [below, above] = [f(low), f(high)];
  return low - below * (high - low) / (above - below);
}
