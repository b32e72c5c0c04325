// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
//
// The page "ISVapp exports". Airflow's UI loads this module, with the session's cookie, and renders the component that
// it registers under the page's name. React and its router are Airflow's own; the rest is plain HTML in the theme's colours.

import { listConnections, readExports } from "./api.js";
import { Charts } from "./chart.js";
import { ExportTable } from "./export_table.js";
import { ConnectionChoice, Search, StateChoice } from "./filters.js";
import { clockTime, counted, useTimezone } from "./format.js";
import { Loading, NoConnection, NoExports, NoMatch, Problem } from "./notices.js";
import { countByState, matching } from "./selection.js";

const { Fragment, createElement: h, useCallback, useEffect, useMemo, useRef, useState } = globalThis.React;
const { useSearchParams } = globalThis.ReactRouterDOM;

// The hook's default.
const DEFAULT_CONNECTION = "isvapp_default";
const AUTO_REFRESH_SECONDS = 30;

// Loaded with the module, so that the page never appears without its style.
const styles = await fetch(new URL("page.css", import.meta.url)).then((answer) => answer.text());

// The URL holds all choices: ?connection=…&state=…&text=…&export=…
function useAddress() {
  const [parameters, setParameters] = useSearchParams();
  const change = useCallback(
    (values) =>
      setParameters(
        (before) => {
          const after = new URLSearchParams(before);
          for (const [name, value] of Object.entries(values)) {
            if (value) after.set(name, value);
            else after.delete(name);
          }
          return after;
        },
        // Back returns to the previous choice, not to the previously typed text.
        { replace: "text" in values },
      ),
    [setParameters],
  );
  const value = (name) => parameters.get(name) ?? "";
  return [{ connection: value("connection"), state: value("state"), text: value("text"), exportId: value("export") }, change];
}

function useConnections() {
  const [known, setKnown] = useState({ ids: null, problem: null });
  useEffect(() => {
    const leaving = new AbortController();
    listConnections(leaving.signal).then(
      (ids) => setKnown({ ids, problem: null }),
      (error) => leaving.signal.aborted || setKnown({ ids: null, problem: error.message }),
    );
    return () => leaving.abort();
  }, []);
  return known;
}

// The last list stays if a later request fails.
function useExports(connection) {
  const nothing = { connection, exports: null, readAt: null, problem: null, reading: Boolean(connection), asked: 0 };
  const [state, setState] = useState(nothing);
  const underWay = useRef(null);
  const read = useCallback(
    (byHand) => {
      if (!connection) return;
      underWay.current?.abort();
      const leaving = new AbortController();
      underWay.current = leaving;
      setState((before) => ({
        ...(before.connection === connection ? before : nothing),
        connection,
        reading: true,
      }));
      const settle = (news) => {
        if (leaving.signal.aborted) return;
        setState((before) => ({ ...before, ...news, reading: false, asked: before.asked + (byHand ? 1 : 0) }));
      };
      readExports(connection, leaving.signal).then(
        (answer) =>
          answer.error
            ? settle({ problem: answer.error })
            : settle({ exports: answer.exports, readAt: new Date(answer.read_at), problem: null }),
        (error) => settle({ problem: error.message }),
      );
    },
    [connection],
  );
  useEffect(() => {
    read(false);
    return () => underWay.current?.abort();
  }, [read]);
  // In the first render after a new choice of connection, the state still belongs to the previous one.
  return [state.connection === connection ? state : nothing, read];
}

function useAutoRefresh(on, read) {
  useEffect(() => {
    if (!on) return undefined;
    // A hidden page does not refresh, since it shares the vendor's limit with the tasks.
    const timer = setInterval(() => document.hidden || read(false), AUTO_REFRESH_SECONDS * 1000);
    return () => clearInterval(timer);
  }, [on, read]);
}

function announcement({ exports, readAt, reading, problem, asked }, shown) {
  if (problem || !exports) return "";
  const total = counted(exports.length, "export");
  const what = shown.length === exports.length ? total : `${shown.length} of ${total} shown`;
  // With the time, screen readers announce a manual refresh even without changes; an automatic one only announces changes.
  return asked && !reading ? `${what}, read at ${clockTime(readAt)}` : what;
}

function ExportsPage() {
  useTimezone();
  const [address, setAddress] = useAddress();
  const { ids, problem: noIds } = useConnections();
  const connection = address.connection || (ids?.includes(DEFAULT_CONNECTION) ? DEFAULT_CONNECTION : ids?.[0]) || "";
  const [state, read] = useExports(connection);
  const [auto, setAuto] = useState(false);
  useAutoRefresh(auto, read);

  const { exports, readAt, reading, problem } = state;
  const shown = useMemo(() => matching(exports ?? [], address), [exports, address.state, address.text, address.exportId]);
  const counts = useMemo(() => countByState(matching(exports ?? [], { ...address, state: "" })), [exports, address.text, address.exportId]);
  const clear = () => setAddress({ state: "", text: "", export: "" });

  let body;
  if (noIds && !connection) body = h(Problem, { title: "Airflow did not list the connections", text: noIds });
  else if (ids?.length === 0 && !connection) body = h(NoConnection, { onChoose: (id) => setAddress({ connection: id }) });
  else if (!exports && problem) body = null;
  else if (!exports) body = h(Loading, { connection });
  else if (exports.length === 0) body = h(NoExports, { connection });
  else if (shown.length === 0) body = h(NoMatch, { ...address, total: exports.length, onClear: clear });
  else {
    body = h(
      Fragment,
      null,
      h(Charts, { exports: shown }),
      h(ExportTable, { exports: shown, chosen: address.exportId, onChoose: (id) => setAddress({ export: id }) }),
    );
  }

  return h(
    "main",
    { className: "isvapp-exports", "aria-busy": reading },
    h("style", null, styles),
    h(
      "header",
      null,
      h("h1", null, "ISVapp exports"),
      connection && h(ConnectionChoice, { ids: ids ?? [], chosen: connection, onChoose: (id) => setAddress({ connection: id, export: "" }) }),
      connection &&
        h(
          "div",
          { className: "refresh" },
          readAt && h("span", { className: "muted" }, "Read at ", h("time", { dateTime: readAt.toISOString() }, clockTime(readAt))),
          h(
            "label",
            { className: "check" },
            h("input", { type: "checkbox", checked: auto, onChange: (event) => setAuto(event.target.checked) }),
            `Every ${AUTO_REFRESH_SECONDS} s`,
          ),
          h("button", { type: "button", className: "primary", "aria-disabled": reading, onClick: () => reading || read(true) }, reading ? "Reading…" : "Refresh"),
        ),
    ),
    problem &&
      h(Problem, {
        title: `The exports of ${connection} could not be read`,
        text: problem,
        note: exports && `What is shown was read at ${clockTime(readAt)}.`,
      }),
    exports?.length > 0 &&
      h(
        "div",
        { className: "filters", role: "search", "aria-label": "Exports" },
        h(StateChoice, { counts, chosen: address.state, onChoose: (state) => setAddress({ state }) }),
        h(Search, { text: address.text, exportId: address.exportId, onSearch: (text) => setAddress({ text }), onClear: () => setAddress({ export: "" }) }),
      ),
    h("p", { className: "unseen", role: "status" }, announcement(state, shown)),
    body,
  );
}

globalThis["ISVapp exports"] = ExportsPage;
