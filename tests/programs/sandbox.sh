# Sourced: namespaces in which a program is the first process, with a folder $work for all that it keeps. What runs in
# them ends with the first process, by the kernel, and their mounts, interfaces and rules with it.

sandbox_fail() { echo "$(basename "$0"): $1" >&2; exit "$2"; }

# Ends with a message if this machine cannot do it.
sandbox_check() { # TOOL...
    [ "$(id -u)" = 0 ] || sandbox_fail "only root may make namespaces" 77
    local tool
    for tool in flock ip nsenter openssl pgrep setsid unshare "$@"; do
        command -v "$tool" >/dev/null || sandbox_fail "there is no $tool on the PATH${tools_from:+ ($tools_from)}" 69
    done
    unshare --mount --net --pid --fork true 2>/dev/null ||
        sandbox_fail "the kernel refuses mount, network and pid namespaces here (a container without CAP_SYS_ADMIN?)" 69
}

# Starts PROGRAM WORK ARGUMENTS... and waits for its file $work/ready.
sandbox_start() { # SECONDS PROGRAM ARGUMENTS...
    local seconds=$1 started
    shift
    mkdir "$work" || sandbox_fail "something is there already: $(dirname "$0")/down removes it" 73
    # Each process inherits this lock, so it is free when the last of them is gone.
    exec 9>"$work/lock"
    flock 9
    trap sandbox_abort INT TERM
    # The process that makes the namespaces lives as long as they do; its end ends all that is in them.
    setsid bash -c 'echo $$ >"$0/pid" && exec unshare --mount --net --pid --fork --kill-child=SIGKILL --mount-proc --propagation private "$@"' \
        "$work" bash "$1" "$work" "${@:2}" >"$work/inside.log" 2>&1 </dev/null &
    started=$!
    for _ in $(seq $((seconds * 20))); do
        if [ -e "$work/ready" ]; then
            echo "$(basename "$0"): ready after $SECONDS s" >&2
            return
        fi
        kill -0 "$started" 2>/dev/null || break
        sleep 0.05
    done
    sandbox_abort
}
sandbox_abort() {
    tail -n 5 "$work"/*.log "$work"/log/*.log >&2 || true
    exec 9>&-
    "$(dirname "$0")/down"
    exit 1
}

# The first process in the namespaces.
sandbox_first() { pgrep --parent "$(cat "$work/pid")"; }

# Runs a command in the namespaces, in the same folder.
sandbox_exec() {
    [ -e "$work/ready" ] || sandbox_fail "nothing runs: $(dirname "$0")/up starts it" 69
    exec nsenter --target "$(sandbox_first)" --mount --net --pid --wdns="$PWD" "$@"
}

# Ends what was started, however far it came. Fails if something is left.
sandbox_stop() {
    [ -e "$work/lock" ] || { rmdir "$work" 2>/dev/null || true; return 0; }
    exec 9<"$work/lock"
    local _
    for _ in $(seq 200); do
        if flock --nonblock 9; then
            rm -rf "$work"
            return 0
        fi
        # The lock is held, so the processes are ours. They may not have written their number yet.
        kill -KILL "$(cat "$work/pid")" 2>/dev/null || true
        sleep 0.05
    done
    sandbox_fail "processes are left that hold $work/lock" 1
}
