// The token, the refreshing and the dialog; everything else is htmx, which swaps in what the server rendered.
"use strict";

const EVERY_MS = 10_000;
const KEY = "alerts-engine-token";
const byId = (id) => document.getElementById(id);
const overview = byId("overview"), detail = byId("detail"), detailBody = byId("detail-body");
const pause = byId("pause"), trouble = byId("trouble");
let paused = false, opener = null;

// --- the token: in this tab only ------------------------------------------------------------------------------------

const token = () => sessionStorage.getItem(KEY);

const WHY = {
  401: "This token is wrong.",
  421: "The server does not know itself by this name: start it with --allow-host.",
  429: "Too many wrong tokens came from this address. Wait a minute.",
  503: "The server has no INTERNAL_RUNNER_TOKEN: set it, and start it again.",
};

async function enter(given) {
  const answer = await fetch("openapi.json", { headers: { "x-internal-token": given }, cache: "no-store" });
  if (!answer.ok) throw new Error(WHY[answer.status] ?? `The server answered ${answer.status}.`);
  sessionStorage.setItem(KEY, given);
  open();
}

function open() {
  document.body.classList.remove("closed");
  refresh();
  overview.focus();
}

function leave(why = "") {
  sessionStorage.removeItem(KEY);
  if (detail.open) detail.close();
  overview.replaceChildren();
  detailBody.replaceChildren();
  document.body.classList.add("closed");
  byId("wrong").textContent = why;
  byId("token").focus();
}

byId("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = byId("token"), given = field.value.trim();
  byId("wrong").textContent = "";
  try {
    await enter(given);
    field.value = "";
  } catch (error) {
    byId("wrong").textContent = error instanceof TypeError ? "The server does not answer, or a header cannot hold this." : error.message;
    field.select();
  }
});

byId("leave").addEventListener("click", () => leave());

// --- htmx: the token goes with each request, and what fails is said ---------------------------------------------------

document.body.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["x-internal-token"] = token() ?? "";
});

document.body.addEventListener("htmx:beforeSwap", (event) => {
  const status = event.detail.xhr.status;
  if (token() === null) {
    event.detail.shouldSwap = false; // somebody left meanwhile
  } else if (status === 401) {
    event.detail.shouldSwap = false;
    leave(WHY[401]);
  } else if (event.detail.target === detailBody && status >= 400) {
    event.detail.shouldSwap = false;
    detailBody.replaceChildren(said(event.detail.xhr));
    show();
  }
});

function said(xhr) {
  let words = `The server answered ${xhr.status}.`;
  try {
    words = JSON.parse(xhr.responseText).error ?? words;
  } catch { /* not ours: a proxy's */ }
  const line = document.createElement("p");
  line.className = "wrong";
  line.textContent = words;
  return line;
}

document.body.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.target !== overview) return;
  const failed = !event.detail.successful && event.detail.xhr.status !== 401;
  trouble.hidden = !failed;
  document.body.classList.toggle("stale", failed);
  if (failed) {
    const why = event.detail.xhr.status ? said(event.detail.xhr).textContent : "The server does not answer.";
    trouble.textContent = `${why} What you see is old; trying again every ten seconds.`;
  }
});

// --- live -------------------------------------------------------------------------------------------------------------

// While somebody opens something, the button that asked for it must stay where it is.
let asking = 0;
const resting = () => asking > 0 || detail.open;

document.body.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target === detailBody) asking += 1;
});
document.body.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.target === detailBody) asking = Math.max(0, asking - 1);
});

function refresh() {
  if (token() !== null && !resting()) htmx.trigger(overview, "refresh");
}

setInterval(() => {
  if (!paused && !document.hidden) refresh();
}, EVERY_MS);

document.addEventListener("visibilitychange", () => {
  if (!paused && !document.hidden) refresh();
});

function setPaused(value) {
  paused = value;
  pause.setAttribute("aria-pressed", String(paused));
  pause.querySelector(".text").textContent = paused ? "Paused" : "Live";
  if (!paused) refresh();
}

pause.addEventListener("click", () => setPaused(!paused));

// What somebody opened stays open, whatever is swapped in.
let unfolded = new Set();
overview.addEventListener("htmx:beforeSwap", (event) => {
  if (resting() && overview.querySelector(".status")) event.detail.shouldSwap = false;
  unfolded = new Set([...overview.querySelectorAll("details[open]")].map((one) => one.id));
});
overview.addEventListener("htmx:afterSwap", () => {
  for (const one of overview.querySelectorAll("details")) one.open = unfolded.has(one.id);
});

// --- the dialog -------------------------------------------------------------------------------------------------------

function show() {
  if (!detail.open) {
    opener = document.activeElement;
    detail.showModal();
  }
  detail.scrollTop = 0;
}

document.body.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target === detailBody) show();
});
byId("close").addEventListener("click", () => detail.close());
detail.addEventListener("click", (event) => {
  if (event.target === detail || event.target.closest("[data-close]")) detail.close();
});
detail.addEventListener("close", () => {
  detailBody.replaceChildren();
  (document.getElementById(opener?.id) ?? overview).focus();
  if (!paused) refresh();
});

// --- keys and copying ---------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.body.classList.contains("closed")) return;
  if (event.target.closest("input, textarea, dialog[open]")) return;
  if (event.key === "/") {
    event.preventDefault();
    byId("q").focus();
  } else if (event.key === "p") {
    setPaused(!paused);
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard?.writeText(button.dataset.copy);
  button.textContent = navigator.clipboard ? "copied" : "select it";
});

if (token() !== null) open(); else byId("token").focus();
