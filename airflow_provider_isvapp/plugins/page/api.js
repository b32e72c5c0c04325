// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
//
// The page's requests to Airflow's API server.

const ROOT = new URL("../", import.meta.url);

export async function listConnections(signal) {
  return (await ask("connections", signal)).connections;
}

export async function readExports(connection, signal) {
  return ask(`connections/${encodeURIComponent(connection)}/exports`, signal);
}

// The message of an error is for the user.
async function ask(path, signal) {
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { signal, headers: { Accept: "application/json" } });
  } catch {
    throw new Error("Airflow's API server did not respond. Check your network, then refresh.");
  }
  if (response.status === 401) throw new Error("Your session has ended. Reload the page to sign in again.");
  if (response.status === 403) throw new Error("Your user may not read this connection. Ask an administrator of this Airflow.");
  if (!response.ok) throw new Error(`Airflow's API server responded with status ${response.status}. Its log says why.`);
  try {
    return await response.json();
  } catch {
    throw new Error("A proxy or a login page responded in Airflow's place. Reload the page to sign in again.");
  }
}
