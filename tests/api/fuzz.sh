#!/usr/bin/env bash
# Requests made up from /openapi.json, good and bad: bash fuzz.sh URL. Every answer must be one that the document
# describes, in status, type, headers and schema; bad requests must be refused; none may be answered 5xx.
set -euo pipefail
# The dashboard's forms are for its own page: without the header each would be answered 403.
exec schemathesis run "$1/openapi.json" --phases examples,coverage,fuzzing --max-examples 100 --continue-on-failure --no-color \
    -H 'sec-fetch-site: same-origin' \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,negative_data_rejection
