"use strict";
// How a message looks to its user. Messages are data: every node is built with textContent, nothing is ever parsed into
// this page as markup.
const THREAD = 40;
const CHANNELS = { email: "Email", telegram: "Telegram", sms: "SMS" };
const SEVERITIES = ["", "Low", "Moderate", "Elevated", "High", "Critical"];
const ICONS = {
  email: "M4 6h16v12H4z M4 7l8 6 8-6",
  telegram: "M21 4 3 11l6 2.4L18 7l-6.6 7.6L11 20l3-3.6 4.4 2.6z",
  sms: "M5 5h14a1.5 1.5 0 0 1 1.5 1.5v8A1.5 1.5 0 0 1 19 16h-7l-4.5 3.5V16H5a1.5 1.5 0 0 1-1.5-1.5v-8A1.5 1.5 0 0 1 5 5z M8 9.2h8 M8 12h5",
};
const $ = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function icon(channel) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[channel]);
  svg.append(path);
  return el("span", { class: `badge ${channel}` }, svg);
}

// --- severity: what the message says of itself, in its subject or first line ---
const WORDS = SEVERITIES.slice(1).join("|");
const LIGHT = /^\p{Extended_Pictographic}\S*\s+/u;
const MARKS = [
  new RegExp(`^\\[(${WORDS})\\]`, "i"), // an email's subject: [Critical] …
  new RegExp(`^\\p{Extended_Pictographic}\\S*\\s+(${WORDS})\\b`, "iu"), // Telegram: a light, then the word
  new RegExp(`^(?:\\S+ )?(${WORDS.toUpperCase()})\\b`), // an SMS: EnergyRiskIQ CRITICAL …
  new RegExp(`\\b\\d+ (${WORDS})\\b`, "i"), // a digest: 4 alerts, 1 critical
];
const severities = new WeakMap();
function severity(message) {
  if (!severities.has(message)) {
    const head = (message.subject ?? message.text.trimStart().split("\n", 1)[0]).slice(0, 200);
    const word = MARKS.map((mark) => mark.exec(head)?.[1].toLowerCase()).find(Boolean);
    severities.set(message, word ? SEVERITIES.findIndex((one) => one.toLowerCase() === word) : 0);
  }
  return severities.get(message);
}
// The most severe one; of several an email, which shows most; of several the newest.
function mostTelling(messages) {
  const rank = (one) => 2 * severity(one) + (one.channel === "email");
  return messages.reduce((best, one) => rank(one) > rank(best) ? one : best, messages[0]);
}

// --- time ---
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });
const date = new Intl.DateTimeFormat([], { weekday: "long", day: "numeric", month: "long" });
function day(iso) {
  const then = new Date(iso), today = new Date();
  const days = Math.round((new Date(today.toDateString()) - new Date(then.toDateString())) / 86400000);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : date.format(then);
}
function withDays(messages, show, tag = "div") {
  const nodes = [];
  let current = "";
  for (const message of messages) {
    const label = day(message.received_at);
    if (label !== current) nodes.push(el(tag, { class: "day" }, (current = label)));
    nodes.push(show(message));
  }
  return nodes;
}

// --- Telegram's markup ---
const TELEGRAM_TAGS = { b: "strong", strong: "strong", i: "em", em: "em", u: "u", ins: "u", s: "s", strike: "s", del: "s",
  code: "code", pre: "pre", blockquote: "blockquote", a: "a", span: "span", "tg-spoiler": "span", "tg-emoji": "span" };
const BLOCKS = new Set(["blockquote", "pre"]);
function telegramNodes(parent) {
  return [...parent.childNodes].flatMap((node) => {
    // A block ends its line: the newline that follows it in the text is not one more.
    if (node.nodeType === Node.TEXT_NODE) return [BLOCKS.has(node.previousSibling?.localName) ? node.data.replace(/^\n/, "") : node.data];
    if (node.nodeType !== Node.ELEMENT_NODE) return [];
    const name = node.localName, tag = TELEGRAM_TAGS[name];
    if (!tag) return telegramNodes(node);
    const made = el(tag, {}, ...telegramNodes(node));
    if (tag === "a") linkTo(made, node.getAttribute("href"));
    if (name === "tg-spoiler" || name === "span") {
      made.className = "spoiler";
      made.addEventListener("click", () => made.classList.toggle("open"));
    }
    return [made];
  });
}
function linkTo(anchor, address) {
  let url;
  try { url = new URL(address); } catch { return; }
  if (!["http:", "https:", "tg:", "mailto:"].includes(url.protocol)) return;
  anchor.href = url.href;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer";
}
function telegramBody(message) {
  if (message.html === null) return [message.text];
  return telegramNodes(new DOMParser().parseFromString(message.html, "text/html").body);
}

