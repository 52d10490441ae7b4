"use strict";
/* Nets with skip connections, as vgx/theory/streams.py has them; the first layer stays plain. */

function scaleOf({scale, depth}) {
  return scale === "depth" ? 1 / Math.sqrt(depth) : scale === "learned" ? 0 : scale;
}

/* What each hidden layer's own part does; square, cross and mean are of what it passes on, stream and all: [L]. */
function streamResponses(net, signal) {
  const responses = [], scale = scaleOf(net);
  let stream = null;
  for (let l = 0; l < net.depth; l++) {
    const own = affinity(net, signal, l ? net.width : CHOICES.features, net.width);
    stream = l ? bounded(stream, own, scale) : own;
    let response = {...respond(net, net.residual.streams_preactivations ? stream : own), weight: own.weight};
    if (l && !net.residual.streams_preactivations) response = {...response, ...added(signal, response, scale)};
    signal = inRange(response);
    responses.push(response);
  }
  return responses;
}

/* The sum of a stream and a branch, or one with the same ratios whose square is a number that can be squared. */
function bounded(stream, branch, scale) {
  const [variance, covariance] = ["variance", "covariance"].map(k => stream[k] + scale ** 2 * branch[k]);
  const shrink = Math.min(HUGE / variance, 1);
  return {variance: variance * shrink, covariance: covariance * shrink};
}

function added(stream, branch, scale) {
  const both = 2 * scale * stream.mean * branch.mean;
  return {
    square: stream.square + both + scale ** 2 * branch.square,
    cross: stream.cross + both + scale ** 2 * branch.cross,
    mean: stream.mean + scale * branch.mean,
  };
}

/* The logarithm of the sum of what has these logarithms. */
function logSum(a, b) {
  const most = Math.max(a, b);
  return most === -Infinity ? most : most + Math.log1p(Math.exp(-Math.abs(a - b)));
}

/* ln |dloss/ds|^2 of the stream s, or of h in a layer that adds to none, relative to |dloss/dh|^2 of the readout: [L].
   `drawn` is the share of what comes from above that a batch norm has let pass. */
function descent(net, responses, top) {
  const found = new Float64Array(responses.length), branch = 2 * Math.log(scaleOf(net));
  const before = net.residual.streams_preactivations;
  let x = Math.log(net.width * top), stream = -Infinity, drawn = 0;
  for (let l = responses.length - 1; l >= 0; l--) {
    const {gain, topGain, weight} = responses[l], passed = Math.log(topGain + drawn * (gain - topGain));
    const own = x + passed, toWeights = Math.log(net.width * weight);
    if (before) {
      stream = logSum(own, stream);
      found[l] = stream;
      x = toWeights + branch + stream;
      drawn = 1;
    } else {
      found[l] = l ? x : own;
      const share = Math.exp(Math.min(toWeights + branch + passed, 700));
      drawn = (drawn + share) / (1 + share);
      x = logSum(x, toWeights + branch + own);
    }
  }
  return found;
}
