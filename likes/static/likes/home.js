// The page at `/`: buttons that like, and counts that move. Every total comes from the service, none is added up here.

const PAINT_MILLISECONDS = 100; // ten updates of the page a second are all that an eye can follow
const REOPEN_MILLISECONDS = 3000; // EventSource gives up for good when it is answered an error
const LIKE_ATTEMPTS = 4;
const LIKE_MILLISECONDS = 3000; // the service answers within 1.5 s, or says that it cannot

const number = new Intl.NumberFormat("en");
const connection = document.querySelector("#connection");
const news = document.querySelector("#news");
const rows = new Map([...document.querySelectorAll("[data-post]")].map((row) => [row.dataset.post, row]));
const totals = new Map(); // post → the total shown or about to be
const changed = new Set(); // posts to paint
let painting = false;

function show(post, likes) {
  if (!rows.has(post) || totals.get(post) === likes) return;
  totals.set(post, likes);
  changed.add(post);
  if (painting) return;
  painting = true;
  setTimeout(paint, PAINT_MILLISECONDS);
}

function paint() {
  for (const post of changed) {
    const data = rows.get(post).querySelector("data");
    data.value = totals.get(post);
    data.textContent = number.format(totals.get(post));
  }
  changed.clear();
  painting = false;
}

// A total below the one shown is either old news that a newer answer overtook, or likes that were taken back.
// The service knows which; it is asked until nothing overtakes its answer.
async function ask(posts) {
  const before = new Map(posts.map((post) => [post, totals.get(post)]));
  const query = new URLSearchParams(posts.map((post) => ["post", post]));
  const response = await fetch(`/api/v1/likes?${query}`, { signal: AbortSignal.timeout(LIKE_MILLISECONDS) });
  if (!response.ok) return; // the next event brings it
  const { likes } = await response.json();
  const overtaken = posts.filter((post) => totals.get(post) !== before.get(post));
  for (const post of posts) {
    if (post in likes && !overtaken.includes(post)) show(post, likes[post]);
  }
  if (overtaken.length) await ask(overtaken);
}

function told(likes) {
  document.querySelector(".note")?.remove(); // live totals are back
  const lower = [];
  for (const [post, total] of Object.entries(likes)) {
    if (total < (totals.get(post) ?? 0)) lower.push(post);
    else show(post, total);
  }
  if (lower.length) ask(lower).catch((error) => console.warn("totals could not be read again:", error));
}

function state(name, text) {
  if (connection.textContent === text) return;
  connection.dataset.state = name;
  connection.textContent = text;
}

function listen() {
  const query = new URLSearchParams([...rows.keys()].map((post) => ["post", post]));
  const source = new EventSource(`/events?${query}`);
  // Live is what has sent a total; a stream is open before the service can read any.
  source.onmessage = (event) => {
    state("live", "Live");
    told(JSON.parse(event.data).likes);
  };
  source.onerror = () => {
    state("waiting", "Connection lost, trying again…");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, REOPEN_MILLISECONDS);
  };
}

// One key for all attempts at one like: however many of them arrive, it counts once.
function key() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
}

async function attempt(url, idempotencyKey) {
  try {
    return await fetch(url, {
      method: "POST",
      headers: { "Idempotency-Key": idempotencyKey },
      signal: AbortSignal.timeout(LIKE_MILLISECONDS),
    });
  } catch {
    return null; // no answer: it may have counted or not, the next attempt under the same key settles it
  }
}

async function like(url) {
  const idempotencyKey = key();
  for (let left = LIKE_ATTEMPTS; left > 0; left -= 1) {
    const response = await attempt(url, idempotencyKey);
    if (response?.ok) return response.json();
    if (response && response.status !== 503) throw new Error((await response.json()).title);
    const seconds = Number(response?.headers.get("Retry-After")) || 1;
    if (left > 1) await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
  throw new Error("the service cannot be reached");
}

async function submitted(event) {
  event.preventDefault();
  const row = event.target.closest("[data-post]");
  const title = row.querySelector("h2").textContent;
  try {
    const { likes } = await like(event.target.action);
    // Answers can overtake each other: the higher total is the newer one, unless an event says otherwise.
    if (likes > (totals.get(row.dataset.post) ?? 0)) show(row.dataset.post, likes);
    news.textContent = `Liked ${title}: ${number.format(likes)}`;
  } catch (error) {
    news.textContent = `Your like of ${title} could not be confirmed: ${error.message}`;
  }
}

for (const row of rows.values()) row.querySelector("form").addEventListener("submit", submitted);
if (rows.size) {
  state("waiting", "Connecting…");
  listen();
}
