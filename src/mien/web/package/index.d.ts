/** A problem that the person can fix: its message names the cause and the remedy. */
export class MienError extends Error {}

/** An upright rectangle in pixels of the upright picture. */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** What a face shows to observers; not what the person feels. */
export interface Reading {
  /** Calibrated probability of each expression label; they sum to 1. */
  probabilities: Record<string, number>;
  /** Apparent valence, -1 (negative) to 1 (positive). */
  valence: number | null;
  /** Apparent arousal, -1 (calm) to 1 (activated). */
  arousal: number | null;
  /** How strongly the face moves: 0 at rest, about 0.95 at the full strength of an expression. */
  intensity: number | null;
  /** Do not rely on the label. */
  uncertain: boolean;
  /** Why it is uncertain. */
  doubts: string[];
  /** 52 facial actions by ARKit's name, 0 to 1; null where one cannot be measured. Left and right are the person's own. */
  actions: Record<string, number | null>;
  /** Where the eyes look, in degrees: yaw positive to the person's left, pitch positive upwards; null if they are shut. */
  gaze: { yaw: number; pitch: number } | null;
  /** The recogniser's feature vector; empty unless `embeddings` was asked for. */
  embedding: number[];
}

export interface Face {
  detection: { box: Box; score: number };
  /** 112 points [x, y] in pixels, and the estimate that this is a face, 0 to 1. */
  landmarks: { points: [number, number][]; presence: number };
  /** Degrees; yaw is positive when the nose points to the picture's right, pitch when it points up. */
  pose: { yaw: number; pitch: number; roll: number };
  reading: Reading;
  /** How reliable the picture of the face is, 0 to 1; below 0.4 the reading is marked uncertain. */
  quality: number;
}

/** The same object as `Analysis.to_dict()` of the Python package. Faces are sorted, largest first. */
export interface Analysis {
  source: string;
  width: number;
  height: number;
  faces: Face[];
  error: string | null;
  frame: number | null;
  time: number | null;
  model: string;
}

export interface Options {
  /** What the result calls its source. */
  name?: string;
  /** Analyse these boxes instead of searching for faces. */
  boxes?: Box[];
  /** Also give feature vectors. */
  embeddings?: boolean;
}

export type Picture = Blob | HTMLImageElement | HTMLCanvasElement | HTMLVideoElement | ImageBitmap | ImageData | OffscreenCanvas;

/** The frames of one camera or video, in order. */
export interface Stream {
  /** Analyse the next frame, at `time` seconds (now, if left out). Faces are followed from the frame before. */
  analyse(frame: Exclude<Picture, Blob>, options?: { time?: number; name?: string; embeddings?: boolean }): Promise<Analysis>;
  /** Forget its faces. */
  close(): Promise<void>;
}

export interface Analyser {
  /** The labels, in the order of the columns. */
  labels: string[];
  /** Analyse a picture; of a video its present frame. Rejects with a MienError for a picture that cannot be read. */
  analyse(picture: Picture, options?: Options): Promise<Analysis>;
  /** A stream of frames, which takes less time than pictures; a new face beside others can be missed for up to 0.8 s. */
  stream(): Stream;
  /**
   * Set the label shares to expect ("trained", "uniform" or shares by label; null: what the card recommends) and a
   * correction (the content of a file of `mien adapt`; null: none). Gives the labels.
   */
  operate(point: { prior?: string | Record<string, number> | null; adaptation?: object | null }): Promise<string[]>;
  /** The columns of `mien predict`. */
  columns(landmarks?: boolean): string[];
  /** The rows of `mien predict`: one for each face, or one for a picture without. */
  rows(analysis: Analysis, landmarks?: boolean): Record<string, string | number | boolean | null>[];
  /** End the worker. */
  close(): void;
}

/** Open the networks in a Web Worker. More than one thread needs cross-origin isolation, and helps little. */
export function load(options?: { threads?: number }): Promise<Analyser>;