// --- one message ---
function emailFrame(message) {
  const base = '<base target="_blank">';
  const html = /<head[\s>]/i.test(message.html) ? message.html.replace(/<head[^>]*>/i, `$&${base}`)
    : message.html.replace(/^(\s*<!doctype[^>]*>)?/i, `$&${base}`);
  const fit = () => {
    frame.style.height = "";
    frame.style.height = `${frame.contentDocument?.documentElement.scrollHeight ?? 0}px`;
  };
  const follow = () => new ResizeObserver(() => requestAnimationFrame(fit)).observe(frame.contentDocument.documentElement);
  const frame = el("iframe", { title: "The email", referrerpolicy: "no-referrer", onload: follow,
    sandbox: "allow-same-origin allow-popups allow-popups-to-escape-sandbox", srcdoc: html });
  return frame;
}

function facts(message) {
  const rows = { Provider: message.provider, "Message id": message.provider_message_id,
    "Idempotency key": message.idempotency_key, Received: exact.format(new Date(message.received_at)), Number: message.number };
  const list = Object.entries(rows).filter(([, value]) => value !== null)
    .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]);
  return el("details", { class: "facts" }, el("summary", {}, "Delivery details"), el("dl", {}, ...list));
}

function emailView(message, wanted, choose) {
  const mode = message.html === null ? "text" : !message.text ? "html" : wanted;
  const button = (name, label) => el("button", { type: "button", "aria-pressed": String(mode === name), onclick: () => choose(name) }, label);
  const both = message.html !== null && message.text;
  return el("article", { class: "mail email" },
    el("h2", {}, message.subject || "(no subject)"),
    el("div", { class: "people" },
      el("div", { class: "face", "aria-hidden": "true" }, (message.sender.match(/[\p{L}\p{N}]/u) || ["?"])[0].toUpperCase()),
      el("p", {}, el("strong", {}, message.sender), el("br"),
        el("span", {}, `to ${message.destination} · ${day(message.received_at)}, ${clock.format(new Date(message.received_at))}`)),
      both ? el("div", { class: "switch" }, button("html", "HTML"), button("text", "Text")) : null),
    el("div", { class: "sheet" }, mode === "html" ? emailFrame(message) : el("pre", {}, message.text)),
    facts(message));
}

function chatView(message, messages) {
  const { channel, destination } = message;
  const mine = messages.filter((one) => one.channel === channel && one.destination === destination);
  const at = mine.indexOf(message);
  const thread = mine.slice(Math.max(0, at - THREAD / 2), at + THREAD / 2).reverse();
  const bubble = (one) => el("div", { class: one === message ? "bubble chosen" : "bubble", id: `m${one.number}` },
    el("div", { class: "body", dir: "auto" }, ...(channel === "telegram" ? telegramBody(one) : [one.text])),
    el("div", { class: "foot" }, clock.format(new Date(one.received_at)),
      one.segments ? el("span", { class: "pill" }, one.segments === 1 ? "1 segment" : `${one.segments} segments`) : null),
    one === message ? facts(one) : null);
  const title = channel === "telegram" ? (destination.startsWith("-") ? `Group ${destination}` : `Chat ${destination}`) : destination;
  return el("section", { class: `chat ${channel}` },
    el("header", {}, icon(channel), el("p", {}, el("strong", {}, title), el("br"),
      el("span", {}, `${CHANNELS[channel]} from ${message.sender}`))),
    el("div", { class: "thread" }, ...withDays(thread, bubble)));
}

// --- a row of the list ---
// What a mail program's list shows beside the subject: the hidden beginning of the email, if it has one.
function preheader(html) {
  const found = /<div[^>]*display:\s*none[^>]*>([^<]*)/.exec(html ?? "");
  const text = found ? new DOMParser().parseFromString(found[1], "text/html").body.textContent : "";
  return text.replace(/[\s\u034f\u2007]+/g, " ").trim();
}
function row(message, isChosen) {
  const [first, ...rest] = message.text.split("\n", 12).map((line) => line.trim()).filter(Boolean);
  const lines = message.subject ? [message.subject, preheader(message.html) || [first, ...rest].join(" ")]
    : [first || "", rest.join(" ")];
  const level = severity(message), head = level ? lines[0].replace(LIGHT, "") : lines[0]; // the row has a light of its own
  return el("li", {}, el("a", { class: "item", href: `#${message.number}`, "aria-current": String(isChosen) },
    icon(message.channel), el("span", { class: "who" }, message.destination),
    el("time", { datetime: message.received_at }, clock.format(new Date(message.received_at))),
    el("span", { class: `line s${level}` }, head), lines[1] ? el("span", { class: "more" }, lines[1].slice(0, 160)) : null));
}
