// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
//
// Numbers and times as words.

const { useEffect, useReducer } = globalThis.React;

// The time zone that the user chose in Airflow's UI, or else the browser's.
function chosenZone() {
  try {
    return JSON.parse(localStorage.getItem("timezone")) ?? undefined;
  } catch {
    return undefined;
  }
}

// The format of Airflow's UI. The Swedish locale is like ISO 8601, with 24 hours.
function format(moment, options) {
  const written = (timeZone) => new Intl.DateTimeFormat("sv-SE", { ...options, timeZone }).format(moment);
  try {
    return written(chosenZone());
  } catch {
    return written(undefined);
  }
}

// Renders a component again when the user chooses another zone, in this tab or in another.
export function useTimezone() {
  const [, renderAgain] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    for (const event of ["local-storage", "storage"]) addEventListener(event, renderAgain);
    return () => ["local-storage", "storage"].forEach((event) => removeEventListener(event, renderAgain));
  }, []);
}

export const NOTHING = "–";

export const clockTime = (moment) => format(moment, { timeStyle: "medium" });

export const localTime = (iso) => format(new Date(iso), { dateStyle: "short", timeStyle: "short" });

export const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds === null) return NOTHING;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

// Only the largest unit.
export function roughly(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

export const ago = (seconds) => (seconds === null ? NOTHING : `${roughly(seconds)} ago`);

export const fromNow = (seconds) =>
  seconds === null ? NOTHING : seconds < 0 ? ago(-seconds) : `in ${roughly(seconds)}`;

export function size(bytes) {
  if (bytes === null) return NOTHING;
  if (bytes < 1000) return `${bytes} B`;
  let value = bytes;
  for (const unit of ["kB", "MB", "GB", "TB"]) {
    value /= 1000;
    if (value < 999.5) return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
  }
  return `${Math.round(value)} TB`;
}
