#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
# Runs make's targets one after the other, whatever comes of them, and says at the end how each went. Pytest ends with an
# error where it ran no test, so a lane that tests nothing has failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

make=("${MAKE:-make}" --no-print-directory)
# Pytest's own limits end most hangs, but Airflow's alarms switch them off.
if [[ -n ${CI:-} ]]; then make=(timeout --kill-after=60 "${LANE_SECONDS:-1800}" "${make[@]}"); fi

mkdir -p .venvs/lanes
status=0 summary='' passed=0 failed=0 skipped=0
count() { { grep -oE "[0-9]+ $1" <<<"$closing" || echo 0; } | cut -d' ' -f1; }
for lane in "$@"; do
    printf '\n━━━ %s ━━━\n' "$lane"
    log=.venvs/lanes/$lane.log started=$SECONDS verdict=ok
    if ! "${make[@]}" "$lane" 2>&1 | tee "$log"; then verdict=FAILED status=1; fi
    closing=$(grep -E '^(=+ )?([0-9]+ [a-z]+, )*[0-9]+ [a-z]+ in [0-9.]+s' "$log" | tail -n 1 || true)
    passed=$((passed + $(count passed))) skipped=$((skipped + $(count skipped)))
    failed=$((failed + $(count failed) + $(count error)))
    summary+=$(printf '%-6s %-20s %5d s  %s' "$verdict" "$lane" $((SECONDS - started)) "$closing")$'\n'
done
printf '\n━━━ summary ━━━\n%s\n%d passed, %d failed, %d skipped\n' "$summary" "$passed" "$failed" "$skipped"
exit "$status"
