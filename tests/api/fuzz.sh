#!/usr/bin/env bash
# Requests made up from /openapi.json, good and bad: API_KEY=KEY bash fuzz.sh URL. Every answer must be one that the
# document describes, in status, type, headers and schema; bad requests must be refused, and those without a key or a
# session where one is needed; none may be answered 5xx.
set -euo pipefail
SESSION=$(curl -fsS -o /dev/null -D - -H 'sec-fetch-site: same-origin' --data-urlencode "key=$API_KEY" "$1/session" |
    sed -n 's/^set-cookie: stockyard_session=\([^;]*\).*/\1/ip')
export API_KEY SESSION
exec schemathesis --config-file "$(dirname "$0")/schemathesis.toml" run "$1/openapi.json" \
    --phases examples,coverage,fuzzing --max-examples 100 --continue-on-failure --no-color \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,negative_data_rejection,ignored_auth
