// page_pipeline.js -- the pipeline as a picture. SPDX-License-Identifier: MIT
"use strict";

let drawn = "";
function layers(p) {
   const depth = new Map(p.nodes.map((n) => [n.id, 0]));
   for (let round = 0, moved = true; moved && round < p.nodes.length; round++) {
      // a loop ends it
      moved = false;
      for (const e of p.edges)
         if (depth.get(e.to) < depth.get(e.from) + 1) {
            depth.set(e.to, depth.get(e.from) + 1);
            moved = true;
         }
   }
   return depth;
}
// A node's row is near those that lead to it.
function place(p) {
   const depth = layers(p),
      columns = [],
      at = new Map();
   for (const n of p.nodes) (columns[depth.get(n.id)] ||= []).push(n);
   columns.forEach((column, x) => {
      const from = (n) =>
         p.edges.filter((e) => e.to === n.id && at.has(e.from)).map((e) => at.get(e.from).y);
      const mean = (n) => {
         const y = from(n);
         return y.length ? y.reduce((a, b) => a + b, 0) / y.length : 1e9;
      };
      const rank = (n) => (x > 0 ? mean(n) : n.kind === "source" ? 0 : 1);
      column.sort((a, b) => rank(a) - rank(b));
      let next = 0;
      for (const n of column) {
         const y = Math.max(next, x > 0 && mean(n) < 1e9 ? Math.round(mean(n)) : 0);
         at.set(n.id, { x, y });
         next = y + 1;
      }
   });
   return at;
}
function cut(text, n) {
   return text.length > n ? text.slice(0, n - 1) + "…" : text;
}
function draw(p) {
   const at = place(p),
      w = 180,
      h = 44,
      dx = 224,
      dy = 62;
   const columns = Math.max(...[...at.values()].map((a) => a.x)) + 1,
      rows = Math.max(...[...at.values()].map((a) => a.y)) + 1;
   const width = columns * dx - (dx - w) + 2,
      height = rows * dy - (dy - h) + 2;
   const picture = svg("svg", {
      width,
      height: height + 20,
      viewBox: `-1 -1 ${width} ${height}`,
      role: "img",
   });
   const names = new Map(p.nodes.map((n) => [n.id, n.lines.join(" ")]));
   put(
      picture,
      "aria-label",
      "Pipeline: " + p.edges.map((e) => `${names.get(e.from)} to ${names.get(e.to)}`).join("; "),
   );
   for (const e of p.edges) {
      const a = at.get(e.from),
         b = at.get(e.to),
         x1 = a.x * dx + w,
         y1 = a.y * dy + h / 2,
         x2 = b.x * dx,
         y2 = b.y * dy + h / 2;
      const line = `M${x1},${y1} C${x1 + 24},${y1} ${x2 - 24},${y2} ${x2},${y2}`;
      picture.append(
         svg("path", { d: line }),
         svg("path", { d: `M${x2 - 6},${y2 - 4} L${x2},${y2} L${x2 - 6},${y2 + 4}` }),
      );
      if (e.label)
         picture.append(
            svg(
               "text",
               {
                  class: "under",
                  x: (x1 + x2) / 2,
                  y: (y1 + y2) / 2 - 4,
                  "text-anchor": "middle",
               },
               e.label,
            ),
         );
   }
   for (const n of p.nodes) {
      const a = at.get(n.id),
         g = svg("g", {
            class: n.kind === "source" ? "source" : "",
            transform: `translate(${a.x * dx},${a.y * dy})`,
         });
      const [kind, ...rest] = n.lines,
         second = rest.join(" ");
      g.dataset.name = second;
      g.dataset.kind = n.kind;
      g.append(
         svg("rect", { width: w, height: h, rx: n.kind === "source" ? 16 : 4 }),
         svg("text", { x: w / 2, y: second ? 18 : 27, "text-anchor": "middle" }, kind),
      );
      if (second)
         g.append(
            svg(
               "text",
               { class: "under", x: w / 2, y: 34, "text-anchor": "middle" },
               cut(second, 22),
            ),
         );
      g.append(svg("title", {}, n.lines.join(" ")));
      picture.append(g);
   }
   return picture;
}
function showPipeline(s) {
   const text = JSON.stringify(s.pipeline);
   if (text !== drawn) {
      drawn = text;
      $("picture").replaceChildren(s.pipeline && s.pipeline.nodes.length ? draw(s.pipeline) : "");
   }
   const failing = new Set(s.sinks.filter((x) => x.trouble).map((x) => x.name)),
      holding = new Set(
         s.holding.filter((x) => x.kind === "operator").map((x) => x.name.replace(/ \d+$/, "")),
      );
   for (const g of document.querySelectorAll("#picture g")) {
      const base = g.dataset.kind === "source" ? "source" : "";
      put(
         g,
         "class",
         g.dataset.kind === "sink" && failing.has(g.dataset.name)
            ? "bad"
            : holding.has(g.dataset.kind)
              ? "warn"
              : base,
      );
   }
}

