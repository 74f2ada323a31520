// Action units from facial actions, as mien.actions; the map of the units comes from there.

const sided = (name) => [`${name}Left`, `${name}Right`];

const mean = (actions, names) => {
  const values = names.map((name) => actions[name] ?? null);
  return values.includes(null) ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
};

/** One unit, such as AU12 or AU12_L, in 0..1; null if an action that it needs has no value. */
export function unit(actions, name, settings) {
  const [code, side] = name.split("_");
  if (code === settings.parted) return parted(actions);
  const needed = settings.units[code];
  if (needed.both.length) return mean(actions, needed.both);
  if (side) return mean(actions, side === "L" ? needed.left : needed.right);
  const [left, right] = [mean(actions, needed.left), mean(actions, needed.right)];
  return left === null || right === null ? null : Math.max(left, right);
}

/** How far the lips are apart. */
function parted(actions) {
  const { jawOpen = null, mouthClose = null } = actions;
  const [lower, upper] = ["mouthLowerDown", "mouthUpperUp"].map((name) => mean(actions, sided(name)));
  return [jawOpen, mouthClose, lower, upper].includes(null) ? null : Math.max(jawOpen - mouthClose, lower, upper);
}
