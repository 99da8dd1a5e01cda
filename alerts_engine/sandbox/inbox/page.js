// The page: what is loaded, what of it is listed, what is open.
const PAGE = 500, AHEAD = 2000, ROWS = 100, POLL_MS = 3000;
const CALLS = 500;
const EMPTY = { messages: [], total: 0, dropped: 0, channels: {} };
const state = { ...EMPTY, tab: "all", user: "", severity: "", search: "", rows: ROWS, mode: "html", calls: [], requests: 0, settings: {}, loaded: false };
const numbers = new Intl.NumberFormat("en");
const counted = (number, one, many = `${one}s`) => `${numbers.format(number)} ${number === 1 ? one : many}`;

// --- what the server has: the newest first, without gaps, as far back as was asked for ---
async function ask(query) {
  const answer = await fetch(`/api/messages?${new URLSearchParams(query)}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}
const isComplete = () => state.messages.length >= state.total;

async function loadNew() {
  const known = state.messages[0]?.number ?? 0, before = `${known} ${state.messages.length} ${state.total}`;
  let answer = await ask({ since: known, limit: PAGE });
  const fresh = answer.messages.reverse();
  // After a full page there may be more between it and what is here.
  while (known && answer.messages.length === PAGE) {
    answer = await ask({ since: known, before: fresh.at(-1).number, limit: PAGE });
    fresh.push(...answer.messages.reverse());
  }
  const { total, dropped, channels, oldest } = answer;
  const kept = state.messages.filter((message) => oldest !== null && message.number >= oldest);
  Object.assign(state, { total, dropped, channels, messages: [...fresh, ...kept] });
  const changed = !state.loaded || before !== `${state.messages[0]?.number ?? 0} ${state.messages.length} ${state.total}`;
  state.loaded = true;
  return changed;
}
async function loadOlder() {
  const last = state.messages.at(-1);
  const { messages } = await ask({ before: last.number, limit: PAGE });
  if (state.messages.at(-1) === last) state.messages.push(...messages.reverse());
  return messages.length > 0;
}
async function loadCalls() {
  const answer = await fetch(`/api/attempts?limit=${CALLS}`);
  const { requests, attempts } = await answer.json();
  const changed = requests !== state.requests || attempts.length !== state.calls.length;
  Object.assign(state, { requests, calls: attempts });
  return changed;
}

// --- the whole view at a time ---
function callsView() {
  const line = (call) => el("tr", {},
    el("td", {}, exact.format(new Date(call.received_at))), el("td", {}, call.provider), el("td", {}, call.destination || "—"),
    el("td", {}, el("span", { class: call.status && call.status < 300 ? "status" : "status bad" }, call.status ? String(call.status) : "no answer")),
    el("td", {}, call.fault ? "fault" : ""));
  const head = el("tr", {}, ...["Received", "Provider", "Destination", "Answer", "Fault"].map((name) => el("th", { scope: "col" }, name)));
  const calls = state.calls.slice().reverse();
  const newest = calls.length < state.requests ? ` The newest ${counted(calls.length, "call")} are shown.` : "";
  return el("section", { class: "calls" }, el("h2", {}, "Calls"),
    el("p", {}, `${counted(state.requests, "call")} of a provider's API so far, also refused ones and repeats.${newest}`),
    calls.length ? el("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Calls" },
      el("table", {}, el("thead", {}, head), el("tbody", {}, ...calls.map(line)))) : el("p", {}, "None yet."));
}

function emptyView() {
  const quoted = (value) => /[\s<>]/.test(value) ? `"${value}"` : value;
  const setup = Object.entries(state.settings).map(([name, value]) => `${name}=${quoted(value)}`).join("\n");
  const copy = el("button", { class: "tool", type: "button", onclick: async () => { await navigator.clipboard.writeText(setup); copy.textContent = "Copied"; } }, "Copy");
  return el("section", { class: "empty" }, icon("email"), el("h2", {}, "No messages yet"),
    el("p", {}, "Put this into the ", el("code", {}, ".env"), " of your project, then start ", el("code", {}, "alerts-engine run --phase all"),
      ". What your users would get appears here."),
    setup && el("div", { class: "setup" }, el("pre", { tabindex: "0" }, setup), copy));
}

function pickView() {
  return el("section", { class: "empty" }, icon("email"), el("h2", {}, "Pick a message"), el("p", {}, "It is shown as its user would see it."));
}

// --- the page ---
function chosen() {
  const number = Number(location.hash.slice(1));
  return state.messages.find((message) => message.number === number);
}

function shown() {
  const words = state.search.toLowerCase();
  return state.messages.filter((message) => (state.tab === "all" || message.channel === state.tab)
    && (!state.user || message.destination === state.user)
    && (!state.severity || severity(message) === Number(state.severity))
    && (!words || `${message.destination} ${message.subject || ""} ${message.text}`.toLowerCase().includes(words)));
}

function showTabs() {
  const tabs = [["all", "All", state.total], ...Object.entries(CHANNELS).map(([key, label]) => [key, label, state.channels[key] ?? 0]), ["calls", "Calls", null]];
  $("tabs").replaceChildren(...tabs.map(([key, label, number]) => el("button", { type: "button", "aria-pressed": String(state.tab === key),
    onclick: () => openTab(key) }, label, number === null ? null : el("b", {}, ` ${numbers.format(number)}`))));
}

const narrow = matchMedia("(max-width: 760px)");
function openTab(tab) {
  if (tab === "calls") { location.hash = "calls"; return; }
  state.tab = tab;
  state.rows = ROWS;
  const stays = chosen() && !narrow.matches && shown().includes(chosen());
  if (location.hash && !stays) location.hash = "";
  else show();
}
async function route() {
  if (location.hash === "#calls") {
    state.tab = "calls";
    await refresh();
  } else if (state.tab === "calls") state.tab = "all";
  show();
}

