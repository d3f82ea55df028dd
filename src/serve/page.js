// page.js -- shows what /events brings (see lua/operate.md). SPDX-License-Identifier: MIT
//
// It asks nobody else for anything. All that comes is put in as text, never as HTML.
"use strict";
const $ = (id) => document.getElementById(id);

// ---- elements ----

function make(tag, attributes, ...children) {
   const e = document.createElement(tag);
   for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
   e.append(...children);
   return e;
}
function svg(tag, attributes, ...children) {
   const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
   for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
   e.append(...children);
   return e;
}
// What did not change is not touched, so that a screen reader says nothing of it.
function say(e, text) {
   text = String(text);
   if (e.textContent !== text) e.textContent = text;
}
function put(e, name, value) {
   value = String(value);
   if (e.getAttribute(name) !== value) e.setAttribute(name, value);
}
function show(e, is) {
   if (e.hidden === is) e.hidden = !is;
}

// Makes the children of `parent` one for each item, by key; those that stay are only updated.
function list(parent, items, keyOf, create, update) {
   const old = new Map([...parent.children].map((e) => [e.dataset.key, e])),
      seen = new Map();
   items.forEach((item, i) => {
      let key = keyOf(item, i);
      const n = seen.get(key) || 0;
      seen.set(key, n + 1);
      if (n > 0) key += "\n" + n;
      let e = old.get(key);
      if (!e) {
         e = create(item);
         e.dataset.key = key;
      }
      old.delete(key);
      if (parent.children[i] !== e) parent.insertBefore(e, parent.children[i] || null);
      update(e, item);
   });
   for (const e of old.values()) e.remove();
}

// ---- words ----

function number(n) {
   return n.toLocaleString("en", { maximumFractionDigits: n < 10 ? 1 : 0 });
}
function count(n, one, many) {
   return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}
