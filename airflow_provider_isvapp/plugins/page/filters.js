// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
//
// The controls above the table.

import { STATES } from "./selection.js";

const { createElement: h } = globalThis.React;

export function ConnectionChoice({ ids, chosen, onChoose }) {
  // A connection in a secrets backend cannot be listed, but the URL can name it.
  const offered = ids.includes(chosen) ? ids : [chosen, ...ids];
  return h(
    "label",
    { className: "connection" },
    h("span", null, "Connection"),
    h(
      "select",
      { value: chosen, onChange: (event) => onChoose(event.target.value) },
      offered.map((id) => h("option", { key: id, value: id }, id)),
    ),
  );
}

export function StateChoice({ counts, chosen, onChoose }) {
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const button = (state, label, count) =>
    h(
      "button",
      { key: state, type: "button", className: state, "aria-pressed": chosen === state, onClick: () => onChoose(state) },
      `${label} `,
      h("span", { className: "count" }, count),
    );
  return h(
    "div",
    { className: "states", role: "group", "aria-label": "State" },
    button("", "All", all),
    Object.entries(STATES).map(([state, label]) => button(state, label, counts[state])),
  );
}

export function Search({ text, exportId, onSearch, onClear }) {
  if (exportId) {
    return h(
      "p",
      { className: "only" },
      "Only export ",
      h("code", null, exportId),
      " ",
      h("button", { type: "button", onClick: onClear }, "Show all"),
    );
  }
  return h(
    "label",
    { className: "text" },
    h("span", { className: "unseen" }, "Id or message"),
    h("input", { type: "search", value: text, placeholder: "Id or message", onChange: (event) => onSearch(event.target.value) }),
  );
}
