// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
//
// The selection of exports.

// In the order of an export's life; the keys are those of the server's rows.
export const STATES = { waiting: "Waiting", ready: "Ready", failed: "Failed", expired: "Expired" };

export function matching(exports, { state, text, exportId }) {
  const wanted = text.trim().toLowerCase();
  return exports.filter(
    (row) =>
      (!exportId || row.id === exportId) &&
      (!state || row.state === state) &&
      (!wanted || row.id.toLowerCase().includes(wanted) || (row.error_message ?? "").toLowerCase().includes(wanted)),
  );
}

export function countByState(exports) {
  const counts = Object.fromEntries(Object.keys(STATES).map((state) => [state, 0]));
  for (const row of exports) counts[row.state] += 1;
  return counts;
}