function bytes(n) {
   const units = ["B", "KB", "MB", "GB", "TB"];
   let i = 0;
   while (n >= 1024 && i < units.length - 1) {
      n /= 1024;
      i++;
   }
   return `${number(n)} ${units[i]}`;
}
function span(seconds) {
   if (seconds < 0.001) return "below 1 ms";
   if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
   if (seconds < 10) return `${seconds.toFixed(1).replace(".0", "")} s`;
   if (seconds < 120) return `${Math.round(seconds)} s`;
   if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
   if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
   return `${Math.round(seconds / 86400)} days`;
}
function clock(time) {
   const d = new Date(time),
      pad = (n) => String(n).padStart(2, "0");
   const day =
      d.toDateString() === new Date().toDateString()
         ? ""
         : `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} `;
   return `${day}${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}
function ago(time, now) {
   return Math.max(0, (Date.parse(now) - Date.parse(time)) / 1000);
}

const captures = {
   xmin: "by xmin",
   increment: "by a column that grows",
   trigger: "by triggers",
   logical: "by the log",
};
const works = {
   loop: "The program stands still",
   starts: "Starting",
   snapshot: "Existing rows are read",
   database: "The database fails",
   wait: "The database lets us wait",
   handler: "A handler fails, and is tried again",
   sink: "A sink fails, and is tried again",
   paused: "Paused",
   lag: "Late",
};
const calm = { starts: true, snapshot: true };

// ---- is all well ----

// Not the sink's name, or the reason, with which they may begin: these stand there already.
function wordsOf(p) {
   for (const said of [p.sink || p.name, (works[p.reason] || "").toLowerCase()])
      if (said && p.message.startsWith(`${said}: `)) return p.message.slice(said.length + 2);
   return p.message;
}
function sinceText(since, now) {
   const seconds = ago(since, now);
   const spent = seconds < 10 ? `${Math.floor(seconds)} s` : span(seconds);
   return `since ${clock(since)}` + (seconds >= 1 ? `, for ${spent}` : "");
}

let state = "busy";
function verdict(kind, headline, since, problems) {
   state = kind;
   put($("verdict"), "class", kind);
   say($("headline"), headline);
   say($("since"), since);
   list(
      $("problems"),
      problems,
      (p) => [p.reason, p.source, p.sink].join("\n"),
      () => make("li", {}, make("span"), make("span", { class: "words" })),
      (e, p) => {
         say(
            e.children[0],
            `${p.source || p.sink || "the program"}: ` +
               `${(works[p.reason] || p.reason).toLowerCase()}, since ${clock(p.since)}`,
         );
         say(e.children[1], wordsOf(p));
      },
   );
   const colors = { good: "%2312703a", warn: "%23d98b0b", bad: "%23b3261e", busy: "%231d5fb4" };
   put(
      $("icon"),
      "href",
      `data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>` +
         `<circle cx='8' cy='8' r='7' fill='${colors[kind]}'/></svg>`,
   );
}
// The kind of the verdict, and its headline.
function headlineOf(s) {
   const blocking = s.problems.filter((p) => p.blocking);
   if (!s.live) return ["bad", "The program stands still"];
   if (s.role === "standby") return ["good", "Standby: it takes over when the leader ends"];
   if (s.problems.length === 0) return ["good", "All is well"];
   if (s.problems.every((p) => p.reason === "paused"))
      return [
         "warn",
         s.sources.every((x) => x.paused_by_user)
            ? "Paused by a user"
            : "All is well but for what a user has paused",
      ];
   if (blocking.length === 0) return ["warn", "Nothing is late, but not all is well"];
   if (!blocking.every((p) => calm[p.reason])) return ["bad", "Changes are not delivered in time"];
   if (!s.problems.every((p) => calm[p.reason])) return ["warn", "Starting, but not all is well"];
   if (blocking.some((p) => p.reason === "starts")) return ["busy", "Starting"];
   return ["busy", "Reading the rows that are there"];
}
// Who leads, where the state is in a database.
function roleOf(s) {
   const name = (p) => `${p.host}, pid ${p.pid}`;
   if (!s.lease) return "";
   if (s.role === "leader")
      return (
         `Leader, epoch ${s.lease.epoch}, ` +
         `lease renewed ${span(s.lease.renewed_seconds_ago)} ago; ` +
         (s.lease.standby ? `${name(s.lease.standby)}, waits` : "nobody waits")
      );
   return s.lease.leader ? `${name(s.lease.leader)}, leads, epoch ${s.lease.epoch}` : "";
}
function showVerdict(s) {
   const [kind, headline] = headlineOf(s);
   const first = s.problems.map((p) => p.since).sort()[0];
   const since = kind === "good" || !first ? s.since : first;
   const failed = s.sources.reduce((n, x) => n + x.failed, 0);
   verdict(
      kind,
      headline,
      sinceText(since, s.now) +
         (failed ? `; ${count(failed, "change was", "changes were")} given up` : ""),
      s.problems,
   );
   document.title = `${{ good: "✓", warn: "!", bad: "✗", busy: "…" }[kind]} ${s.script}`;
}

// ---- sources ----

function fact(name, cls) {
   return make("div", {}, make("dt", {}, name), make("dd", cls ? { class: cls } : {}));
}
function createSource() {
   const graph = svg(
      "svg",
      { class: "spark", viewBox: "0 0 120 40", preserveAspectRatio: "none", role: "img" },
      svg("line", { x1: 0, x2: 120, y1: 39.5, y2: 39.5 }),
      svg("path"),
      svg("polyline"),
   );
   const bar = make("div", {}, make("progress", { max: 1 }), make("p", { class: "soft" }));
   return make(
      "article",
      { class: "card" },
      make("div", { class: "top" }, make("h3"), make("span", { class: "tag" })),
      make("p", { class: "soft" }),
      make("dl", {}, fact("Behind by", "big"), fact("Changes a second", "big")),
      graph,
      make("p", { class: "soft" }),
      bar,
      make(
         "dl",
         {},
         fact("Last change"),
         fact("Delivered"),
         fact("Position saved"),
         fact("Polls"),
         fact("A change takes"),
         fact("A poll takes"),
      ),
      make("p", { class: "soft more" }),
   );
}
// The step that is not over is drawn as it will be if changes go on to come as they do.
function drawSpark(e, s) {
   const { changes, seconds } = s.history,
      steps = [...changes.slice(0, -1), s.changes_per_second * seconds],
      most = Math.max(...steps, 1),
      left = 120 - steps.length;
   const points = steps.flatMap((y, i) => {
      const height = (39 - (36 * y) / most).toFixed(1);
      return [`${left + i},${height}`, `${left + i + 1},${height}`];
   });
   put(e.children[2], "points", points.join(" "));
   put(e.children[1], "d", `M${left},39.5 L${points.join(" L")} L120,39.5 Z`);
   const n = total(changes),
      peak = n ? `, at most ${number(most / seconds)} a second` : "";
   put(
      e,
      "aria-label",
      `${count(n, "change", "changes")} in the last ${span(steps.length * seconds)}${peak}`,
   );
   return `ten minutes${peak}`;
}
function total(changes) {
   return Object.values(changes).reduce((a, b) => a + b, 0);
}
function stateOf(s, all) {
   const mine = all.problems.filter((p) => p.source === s.name),
      worst = mine.find((p) => !calm[p.reason]);
   if (worst)
      return [
         worst.blocking ? "bad" : "warn",
         { database: "database fails", lag: "late", handler: "handler fails", wait: "waits" }[
            worst.reason
         ] || worst.reason,
      ];
   if (all.role === "standby") return ["", "stands by"];
   if (s.phase === "connecting") return ["busy", "connecting"];
   if (s.phase === "snapshot") return ["busy", "first read"];
   if (s.phase === "done") return ["", "done"];
   if (s.paused_by_user) return ["warn", "paused"];
   if (s.paused) return ["warn", "waits"];
   return s.lag_seconds >= 1 && all.holding.some((h) => h.source === s.name)
      ? ["", "held back"]
      : ["", "up to date"];
}
function updateSource(e, s, all) {
   const [top, where, facts, graph, axis, bar, more, words] = e.children,
      [kind, word] = stateOf(s, all);
   put(e, "class", `card ${kind === "busy" ? "" : kind}`.trim());
   say(top.children[0], s.name);
   put(top.children[1], "class", `tag ${kind}`.trim());
   say(top.children[1], word);
   const every = span(Math.max(s.interval_seconds, s.stretched_interval_seconds)),
      isFed = s.capture === "kafka";
   say(
      where,
      isFed
         ? `${s.table}, from Kafka`
         : `table ${s.table}, ${captures[s.capture] || s.capture}, every ${every}`,
   );
   say(
      facts.children[0].children[1],
      s.phase === "connecting" || s.phase === "snapshot"
         ? "–"
         : s.lag_seconds < 0.05
           ? "nothing"
           : span(s.lag_seconds),
   );
   say(facts.children[1].children[1], number(s.changes_per_second));
   say(axis, drawSpark(graph, s));
   show(bar, s.phase === "snapshot");
   if (s.snapshot) {
      const p = Math.round(s.snapshot.progress * 100),
         left = s.snapshot.seconds_left;
      put(bar.children[0], "value", s.snapshot.progress);
      put(bar.children[0], "aria-label", `rows of ${s.name} that are there: ${p} % read`);
      say(
         bar.children[1],
         `${p} %, ${count(s.snapshot.rows, "row", "rows")}` +
            (left === null ? "" : `, about ${span(left)} left`),
      );
   }
   for (const i of [3, 5]) show(more.children[i], !isFed); // it is not polled
   const d = [...more.children].map((x) => x.children[1]),
      position = s.position;
   say(d[0], s.last_change ? `${span(ago(s.last_change, all.now))} ago` : "none yet");
   say(
      d[1],
      count(total(s.changes), "change", "changes") +
         (s.filtered ? `, ${number(s.filtered)} of them filtered` : ""),
   );
   say(
      d[2],
      (position.saved
         ? `${span(position.age_seconds)} ago`
         : position.kept
           ? "by an earlier run"
           : "not yet") +
         (position.lsn
            ? `, at ${position.lsn}`
            : position.xmax
              ? `, at transaction ${position.xmax}`
              : "") +
         (position.unsaved_batches
            ? `; ${count(position.unsaved_batches, "batch waits", "batches wait")}`
            : ""),
   );
   say(
      d[3],
      `${number(s.polls.changed + s.polls.empty + s.polls.skipped)}` +
         (s.polls.error ? `, ${number(s.polls.error)} failed` : "") +
         (s.reconnects ? `, ${count(s.reconnects, "reconnect", "reconnects")}` : ""),
   );
   say(
      d[4],
      s.handler_seconds
         ? `${spanFine(s.handler_seconds.sum / s.handler_seconds.count)} on average`
         : "–",
   );
   say(
      d[5],
      s.poll_seconds
         ? `${span(s.poll_seconds.last)}, ${number(s.rows_scanned)} rows so far`
         : "–",
   );
   const extra = [];
   if (s.spool_bytes) extra.push(`${bytes(s.spool_bytes)} wait on disk`);
   if (s.slot_retained_bytes)
      extra.push(`the slot keeps ${bytes(s.slot_retained_bytes)} of the server's log`);
   if (s.failed) extra.push(`${count(s.failed, "change was", "changes were")} given up`);
   say(words, extra.join("; "));
   show(words, extra.length > 0);
}
function spanFine(seconds) {
   return seconds < 0.001 ? `${number(seconds * 1e6)} µs` : span(seconds);
}

