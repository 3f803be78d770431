# For backup.sh and restore.sh: databases as the roles that own them, and sessions that stay open.
# $PASSWORDS holds the password of each role, which has the name of its database.
fail() { echo "$(basename "$0" .sh): $1" >&2; exit 1; }

pipes=$(mktemp -d) # the caller's trap removes it
trap '' PIPE # a session that has ended is an error, which ends the script in order
psql="psql -qXAt -v ON_ERROR_STOP=1"

# Runs a program on a database.
on() { # DATABASE PROGRAM ARGUMENTS...
    database=$1 program=$2
    shift 2
    PGPASSWORD=$(cat "$PASSWORDS/$database") "$program" --no-password --username="$database" --dbname="$database" "$@"
}

# A session that does what is written to NAME.in, until that is closed: by the end of the script at the latest. Its
# answers are in NAME.out.
session() { # NAME DATABASE
    mkfifo "$pipes/$1.in" "$pipes/$1.out"
    # shellcheck disable=SC2086 # a list of words
    on "$2" $psql <"$pipes/$1.in" >"$pipes/$1.out" &
}
