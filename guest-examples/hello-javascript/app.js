// A `wasi:http` 0.2 handler in JavaScript, by the web platform's own interface: fetch events.
// Each request gets a fresh engine, so nothing is remembered between requests.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const { pathname, searchParams } = new URL(request.url);
  if (request.method === "POST") {
    const words = (await request.text()).trim().split(/\s+/);
    const counts = Object.fromEntries(words.map((word) => [word, 0]));
    for (const word of words) counts[word] += 1;
    return Response.json(counts);
  }
  const name = searchParams.get("name") ?? "world";
  return new Response(`hello ${name} from JavaScript at ${pathname}\n`);
}
