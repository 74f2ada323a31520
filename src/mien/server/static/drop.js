// What was dropped on the page: files, and those in folders, at any depth.

const later = (call) => new Promise((resolve, reject) => call(resolve, reject));

async function inside(entry) {
  if (entry.isFile) return [await later((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await later((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    if (!some.length) break;
    found.push(...some);
  }
  return inOrder(found);
}

/** The files of entries in the order of their names. */
async function inOrder(entries) {
  const sorted = [...entries].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  const files = [];
  for (const entry of sorted) files.push(...(await inside(entry)));
  return files;
}

/** The files of a drop; `transfer` is the event's `dataTransfer`, which must be read before the event is over. */
export function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return entries.some((entry) => entry.isDirectory) ? inOrder(entries) : Promise.resolve([...transfer.files]);
}
