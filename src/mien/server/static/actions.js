// ARKit's names of the facial actions that say something of an expression, in words for people. Where it looks does not.

const GROUPS = {
  Brows: { browInnerUp: "inner brows raised", browDown: "brows lowered", browOuterUp: "outer brows raised" },
  Eyes: { eyeBlink: "eyes closed", eyeWide: "eyes wide", eyeSquint: "eyes narrowed" },
  "Cheeks and nose": { cheekSquint: "cheeks raised", noseSneer: "nose wrinkled", cheekPuff: "cheeks puffed" },
  Jaw: { jawOpen: "mouth open", jawForward: "jaw forward", jawLeft: "jaw to the left", jawRight: "jaw to the right" },
  Mouth: {
    mouthSmile: "smile", mouthFrown: "mouth corners down", mouthPucker: "lips puckered", mouthPress: "lips pressed",
    mouthUpperUp: "upper lip raised", mouthLowerDown: "lower lip down", mouthStretch: "lips stretched", mouthDimple: "dimples",
    mouthFunnel: "lips rounded", mouthClose: "lips together", mouthRollUpper: "upper lip in", mouthRollLower: "lower lip in",
    mouthShrugUpper: "upper lip pushed up", mouthShrugLower: "chin raised", mouthLeft: "mouth to the left", mouthRight: "mouth to the right",
  },
  Tongue: { tongueOut: "tongue out" },
};
const WHOLE = ["browInnerUp", "cheekPuff", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "tongueOut"];

/** Every movement: its name, its words, its part of the face, and its actions, the person's left one first. */
export const MOVEMENTS = Object.entries(GROUPS).flatMap(([group, names]) =>
  Object.entries(names).map(([name, words]) => ({ name, words, group, actions: WHOLE.includes(name) ? [name] : [`${name}Left`, `${name}Right`] })),
);
