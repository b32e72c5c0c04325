// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
//
// The exports as a table, which a narrow page shows as cards. The roles are explicit, because browsers treat a table with
// another layout as plain text.

import { NOTHING, ago, duration, fromNow, localTime, size } from "./format.js";
import { STATES } from "./selection.js";

const { Fragment, createElement: h, useState } = globalThis.React;
const { Link } = globalThis.ReactRouterDOM;

// A thousand rows take a browser half a second, and most users only need the first ones.
const ROWS_AT_ONCE = 50;

const moment = (iso, words) =>
  iso ? h("time", { dateTime: iso, title: iso }, words, h("span", { className: "muted" }, localTime(iso))) : NOTHING;

const bytes = (number) =>
  number === null ? NOTHING : h("span", { title: `${number.toLocaleString()} bytes` }, size(number));

const COLUMNS = [
  { label: "State", cell: (row) => h("span", { className: `badge ${row.state}` }, STATES[row.state]) },
  { label: "Export", className: "id", cell: (row, onChoose) => h(ExportLink, { id: row.id, onChoose }) },
  { label: "Created", cell: (row) => moment(row.created_at, ago(row.age_seconds)) },
  { label: "Duration", className: "number", cell: (row) => duration(row.duration_seconds) },
  { label: "Compressed", className: "number", cell: (row) => bytes(row.compressed_bytes) },
  { label: "Plain", className: "number", cell: (row) => bytes(row.plain_bytes) },
  { label: "Expires", cell: (row) => moment(row.expires_at, fromNow(row.expires_in_seconds)) },
];
const CREATED_BY = { label: "Created by", className: "task", cell: (row) => row.task && h(TaskLink, row.task) };
const MESSAGE = { label: "Message", className: "message", cell: (row) => row.error_message };

// If the creator is unknown, the first task that used the export is shown, with that note.
function TaskLink({ dag_id, run_id, task_id, map_index, map_label, created }) {
  const mapped = map_index >= 0;
  const place = ["dags", dag_id, "runs", run_id, "tasks", task_id, ...(mapped ? ["mapped", map_index] : [])];
  return h(
    Fragment,
    null,
    !created && h("span", { className: "muted" }, "used by "),
    h(Link, { to: `/${place.map(encodeURIComponent).join("/")}` }, `${dag_id}.${task_id}${mapped ? `[${map_label}]` : ""}`),
    h("span", { className: "muted run" }, run_id),
  );
}

// A link, so that it can be copied and opened in a new tab.
function ExportLink({ id, onChoose }) {
  const here = new URL(location.href);
  here.searchParams.set("export", id);
  const choose = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    onChoose(id);
  };
  return h("a", { href: here.pathname + here.search, onClick: choose }, id);
}

export function ExportTable({ exports, chosen, onChoose }) {
  const [limit, setLimit] = useState(ROWS_AT_ONCE);
  const columns = [
    ...COLUMNS,
    ...(exports.some((row) => row.task) ? [CREATED_BY] : []),
    ...(exports.some((row) => row.error_message) ? [MESSAGE] : []),
  ];
  return h(
    Fragment,
    null,
    h(
      "table",
      // A card leaves out empty cells, so each cell names its column.
      { role: "table", "aria-colcount": columns.length },
      h("caption", { className: "unseen" }, "Exports, the newest first"),
      h(
        "thead",
        { role: "rowgroup" },
        h("tr", { role: "row" }, columns.map(({ label, className }, column) => h("th", { key: label, scope: "col", role: "columnheader", "aria-colindex": column + 1, className }, label))),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        exports.slice(0, limit).map((row) =>
          h(
            "tr",
            { key: row.id, role: "row", "aria-current": row.id === chosen || undefined },
            columns.map(({ label, className = "", cell }, column) => {
              const content = cell(row, onChoose);
              const empty = !content || content === NOTHING;
              return h(
                "td",
                { key: label, role: "cell", "aria-colindex": column + 1, className: empty ? `${className} nothing` : className, "data-label": label },
                content,
              );
            }),
          ),
        ),
      ),
    ),
    exports.length > limit &&
      h(
        "p",
        { className: "more" },
        h("span", { className: "muted" }, `${limit} of ${exports.length}`),
        h("button", { type: "button", onClick: () => setLimit(limit + ROWS_AT_ONCE) }, "Show more"),
      ),
  );
}
