package main

import (
	"net/url"
	"strings"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/propagation"
)

// otelVariables are the variables of OpenTelemetry, of which the library reads most by
// itself. Here is looked at what decides whether there are traces at all, and what it would
// only complain of and then go on without, or repeat in the log though it may be a secret.
type otelVariables struct {
	getenv func(string) (string, bool)
}

// first returns the first of the variables that is set. An empty one counts as not set.
func (v otelVariables) first(names ...string) (name, value string) {
	for _, name := range names {
		if value, _ := v.getenv(name); strings.TrimSpace(value) != "" {
			return name, strings.TrimSpace(value)
		}
	}
	return "", ""
}

// wantTraces reports whether the variables ask for traces, and fails where they ask for what
// cannot be.
func (v otelVariables) wantTraces() (bool, error) {
	_, disabled := v.first("OTEL_SDK_DISABLED")
	_, exporter := v.first("OTEL_TRACES_EXPORTER")
	_, endpoint := v.first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	switch {
	case strings.EqualFold(disabled, "true") || exporter == "none" || exporter == "" && endpoint == "":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, usagef("OTEL_TRACES_EXPORTER: %.40q is no exporter that this program has: use otlp or none", exporter)
	}
	if name, protocol := v.first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return false, usagef("%s: %.40q is not spoken here: use http/protobuf, for which collectors listen on port 4318 as a rule", name, protocol)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		_, value := v.first(name)
		if u, err := url.Parse(value); value != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return false, usagef("%s: it is not the address of a collector: write it as in http://localhost:4318", name)
		}
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"} {
		if _, value := v.first(name); value != "" && !areHeaders(value) {
			return false, usagef("%s: these are not headers: write NAME=VALUE, and %%XX for what is special, with commas between them", name)
		}
	}
	return true, nil
}

func areHeaders(list string) bool {
	for header := range strings.SplitSeq(list, ",") {
		name, value, found := strings.Cut(header, "=")
		if _, err := url.PathUnescape(value); !found || err != nil || strings.TrimSpace(name) == "" {
			return false
		}
	}
	return true
}

// propagator reads from the headers of a request whose trace it belongs to.
func (v otelVariables) propagator() (propagation.TextMapPropagator, error) {
	_, names := v.first("OTEL_PROPAGATORS")
	if names == "" {
		names = "tracecontext,baggage"
	}
	p, err := autoprop.TextMapPropagator(strings.Split(names, ",")...)
	if err != nil {
		return nil, usagef("OTEL_PROPAGATORS: %w", err)
	}
	return p, nil
}
