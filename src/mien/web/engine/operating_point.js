// The label shares to expect, and corrections fitted by `mien adapt`, as mien.faces.operating_point.

import { MienError } from "./errors.js";

/** Shares of the labels in their order, summing to 1, from an object by name; labels without one share the rest. */
export function expectedShares(prior, labels) {
  const unknown = Object.keys(prior).find((name) => !labels.includes(name));
  if (unknown !== undefined) throw new MienError(`prior: '${unknown}' is none of the labels ${labels.join(", ")}: correct it`);
  const given = labels.map((name) => prior[name] ?? null);
  const wrong = labels.find((_, n) => given[n] !== null && !(given[n] >= 0 && given[n] <= 1));
  if (wrong !== undefined) throw new MienError(`prior: the share of ${wrong} is ${prior[wrong]}: pass a number from 0 to 1`);
  const named = given.reduce((sum, share) => sum + (share ?? 0), 0);
  const open = given.filter((share) => share === null).length;
  if (open && named > 1 + 1e-6) throw new MienError(`prior: the shares sum to ${named}: pass shares that sum to 1 at most`);
  if (!open && Math.abs(named - 1) > 0.02) throw new MienError(`prior: the shares of all labels sum to ${named}, not to 1`);
  const filled = given.map((share) => share ?? Math.max(0, 1 - named) / open);
  const total = filled.reduce((sum, share) => sum + share, 0);
  if (!(total > 0)) throw new MienError("prior: every share is 0: give at least one label a share");
  return filled.map((share) => share / total);
}

/**
 * What to add to log probabilities so that they reflect a prior ("trained", "uniform" or shares by name); null for no
 * change. `embodied`: the shares that they reflect now; `learnt`: those of the training set; null where not known.
 */
export function offsets(prior, labels, embodied, learnt) {
  if (typeof prior === "string" && !["trained", "uniform"].includes(prior)) {
    throw new MienError(`prior is '${prior}': pass trained, uniform, or a share for each label`);
  }
  if (prior === "trained" && (!learnt || !embodied)) return null;
  if (!embodied) throw new MienError("prior: the weights' card does not state the shares that were learnt from: leave the prior at trained");
  const wanted = prior === "trained" ? learnt : prior === "uniform" ? labels.map(() => 1 / labels.length) : expectedShares(prior, labels);
  return wanted.map((share, n) => Math.log(share) - Math.log(embodied[n]));
}

/** A file of `mien adapt` for the recogniser of this card. */
export class Adaptation {
  constructor(fields, card, labels) {
    const count = Array.isArray(fields?.labels) ? fields.labels.length : 0;
    const numbers = (values, length) => Array.isArray(values) && values.length === length && values.every(Number.isFinite);
    const sound =
      fields?.format === 1 &&
      count > 1 &&
      numbers(fields.shares, count) &&
      numbers(fields.bias, count) &&
      (fields.scale || fields.head) &&
      (!fields.scale || numbers(fields.scale, count)) &&
      (!fields.head || (Array.isArray(fields.centre) && fields.head.length === count && fields.head.every((row) => numbers(row, fields.centre.length))));
    if (!sound) throw new MienError("This is not a file of mien adapt: make it with  mien adapt PICTURES --out FILE.json");
    if (fields.weights !== card.sha256) {
      throw new MienError(`This correction was made for other weights (${String(fields.weights).slice(0, 12)}): make it again with  mien adapt`);
    }
    if (fields.scale && fields.labels.join("\n") !== labels.join("\n")) {
      throw new MienError("This correction was made for other labels: make it again with  mien adapt");
    }
    Object.assign(this, { labels: fields.labels, shares: fields.shares, bias: fields.bias, scale: fields.scale, head: fields.head, centre: fields.centre });
  }

  /** Corrected scores of one face, from its log probabilities and its embedding. */
  scores(logs, embedding) {
    const scores = this.bias.map((bias, n) => bias + (this.scale ? this.scale[n] * logs[n] : 0));
    if (!this.head) return scores;
    const length = Math.hypot(...embedding) || 1;
    const row = this.centre.map((centre, n) => embedding[n] / length - centre);
    return scores.map((score, label) => score + this.head[label].reduce((sum, weight, n) => sum + weight * row[n], 0));
  }
}
