// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
//
// The notices in place of the table.

const { createElement: h } = globalThis.React;

export function Problem({ title, text, note }) {
  return h("section", { className: "notice problem", role: "alert" }, h("h2", null, title), h("p", null, text), note && h("p", { className: "muted" }, note));
}

export function Loading({ connection }) {
  return h(
    "div",
    { className: "loading" },
    h("p", { className: "muted" }, connection ? `Reading the exports of ${connection}…` : "Loading connections…"),
    Array.from({ length: 6 }, (_, row) => h("div", { key: row, className: "bone", "aria-hidden": true })),
  );
}

export function NoExports({ connection }) {
  return h(
    "section",
    { className: "notice" },
    h("h2", null, "No exports yet"),
    h("p", null, `ISVapp knows no export of ${connection}. A task with IsvappExportOperator or IsvappCreateExportOperator creates one.`),
  );
}

export function NoMatch({ exportId, total, onClear }) {
  return h(
    "section",
    { className: "notice" },
    h("h2", null, "No export matches"),
    h(
      "p",
      null,
      exportId
        ? `Export ${exportId} is not among the ${total} that ISVapp lists for this connection, at most the 1000 most recent ones. Was it created with another connection?`
        : `None of the ${total} exports matches the filters.`,
    ),
    h("button", { type: "button", onClick: onClear }, "Show all"),
  );
}

export function NoConnection({ onChoose }) {
  const choose = (event) => {
    event.preventDefault();
    onChoose(new FormData(event.target).get("id").trim());
  };
  return h(
    "section",
    { className: "notice" },
    h("h2", null, "No connection of the type ISVapp"),
    h("p", null, "Create one under ", h("a", { href: new URL("connections", document.baseURI).pathname }, "Admin, Connections"), ", then come back."),
    h("p", null, "Connections in a secrets backend cannot be listed. If yours is in one, give its id:"),
    h(
      "form",
      { onSubmit: choose },
      h("label", null, h("span", { className: "unseen" }, "Connection id"), h("input", { name: "id", required: true, placeholder: "isvapp_default" })),
      h("button", { type: "submit" }, "Show its exports"),
    ),
  );
}
