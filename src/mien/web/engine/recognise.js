// Expression labels, apparent valence and arousal of aligned crops, as mien.faces.recognise. Whatever the recogniser's
// card states (temperature, prior, threshold, labels) is read from it.

import { Adaptation, offsets } from "./operating_point.js";

const BATCH = 8; // crops in one run of the network

const softmax = (scores) => {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
};

const sharesOf = (stated, labels) => {
  if (!stated) return null;
  const shares = labels.map((name) => stated[name]);
  const sum = shares.reduce((total, share) => total + share, 0);
  return shares.map((share) => share / sum);
};

export class Recogniser {
  constructor(network, settings) {
    this.network = network;
    this.card = network.card;
    this.size = this.card.input.size;
    this.cardLabels = this.card.classes ?? settings.expressions;
    const { heads = {}, prior = {} } = this.card;
    this.affect = Array.isArray(heads) ? heads.includes("affect") : heads.affect !== false;
    this.embodied = sharesOf(prior.logits, this.cardLabels);
    this.learnt = sharesOf(prior.learnt, this.cardLabels);
    this.trained = offsets("trained", this.cardLabels, this.embodied, this.learnt);
    this.operate({});
  }

  /**
   * Set the operating point. `prior`: "trained", "uniform" or shares by label; null is what the card recommends.
   * `adaptation`: the content of a file of `mien adapt`; null for none.
   */
  operate({ prior = null, adaptation = null }) {
    const adapted = adaptation && new Adaptation(adaptation, this.card, this.cardLabels);
    const labels = adapted ? adapted.labels : this.cardLabels;
    const chosen = prior ?? (adapted ? "trained" : (this.card.prior?.default ?? "trained"));
    const added = offsets(chosen, labels, adapted ? adapted.shares : this.embodied, adapted ? null : this.learnt);
    Object.assign(this, { labels, adaptation: adapted, offsets: added });
  }

  /** One reading for each luma crop of `size` pixels. */
  async read(crops, embeddings = false) {
    const readings = [];
    for (let start = 0; start < crops.length; start += BATCH) {
      const part = crops.slice(start, start + BATCH);
      const bytes = new Uint8Array(part.length * this.size * this.size);
      part.forEach((crop, n) => bytes.set(crop.data, n * this.size * this.size));
      const { logits, affect, embedding } = await this.network.run({ crops: ["uint8", bytes, [part.length, this.size, this.size]] });
      const row = (values, n) => [...values.subarray((n * values.length) / part.length, ((n + 1) * values.length) / part.length)];
      part.forEach((_, n) => readings.push(this.#reading(row(logits, n), row(affect, n), embedding ? row(embedding, n) : [], embeddings)));
    }
    return readings;
  }

  #reading(logits, [valence, arousal], embedding, embeddings) {
    const shares = this.#probabilities(logits, embedding);
    const doubts = Math.max(...shares) < (this.card.uncertain_below ?? 0) ? [this.#between(shares)] : [];
    const bounded = (value) => (this.affect ? Math.min(1, Math.max(-1, value)) : null);
    return {
      probabilities: Object.fromEntries(this.labels.map((label, n) => [label, shares[n]])),
      valence: bounded(valence),
      arousal: bounded(arousal),
      intensity: null,
      uncertain: doubts.length > 0,
      embedding: embeddings ? embedding : [],
      doubts,
      actions: {},
      gaze: null,
    };
  }

  #probabilities(logits, embedding) {
    let scores = logits.map((logit) => logit / (this.card.temperature ?? 1));
    if (this.adaptation) {
      if (this.trained) scores = scores.map((score, n) => score + this.trained[n]);
      const most = Math.max(...scores);
      const whole = most + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - most), 0));
      scores = this.adaptation.scores(scores.map((score) => score - whole), embedding);
    }
    return softmax(this.offsets ? scores.map((score, n) => score + this.offsets[n]) : scores);
  }

  #between(shares) {
    const [first, second] = shares.map((_, n) => n).sort((a, b) => shares[b] - shares[a]);
    return `between ${this.labels[first]} and ${this.labels[second]}`;
  }
}
