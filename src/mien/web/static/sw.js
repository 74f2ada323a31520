// Keeps the page's files in this browser, so that it works without a network after the first visit. A new version of any
// file is a new list: all are then fetched again, and used from the next visit on.

const SITE = { version: "", files: [] };
const NAME = `mien-${SITE.version}`;

addEventListener("install", (event) => {
  const fetched = SITE.files.map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(fetched)));
});

addEventListener("activate", (event) => {
  const others = (names) => names.filter((name) => name.startsWith("mien-") && name !== NAME);
  event.waitUntil(caches.keys().then((names) => Promise.all(others(names).map((name) => caches.delete(name)))).then(() => clients.claim()));
});

/** The headers that let a page share memory between threads, also where the web server does not send them. */
function isolated(answer) {
  if (answer.status === 0) return answer;
  const headers = new Headers(answer.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
}

addEventListener("fetch", (event) => {
  if (event.request.method !== "GET" || new URL(event.request.url).origin !== location.origin) return;
  event.respondWith(caches.open(NAME).then(async (cache) => isolated((await cache.match(event.request, { ignoreSearch: true })) ?? (await fetch(event.request)))));
});
