# What .ci/run and .ci/long share: parts with a budget of time, checks, and totals that hold whatever ends the script.
# A part is a function; its checks are counted in a file, so that the totals need no state of the shell.

ci=$(mktemp -d)
: >"$ci/results"
: >"$ci/times"
current=start
minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# --- checks --------------------------------------------------------------------------------------------------------

count() { echo "$current $1 $2" >>"$ci/results"; } # PASSED FAILED
check() {                                         # NAME COMMAND...
    if "${@:2}"; then count 1 0; echo "ok      $1"; else count 0 1; echo "FAILED  $1"; fi
}
# Adds the totals that a program printed in its last line.
add() { # OUTPUT
    local totals
    totals=$(tail -n 1 "$1")
    if [[ $totals =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then count "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"; else
        echo "FAILED  $current: no totals in its last line: $totals"
        count 0 1
    fi
}
# Runs a program that prints its totals in its last line, and adds them.
totals_of() { # NAME COMMAND...
    local output=$ci/output-$1
    "${@:2}" | tee "$output" || true
    add "$output"
}

# --- parts ---------------------------------------------------------------------------------------------------------

# Runs a part; BUDGET is what it takes on an idle machine that has nothing built, in minutes.
part() { # NAME BUDGET FUNCTION
    local began=$SECONDS stolen
    stolen=$(stolen)
    current=$1
    echo "=== $1 (after $(minutes $SECONDS))"
    "$3"
    echo "$1 $((SECONDS - began)) $2 $(($(stolen) - stolen))" >>"$ci/times"
    echo "    $1 took $(minutes $((SECONDS - began)))"
}

# CPU time in hundredths of a second that other machines on the same host took from this one.
stolen() { awk '$1 == "cpu" { print $9 }' /proc/stat; }
busy() { awk '$1 == "cpu" { print $2 + $3 + $4 + $9 }' /proc/stat; }
# Is nothing else at work here? Budgets hold on such a machine only.
before=$(busy)
sleep 2
idle=$([ $(($(busy) - before)) -lt $((2 * $(nproc) * 100 / 10)) ] && echo yes || echo no)

# A part that took half as much again as its budget has failed, unless the machine had other work.
overran() { # NAME SECONDS BUDGET STOLEN
    [ $(($2 * 2)) -gt $(($3 * 60 * 3)) ] && [ "$idle" = yes ] && [ $(($4 * 20)) -le $(($2 * 100 * $(nproc))) ]
}
# The table of parts and the totals; exit 1 when anything failed or the script did not come to its end.
finish() {
    local code=$? name seconds budget stolen passed failed mark
    trap - EXIT
    set +e
    if declare -F leave >/dev/null; then leave; fi
    if [ "$code" != 0 ]; then
        echo "FAILED  $current ended with exit $code"
        count 0 1
    fi
    printf '\n%-28s %14s %10s %8s %8s\n' part time budget passed failed
    while read -r name seconds budget stolen; do
        mark=
        if overran "$name" "$seconds" "$budget" "$stolen"; then
            mark=" took half as much again as its budget"
            echo "$name 0 1" >>"$ci/results"
        fi
        read -r passed failed < <(awk -v name="$name" '$1 == name { p += $2; f += $3 } END { print p + 0, f + 0 }' "$ci/results")
        printf '%-28s %14s %10s %8s %8s%s\n' "$name" "$(minutes "$seconds")" "$budget min" "$passed" "$failed" "$mark"
    done <"$ci/times"
    [ "$idle" = yes ] || echo "(the machine had other work at the start: budgets were not held)"
    echo "all of it: $(minutes $SECONDS)"
    read -r passed failed < <(awk '{ p += $2; f += $3 } END { print p + 0, f + 0 }' "$ci/results")
    rm -rf "$ci"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" != 0 ]
    exit
}
trap finish EXIT
