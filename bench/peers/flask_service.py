"""A service as the original has three of: Flask behind gunicorn, prometheus_client, OpenTelemetry.

It answers /health and /metrics. Each request is counted, timed and has a span, of which 1 % are sampled and exported
over OTLP to OTEL_EXPORTER_OTLP_ENDPOINT; gunicorn writes the access log.
"""

import time

from flask import Flask, g, jsonify, request
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

provider = TracerProvider(
    resource=Resource.create({"service.name": "flask"}), sampler=ParentBasedTraceIdRatio(0.01)
)
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer(__name__)

requests_total = Counter("http_requests_total", "Requests", ["method", "route", "status"])
request_duration = Histogram("http_request_duration_seconds", "Durations", ["method", "route"])

app = Flask(__name__)


@app.before_request
def begin():
    g.start = time.perf_counter()
    route = request.url_rule.rule if request.url_rule else "-"
    context = extract(request.headers)
    g.span = tracer.start_span(f"{request.method} {route}", context, trace.SpanKind.SERVER)


@app.after_request
def end(response):
    route = request.url_rule.rule if request.url_rule else "-"
    requests_total.labels(request.method, route, response.status_code).inc()
    request_duration.labels(request.method, route).observe(time.perf_counter() - g.start)
    g.span.set_attribute("http.response.status_code", response.status_code)
    g.span.end()
    return response


@app.get("/health")
def health():
    return jsonify(healthy=True)


@app.get("/metrics")
def metrics():
    return generate_latest(), {"content-type": CONTENT_TYPE_LATEST}
