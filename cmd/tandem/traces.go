package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"tandem/sessions"
)

// traces makes a span of each run and hands it to a collector over OTLP. What is not said
// here is as the variables of OpenTelemetry say: headers, sampler, batches, propagators. nil
// are none, and cost nothing.
//
// What was run is not told: code may hold secrets, and so may directories and environments.
type traces struct {
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	export     *patientExporter
}

// newTraces returns what the variables ask for, which may be nil. It fails where they ask for
// something that is not here. It connects to nothing yet; close must be called.
func newTraces(getenv func(string) (string, bool), log *slog.Logger) (*traces, error) {
	v := otelVariables{getenv}
	if wanted, err := v.wantTraces(); err != nil || !wanted {
		return nil, err
	}
	propagator, err := v.propagator()
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	otlp, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, usagef("set up traces: %w", err)
	}
	// Later ones win: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES over what is said here.
	from, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "tandem"), attribute.String("service.version", version())), resource.WithFromEnv())
	if err != nil {
		return nil, usagef("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &traces{export: newPatientExporter(otlp, log), propagator: propagator}
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithResource(from), sdktrace.WithBatcher(t.export))
	t.tracer = t.provider.Tracer("tandem", trace.WithInstrumentationVersion(version()))
	return t, nil
}

// close hands over what there is, until ctx ends, and ends what is at work for it.
func (t *traces) close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	defer t.export.giveUp()
	defer context.AfterFunc(ctx, t.export.giveUp)()
	return t.provider.Shutdown(context.WithoutCancel(ctx))
}

// extract notes in the context of each request whose trace it belongs to.
func (t *traces) extract(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(t.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))))
	})
}

// runEnded makes the spans of a run: one of all of it, and in it those of its wait and of its
// execution.
func (t *traces) runEnded(r sessions.RunReport) {
	parent := r.Context
	if parent == nil {
		parent = context.Background()
	}
	ctx, span := t.tracer.Start(parent, "run", trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.Queued))
	defer span.End(trace.WithTimestamp(r.Ended))
	if !span.IsRecording() {
		return
	}
	started := r.Started()
	t.part(ctx, "queue", r.Queued, started)
	if !r.Info.StartedAt.IsZero() {
		t.part(ctx, "execution", started, r.Ended)
	}
	span.SetAttributes(runAttributes(r)...)
	for _, e := range r.Events {
		if e.Step != "" {
			span.AddEvent("stop", trace.WithTimestamp(e.Time), trace.WithAttributes(attribute.String("tandem.stop.step", string(e.Step))))
		} else {
			span.AddEvent("shell ended", trace.WithTimestamp(e.Time), trace.WithAttributes(attribute.String("tandem.shell.cause", string(e.Cause))))
		}
	}
	if code := r.Info.ExitCode; r.Info.Reason != sessions.ReasonExited || *code != 0 {
		span.SetStatus(codes.Error, failureOf(r.Info))
	}
}

func (t *traces) part(ctx context.Context, name string, from, to time.Time) {
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(from))
	span.End(trace.WithTimestamp(to))
}

func runAttributes(r sessions.RunReport) []attribute.KeyValue {
	all := []attribute.KeyValue{
		attribute.String("tandem.session.id", r.Session),
		attribute.String("tandem.run.id", r.Info.ID),
		attribute.Int64("tandem.run.number", int64(r.Info.Number)),
		attribute.String("tandem.run.by", r.Info.By),
		attribute.String("tandem.run.reason", string(r.Info.Reason)),
		attribute.Int64("tandem.run.stdout_bytes", int64(r.Stdout)),
		attribute.Int64("tandem.run.stderr_bytes", int64(r.Stderr)),
		attribute.Int64("tandem.run.stdin_bytes", int64(r.Stdin)),
	}
	if r.Info.ExitCode != nil {
		all = append(all, attribute.Int("process.exit.code", *r.Info.ExitCode))
	}
	return all
}

// failureOf says how a run ended that did not end well.
func failureOf(info sessions.RunInfo) string {
	if info.Reason == sessions.ReasonExited {
		return fmt.Sprintf("exit code %d", *info.ExitCode)
	}
	return string(info.Reason)
}

// A patientExporter is an exporter whose failures are logged once, and then no more until it
// has worked again: a collector that is not there is no reason to fill a log.
type patientExporter struct {
	sdktrace.SpanExporter
	log    *slog.Logger
	failed atomic.Bool // the last time
	ctx    context.Context
	giveUp context.CancelFunc
}

func newPatientExporter(e sdktrace.SpanExporter, log *slog.Logger) *patientExporter {
	p := &patientExporter{SpanExporter: e, log: log}
	p.ctx, p.giveUp = context.WithCancel(context.Background())
	return p
}

// ExportSpans never fails: nobody else could do anything about it.
func (p *patientExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	err := p.SpanExporter.ExportSpans(ctx, spans)
	switch failed := err != nil; {
	case failed && !p.failed.Swap(true):
		p.log.Warn("traces could not be handed over; nothing more is said of it until they can be", "spans", len(spans), "error", strings.ReplaceAll(err.Error(), "\n", " "))
	case !failed && p.failed.Swap(false):
		p.log.Info("traces are handed over again")
	}
	return nil
}

// An observer has the runs both counted and traced.
type observer struct {
	*metrics
	traces *traces
}

func (o observer) RunEnded(r sessions.RunReport) {
	o.metrics.RunEnded(r)
	o.traces.runEnded(r)
}

// observe is what the engine tells what happens.
func observe(m *metrics, t *traces) sessions.Observer {
	if t == nil {
		return m
	}
	return observer{m, t}
}