// ---- what holds positions back, sinks, letters ----

function showHolding(s) {
   list(
      $("holding"),
      s.holding,
      (h) => [h.kind, h.name, h.source].join("\n"),
      () =>
         make(
            "li",
            { class: "card warn" },
            make("p"),
            make("p", { class: "words" }),
            make("p", { class: "soft" }),
         ),
      (e, h) => {
         say(
            e.children[0],
            h.kind === "operator"
               ? `the operator ${h.name}`
               : h.kind === "sink"
                 ? `the sink ${h.name}`
                 : h.name
                   ? `the handler at ${h.name}`
                   : "a handler",
         );
         say(e.children[1], wordsOf(h));
         say(e.children[2], (h.source ? `of ${h.source}, ` : "") + sinceText(h.since, s.now));
      },
   );
   show($("no-holding"), s.holding.length === 0);
}
function fill(e, text) {
   say(e, text);
   e.classList.toggle("none", text === "–" || text === "nothing");
}
function row(labels) {
   return make(
      "tr",
      {},
      ...labels.map(([label, cls]) =>
         make("td", cls ? { class: cls, "data-label": label } : { "data-label": label }),
      ),
   );
}
function showSinks(s) {
   list(
      $("sink-rows"),
      s.sinks,
      (x) => x.name,
      () =>
         row([
            ["Sink"],
            ["State:"],
            ["Last flush:", "n"],
            ["Took:", "n"],
            ["On average:", "n"],
            ["Records:", "n"],
            ["Waiting:", "n"],
            ["Retries:", "n"],
         ]),
      (e, x) => {
         const d = e.children,
            f = x.flush_seconds,
            t = x.trouble;
         say(d[0], x.kind && !x.name.startsWith(x.kind) ? `${x.name} (${x.kind})` : x.name);
         if (!d[1].firstChild)
            d[1].append(make("span", { class: "tag" }), make("span", { class: "words" }));
         put(d[1].children[0], "class", t ? "tag bad" : x.breaker_open ? "tag warn" : "tag");
         say(
            d[1].children[0],
            t
               ? `fails since ${clock(t.since)}`
               : x.breaker_open
                 ? "paused"
                 : f
                   ? "works"
                   : "not used yet",
         );
         say(d[1].children[1], t ? ` ${wordsOf({ sink: x.name, message: t.message })}` : "");
         fill(d[2], x.flushed ? `${span(ago(x.flushed, s.now))} ago` : "–");
         fill(d[3], f ? spanFine(f.last) : "–");
         fill(d[4], f ? spanFine(f.sum / f.count) : "–");
         fill(d[5], x.records === undefined ? "–" : x.records.toLocaleString("en"));
         fill(
            d[6],
            x.unsent_rows === undefined
               ? "–"
               : x.unsent_rows
                 ? count(x.unsent_rows, "record", "records") +
                   (x.unsent_bytes === undefined ? "" : `, ${bytes(x.unsent_bytes)}`)
                 : "nothing",
         );
         say(
            d[7],
            t
               ? t.attempts + (x.retries || 0)
               : x.retries === undefined
                 ? 0
                 : x.retries.toLocaleString("en"),
         );
      },
   );
   show($("sinks"), s.sinks.length > 0);
   show($("no-sinks"), s.sinks.length === 0);
}
function showLetters(s) {
   list(
      $("letter-rows"),
      s.given_up,
      (x, i) => `${x.at} ${i}`,
      () => row([["When"], ["Source:"], ["By:"], ["Change:"], ["Why:"]]),
      (e, x) => {
         const d = e.children;
         say(d[0], clock(x.at));
         say(d[1], x.source || "–");
         say(d[2], x.sink ? `the sink ${x.sink}` : x.place || "a handler");
         say(d[3], x.change || (s.shows_rows ? "–" : "not shown"));
         say(d[4], x.message || (s.shows_rows ? "–" : "in the log; --listen-rows shows it here"));
      },
   );
   show($("letters"), s.given_up.length > 0);
   show($("no-letters"), s.given_up.length === 0);
}

