#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The airflow-provider-isvapp contributors
# Usage: run_lanes.sh LANE... [--beside LANE...]
# Runs make's targets one after the other, whatever comes of them, and says at the end how each went. Those after --beside
# run at the same time as the others: they spend most of their time waiting for real Airflows. Pytest ends with an error
# where it ran no test, so a lane that tests nothing has failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

make=("${MAKE:-make}" --no-print-directory)
# Pytest's own limits end most hangs, but Airflow's alarms switch them off.
if [[ -n ${CI:-} ]]; then make=(timeout --kill-after=60 "${LANE_SECONDS:-1800}" "${make[@]}"); fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
run() {
    local lane=$1 started=$SECONDS verdict=ok
    echo "[lanes] $lane"
    # What makes an environment is shown at once: it can take minutes.
    "${make[@]}" "$lane" 2>&1 | tee "$logs/$lane.log" | sed -un '/^\[environments\]/p' || verdict=FAILED
    echo "$verdict $((SECONDS - started))" >"$logs/$lane.result"
    {
        flock 9
        printf '\n━━━ %s ━━━\n' "$lane"
        cat "$logs/$lane.log"
    } 9>"$logs/output.lock"
}
run_all() { for lane in "$@"; do run "$lane"; done; }

lanes=() beside=() list=lanes
for word in "$@"; do
    if [[ $word == --beside ]]; then list=beside; else declare -n target=$list && target+=("$word"); fi
done
run_all "${beside[@]}" &
run_all "${lanes[@]}"
wait

status=0 summary='' passed=0 failed=0 skipped=0
count() { { grep -oE "[0-9]+ $1" <<<"$closing" || echo 0; } | cut -d' ' -f1; }
for lane in "${lanes[@]}" "${beside[@]}"; do
    read -r verdict seconds <"$logs/$lane.result"
    if [[ $verdict != ok ]]; then status=1; fi
    closing=$(grep -aE '^(=+ )?([0-9]+ [a-z]+, )*[0-9]+ [a-z]+ in [0-9.]+s' "$logs/$lane.log" | tail -n 1 || true)
    passed=$((passed + $(count passed))) skipped=$((skipped + $(count skipped)))
    failed=$((failed + $(count failed) + $(count error)))
    summary+=$(printf '%-6s %-20s %5d s  %s' "$verdict" "$lane" "$seconds" "$closing")$'\n'
done
printf '\n━━━ summary ━━━\n%s\n%d passed, %d failed, %d skipped\n' "$summary" "$passed" "$failed" "$skipped"
exit "$status"