// A choice with how many messages each has, of those on this tab.
function showChoice(name, key, everything, label, order) {
  const counts = new Map();
  for (const message of state.messages) {
    if (state.tab === "all" || message.channel === state.tab) counts.set(key(message), (counts.get(key(message)) || 0) + 1);
  }
  if (!counts.has(state[name])) state[name] = "";
  const options = [...counts].filter(([value]) => value).sort(([one], [other]) => order(one, other))
    .map(([value, count]) => el("option", { value }, `${label(value)} (${numbers.format(count)})`));
  $(name).replaceChildren(el("option", { value: "" }, everything(options.length)), ...options);
  $(name).value = state[name];
}
function showFilters() {
  showChoice("user", (one) => one.destination, (count) => `Everyone (${numbers.format(count)})`, (user) => user, (one, other) => one.localeCompare(other));
  showChoice("severity", (one) => severity(one) ? String(severity(one)) : "", () => "Any severity", (level) => SEVERITIES[level], (one, other) => other - one);
}

function showList() {
  const current = chosen(), messages = shown(), listed = messages.slice(0, state.rows);
  const nodes = withDays(listed, (message) => row(message, message === current), "li");
  if (!messages.length) nodes.push(el("li", { class: "note" }, isComplete() ? "No message fits." : "No message fits so far."));
  if (listed.length < messages.length) {
    nodes.push(more(`Show ${numbers.format(Math.min(ROWS, messages.length - listed.length))} more`, () => { state.rows += ROWS; showList(); }));
  } else if (!isComplete()) {
    nodes.push(more(`Load ${numbers.format(Math.min(PAGE, state.total - state.messages.length))} older ones`, async () => {
      await loadOlder();
      state.rows += ROWS;
      showFilters();
      showList();
    }));
  }
  $("list").replaceChildren(...nodes);
  $("count").textContent = countText(messages.length);
}
// Whoever scrolls to it needs not press it.
const reached = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) $("more")?.click(); });
function more(label, act) {
  const button = el("button", { class: "tool", id: "more", type: "button", onclick: () => { reached.disconnect(); act(); } }, label);
  reached.disconnect();
  reached.observe(button);
  return el("li", { class: "note" }, button);
}
function countText(fitting) {
  const { messages, total, dropped } = state, isFiltered = fitting < messages.length;
  const parts = [isFiltered ? `${numbers.format(fitting)} of ${counted(messages.length, "message")}` : counted(messages.length, "message")];
  if (messages.length < total) parts.push(`${numbers.format(total - messages.length)} older ones are not loaded yet`);
  if (dropped) parts.push(`${numbers.format(dropped)} made room for newer ones`);
  return parts.join(" · ");
}

function showView() {
  const message = chosen(), wide = state.tab === "calls" || !state.messages.length;
  document.body.className = wide ? "wide" : message ? "reading" : "";
  const view = state.tab === "calls" ? callsView() : !state.messages.length ? emptyView() : !message ? pickView()
    : message.channel === "email" ? emailView(message, state.mode, (mode) => { state.mode = mode; showView(); }) : chatView(message, state.messages);
  $("view").replaceChildren(el("a", { class: "back", href: "#" }, "‹ All messages"), view);
  $("view").scrollTop = 0;
  if (message && !wide) $("view").querySelector(".chosen")?.scrollIntoView({ block: "center" });
}

function show() {
  showTabs();
  showFilters();
  showList();
  showView();
}
// Bring the open message's row into the list, and into sight.
function showRow(block = "nearest") {
  const at = shown().indexOf(chosen());
  if (at >= state.rows) {
    state.rows = at + ROWS;
    showList();
  }
  document.querySelector("[aria-current=true]")?.scrollIntoView({ block });
}

async function refresh() {
  try {
    const before = chosen(), changed = await loadNew();
    const callsChanged = state.tab === "calls" && await loadCalls();
    $("live").className = "live";
    $("live").textContent = "Live";
    if (!changed && !callsChanged) return;
    showTabs();
    showFilters();
    showList();
    // What is being read stays as it is: no jump, no flicker of the frame.
    if (!before || before !== chosen()) showView();
  } catch {
    $("live").className = "live off";
    $("live").textContent = "Sandbox stopped";
  }
}

for (const name of ["search", "user", "severity"]) {
  $(name).addEventListener("input", (event) => {
    Object.assign(state, { [name]: event.target.value, rows: ROWS });
    showList();
    $("list").scrollTop = 0;
  });
}
$("refresh").addEventListener("click", refresh);
$("clear").addEventListener("click", async () => {
  if (!confirm("Drop all messages?")) return;
  await fetch("/api/messages", { method: "DELETE" });
  await refresh();
});
addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (!["ArrowDown", "ArrowUp", "j", "k"].includes(event.key) || event.target.matches("input, select")) return;
  const messages = shown(), step = event.key === "ArrowDown" || event.key === "j" ? 1 : -1;
  const next = messages[Math.max(0, Math.min(messages.length - 1, messages.indexOf(chosen()) + step))];
  if (!next || state.tab === "calls") return;
  event.preventDefault();
  location.hash = next.number;
});
addEventListener("hashchange", () => showRow());
setInterval(() => { if (!document.hidden) refresh(); }, POLL_MS);

(async () => {
  const settings = await fetch("/api/settings").catch(() => null);
  if (settings?.ok) state.settings = (await settings.json()).settings;
  await refresh();
  while (!isComplete() && state.messages.length < AHEAD && await loadOlder());
  if (!location.hash && state.messages.length && !narrow.matches) location.replace(`#${mostTelling(state.messages).number}`);
  await route();
  showRow("center");
  document.body.dataset.complete = "";
})();