// ---- all of it ----

let newest = 0,
   lostSince = null,
   events;
function render(s) {
   newest = Date.now();
   lostSince = null;
   document.body.classList.remove("stale");
   document.body.classList.toggle("standby", s.role === "standby");
   say($("script"), s.script);
   say($("about"), `pgcdc-lua ${s.program}, running for ${span(ago(s.started, s.now))}`);
   say($("role"), roleOf(s));
   showVerdict(s);
   list(
      $("sources"),
      s.sources,
      (x) => x.name,
      createSource,
      (e, x) => updateSource(e, x, s),
   );
   show($("no-sources"), s.sources.length === 0);
   showHolding(s);
   showSinks(s);
   showLetters(s);
   showPipeline(s);
   say(
      $("program"),
      (s.role === "standby" ? "It reads nothing" : `The loop ${s.loop.work}`) +
         `. Memory ${bytes(s.resident_bytes)}, ` +
         `of it ${bytes(s.lua_memory_bytes)} of the script; ` +
         `${bytes(s.queue_bytes)} wait in the queue; ` +
         (s.lease
            ? "the state is in a database."
            : `the state file has ${bytes(s.state_file_bytes)}.`),
   );
   show($("main"), true);
}
function lost() {
   if (lostSince === null) lostSince = newest || Date.now();
   document.body.classList.add("stale");
   document.title = "✗ pgcdc-lua";
   verdict(
      "bad",
      "The program does not answer",
      newest
         ? `since ${clock(lostSince)}; what follows is from then`
         : `asked since ${clock(lostSince)}`,
      [],
   );
}
function listen() {
   events = new EventSource("/events");
   events.onmessage = (e) => render(JSON.parse(e.data));
   events.onerror = () => {
      events.close();
      lost();
      setTimeout(listen, 1000);
   };
}
setInterval(() => {
   // a connection that is half open says nothing
   if (newest && lostSince === null && Date.now() - newest > 6000) {
      events.close();
      lost();
      listen();
   }
}, 1000);
listen();
