// Makes pages move: times in the reader's zone, and news without a reload. Everything is
// there without it too. Pages come from the server; what has changed is put into the one
// that is open, so that scroll position, focus and selection stay.
"use strict";

const main = document.getElementById("main");
const live = document.getElementById("live");
const said = document.getElementById("said");

// Times

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayAndClock = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const exactly = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function localize(root) {
	for (const time of root.querySelectorAll("time[datetime]")) {
		const at = new Date(time.dateTime);
		if (isNaN(at)) continue;
		const today = at.toDateString() === new Date().toDateString();
		time.textContent = (today ? clock : dayAndClock).format(at);
		time.title = `${exactly.format(at)}\n${time.dateTime}`;
	}
	for (const picture of root.querySelectorAll("[data-chart]")) {
		const name = picture.localName === "img" ? "src" : "srcset";
		picture.setAttribute(name, `${picture.getAttribute(name)}&tz=${encodeURIComponent(zone)}`);
	}
}

// Images that are gone: results are not kept for ever

document.addEventListener("error", (e) => {
	if (e.target instanceof HTMLImageElement && e.target.closest(".medium")) {
		e.target.closest(".frame").classList.add("gone");
	}
}, true);

// Changing the page in place

function keyOf(node) {
	return node.nodeType === Node.ELEMENT_NODE ? node.dataset.key || node.id || "" : "";
}

function alike(a, b) {
	return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

// These belong to the reader.
const kept = new Set(["open", "checked", "value", "hidden"]);

function change(old, fresh) {
	if (old.nodeType !== Node.ELEMENT_NODE) {
		if (old.data !== fresh.data) old.data = fresh.data;
		return;
	}
	if (old.hasAttribute("data-still") || old.isEqualNode(fresh)) return;
	for (const { name, value } of fresh.attributes) {
		if (!kept.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
	}
	for (const { name } of [...old.attributes]) {
		if (!kept.has(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
	}
	changeChildren(old, [...fresh.childNodes]);
}

function changeChildren(parent, fresh) {
	const byKey = new Map();
	for (const child of parent.childNodes) {
		if (keyOf(child)) byKey.set(keyOf(child), child);
	}
	let next = parent.firstChild;
	for (const node of fresh) {
		const key = keyOf(node);
		let there = key ? byKey.get(key) : next;
		if (there && (!alike(there, node) || !key && keyOf(there))) there = null;
		if (!there) {
			parent.insertBefore(node, next);
			continue;
		}
		if (there === next) next = next.nextSibling;
		else parent.insertBefore(there, next);
		change(there, node);
	}
	while (next) {
		const gone = next;
		next = next.nextSibling;
		gone.remove();
	}
}

// A list of events: new ones come in at the top, unless somebody is reading.

const seen = new Set();
let waiting = null; // the fresh page whose new rows are not shown yet

function isReading(rows) {
	return rows.getBoundingClientRect().top < 0 || rows.matches(":hover") || rows.contains(document.activeElement) ||
		!getSelection().isCollapsed && getSelection().containsNode(rows, true);
}

function take(page) {
	const rows = main.querySelector("[data-rows]");
	const fresh = page.querySelector("[data-rows]");
	const label = document.getElementById("fresh");
	if (rows && fresh) {
		const added = [...fresh.children].filter((row) => !seen.has(row.dataset.key));
		if (added.length && !rows.hasAttribute("data-older") && isReading(rows)) {
			waiting = page;
			label.hidden = false;
			const news = added.length >= fresh.children.length ? "Show new events" : `Show ${added.length} new event${added.length === 1 ? "" : "s"}`;
			if (label.firstElementChild.textContent !== news) {
				label.firstElementChild.textContent = news;
				said.textContent = news;
			}
			// those that are shown go on
			const byKey = new Map([...fresh.children].map((row) => [row.dataset.key, row]));
			for (const row of rows.children) {
				const now = byKey.get(row.dataset.key);
				if (now) change(row, now.cloneNode(true));
			}
			return;
		}
		for (const row of added) row.classList.add("new");
	}
	show(page);
}

function show(page) {
	changeChildren(main, [...page.querySelector("main").childNodes]);
	const label = document.getElementById("fresh");
	if (label) label.hidden = true;
	waiting = null;
	remember();
}

function remember() {
	const rows = main.querySelector("[data-rows]");
	seen.clear();
	for (const row of rows ? rows.children : []) seen.add(row.dataset.key);
}

document.addEventListener("click", (e) => {
	if (!waiting || !e.target.closest("#fresh")) return;
	main.querySelector("[data-rows]").closest(".scroll").focus({ preventScroll: true });
	scrollTo({ top: 0 });
	show(waiting);
});

// News

let least = 2000; // between two looks, in milliseconds: longer if they cost more
const idle = 10000; // a look without news: ages grow, refusals are no news
let asked = 0;
let timer = 0;
let busy = false;
let failures = 0;

function tell(is, text) {
	if (live.dataset.is === is) return;
	live.dataset.is = is;
	live.textContent = text;
}

function later(ms) {
	clearTimeout(timer);
	timer = setTimeout(look, ms);
}

async function look() {
	if (busy || document.hidden) return;
	busy = true;
	asked = Date.now();
	try {
		const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(15000) });
		least = Number(answer.headers.get("Dashboard-Pause")) || 2000;
		if (!answer.ok) throw new Error(answer.status);
		const page = new DOMParser().parseFromString(await answer.text(), "text/html");
		if (!page.querySelector("main")) throw new Error("no page");
		localize(page);
		take(page);
		failures = 0;
		if (stream && stream.readyState === EventSource.CLOSED) listen();
		tell("live", "Live");
	} catch {
		failures++;
		tell("lost", "Not reachable: trying again");
	}
	busy = false;
	later(Math.min(idle * 2 ** Math.min(failures, 3), 60000));
}

let stream = null;

function listen() {
	stream = new EventSource(live.dataset.stream);
	stream.addEventListener("change", () => later(Math.max(0, asked + least - Date.now())));
	stream.addEventListener("open", () => later(Math.max(0, asked + least - Date.now())));
}

function hush() {
	if (stream) stream.close();
	stream = null;
	clearTimeout(timer);
}

// A page that nobody sees holds no connection and asks nothing.
function heed() {
	if (document.hidden) {
		hush();
	} else if (!stream) {
		listen();
		later(0);
	}
}

localize(document);
remember();
if (live.dataset.stream) {
	tell("live", "Live");
	asked = Date.now();
	if (!document.hidden) listen();
	document.addEventListener("visibilitychange", heed);
	addEventListener("pagehide", hush);
	addEventListener("pageshow", (e) => { if (e.persisted) heed(); });
	later(idle);
}
