// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
//
// Durations and sizes of the latest finished exports as bars. The label sums them up for screen readers; the table has
// each number.

import { counted, duration, localTime, size } from "./format.js";
import { STATES } from "./selection.js";

const { createElement: h } = globalThis.React;

const BARS = 48;
const HEIGHT = 100;
// Even the smallest bar is visible.
const LEAST = 1.5;

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

// The bar of an export: the whole, and the part of it that is highlighted.
function Bars({ title, exports, whole, part, words, legend }) {
  const drawn = exports
    .filter((row) => row.created_at && whole(row) !== null)
    .slice(0, BARS)
    .reverse();
  if (drawn.length === 0) return null;
  const values = drawn.map(whole);
  const top = Math.max(...values, 1);
  const high = (value) => Math.max((value / top) * HEIGHT, LEAST);
  const bar = (row, place, value, kind) =>
    h("rect", { key: kind, className: `${kind} ${row.state}`, x: place + 0.1, width: 0.8, y: HEIGHT - high(value), height: high(value) });
  return h(
    "figure",
    null,
    h("figcaption", null, h("strong", null, title), h("span", { className: "muted" }, `median ${words(median(values))}`), legend),
    h(
      "div",
      { className: "plot" },
      h("span", { className: "top muted", "aria-hidden": true }, words(top)),
      h(
        "svg",
        {
          // Few bars keep the width of many.
          viewBox: `0 0 ${Math.max(drawn.length, 12)} ${HEIGHT}`,
          preserveAspectRatio: "none",
          role: "img",
          "aria-label": `${title} of ${counted(drawn.length, "export")}: ${words(Math.min(...values))} to ${words(Math.max(...values))}, median ${words(median(values))}`,
        },
        drawn.map((row, place) =>
          h(
            "g",
            { key: row.id },
            h("title", null, `${localTime(row.created_at)}, ${STATES[row.state].toLowerCase()}: ${words(whole(row))}`),
            bar(row, place, whole(row), "whole"),
            part && part(row) !== null && bar(row, place, part(row), "part"),
          ),
        ),
      ),
    ),
    h("p", { className: "ends muted", "aria-hidden": true }, h("span", null, localTime(drawn[0].created_at)), drawn.length > 1 && h("span", null, localTime(drawn.at(-1).created_at))),
  );
}

export function Charts({ exports }) {
  const legend = h(
    "span",
    { className: "legend muted" },
    h("span", { className: "key whole" }),
    "plain",
    h("span", { className: "key part" }),
    "compressed",
  );
  return h(
    "div",
    { className: "charts" },
    h(Bars, { title: "Duration", exports, whole: (row) => row.duration_seconds, words: duration }),
    h(Bars, { title: "Size", exports, whole: (row) => row.plain_bytes, part: (row) => row.compressed_bytes, words: size, legend }),
  );
}
