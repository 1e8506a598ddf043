package main

import (
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tandem/sessions"
)

// Where the buckets of the histograms lie, in seconds: a run that need not wait waits for
// microseconds and takes fractions of a millisecond, another takes all day.
var (
	queueBuckets = []float64{.00005, .0001, .00025, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 300, 1800}
	runBuckets   = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200}
)

// maxScrapes is how many scrapes are answered at a time.
const maxScrapes = 8

// metrics are what /metrics tells. They are the engine's [sessions.Observer], and count what
// the doors tell of themselves. No label has a value that a client could choose.
type metrics struct {
	registry *prometheus.Registry

	created, gaps, gapPositions, stalled prometheus.Counter
	stdout, stderr, stdin                prometheus.Counter
	received, sent                       prometheus.Counter
	queue, duration                      prometheus.Histogram
	ended                                *prometheus.CounterVec // reason
	runs                                 *prometheus.CounterVec // reason
	steps                                *prometheus.CounterVec // step
	restarts                             *prometheus.CounterVec // cause
	requests                             *prometheus.CounterVec // method, route, code
	clients                              *prometheus.GaugeVec   // door, role
}

func newMetrics() *metrics {
	r := prometheus.NewRegistry()
	m := &metrics{
		registry: r,
		created:  counter(r, "sessions_created_total", "Sessions that were created."),
		ended: counters(r, "sessions_ended_total", "Sessions that have ended, by reason.", "reason",
			sessions.CloseDeleted, sessions.CloseIdle, sessions.CloseShutdown),
		runs: counters(r, "runs_total", "Runs that have ended, by how they did.", "reason",
			sessions.ReasonExited, sessions.ReasonInterrupted, sessions.ReasonTimedOut, sessions.ReasonCanceled,
			sessions.ReasonShellExited, sessions.ReasonSessionClosed, sessions.ReasonRefused),
		queue:    histogram(r, "run_queue_seconds", "Time from a run's submission to its start, or to its end where it never started.", queueBuckets),
		duration: histogram(r, "run_duration_seconds", "Time from a run's start to its end.", runBuckets),
		steps: counters(r, "run_stop_steps_total", "Steps by which runs were made to end: SIGINT, SIGTERM, SIGKILL, the end of the shell.", "step",
			sessions.StepInterrupt, sessions.StepTerm, sessions.StepKill, sessions.StepShell),
		restarts: counters(r, "shell_restarts_total", "Shells that took the place of one that had ended, by what ended it.", "cause",
			sessions.CauseExit, sessions.CauseExec, sessions.CauseSignal, sessions.CauseLost),
		stdin:        counter(r, "input_bytes_total", "Input that the pipes of runs have taken."),
		gaps:         counter(r, "gaps_total", "Times a reader was told that what it would have read next is no longer kept."),
		gapPositions: counter(r, "gap_positions_total", "Positions that readers so did not get: bytes of output, and events."),
		stalled:      counter(r, "stalled_readers_total", "Readers that were cut off because they took too little."),
		requests: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "tandem_http_requests_total", Help: "Requests that were answered, by route and class of status. Streams and WebSockets count at their end.",
		}, []string{"method", "route", "code"}),
		clients: promauto.With(r).NewGaugeVec(prometheus.GaugeOpts{
			Name: "tandem_clients", Help: "Streams and WebSockets that follow a session now, by door and role.",
		}, []string{"door", "role"}),
	}
	output := counters(r, "output_bytes_total", "Output of commands, by stream.", "stream", "stdout", "stderr")
	m.stdout, m.stderr = output.WithLabelValues("stdout"), output.WithLabelValues("stderr")
	messages := counters(r, "websocket_messages_total", "Messages over WebSockets, by direction.", "direction", "received", "sent")
	m.received, m.sent = messages.WithLabelValues("received"), messages.WithLabelValues("sent")
	for _, door := range []string{"rest", "ws"} {
		m.clientsOf(door, false)
		m.clientsOf(door, true)
	}
	promauto.With(r).NewGauge(prometheus.GaugeOpts{
		Name: "tandem_build_info", Help: "1, with what was built in its labels.",
		ConstLabels: prometheus.Labels{"version": version(), "go_version": runtime.Version()},
	}).Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(r prometheus.Registerer, name, help string) prometheus.Counter {
	return promauto.With(r).NewCounter(prometheus.CounterOpts{Name: "tandem_" + name, Help: help})
}

// counters are there from the beginning for each value that is known, so that the first
// event is an increase too.
func counters[T ~string](r prometheus.Registerer, name, help, label string, values ...T) *prometheus.CounterVec {
	vec := promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: "tandem_" + name, Help: help}, []string{label})
	for _, v := range values {
		vec.WithLabelValues(string(v))
	}
	return vec
}

// histogram is one with these buckets, and a native one for a server that asks for it.
func histogram(r prometheus.Registerer, name, help string, buckets []float64) prometheus.Histogram {
	return promauto.With(r).NewHistogram(prometheus.HistogramOpts{
		Name: "tandem_" + name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	})
}

// handler answers scrapes. A failure is logged and answered with what could be gathered.
func (m *metrics) handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

// SessionCreated and the methods after it are those of a [sessions.Observer].
func (m *metrics) SessionCreated() { m.created.Inc() }

func (m *metrics) SessionEnded(reason sessions.CloseReason) {
	m.ended.WithLabelValues(string(reason)).Inc()
}

func (m *metrics) RunEnded(r sessions.RunReport) {
	m.runs.WithLabelValues(string(r.Info.Reason)).Inc()
	m.queue.Observe(r.Started().Sub(r.Queued).Seconds())
	if !r.Info.StartedAt.IsZero() {
		m.duration.Observe(r.Info.Duration.Seconds())
	}
}

func (m *metrics) StepTaken(step sessions.Step) { m.steps.WithLabelValues(string(step)).Inc() }

func (m *metrics) ShellRestarted(cause sessions.RestartCause) {
	m.restarts.WithLabelValues(string(cause)).Inc()
}

func (m *metrics) OutputRead(stream sessions.Kind, n int) {
	if stream == sessions.Stderr {
		m.stderr.Add(float64(n))
	} else {
		m.stdout.Add(float64(n))
	}
}

func (m *metrics) InputTaken(n int) { m.stdin.Add(float64(n)) }

func (m *metrics) ReaderAttached(by string, viewer bool) { m.clientsOf(by, viewer).Inc() }
func (m *metrics) ReaderDetached(by string, viewer bool) { m.clientsOf(by, viewer).Dec() }

func (m *metrics) clientsOf(door string, viewer bool) prometheus.Gauge {
	role := "control"
	if viewer {
		role = "view"
	}
	return m.clients.WithLabelValues(door, role)
}

func (m *metrics) GapTold(positions uint64) {
	m.gaps.Inc()
	m.gapPositions.Add(float64(positions))
}

func (m *metrics) ReaderStalled() { m.stalled.Inc() }

// answered is told of requests by the REST door.
func (m *metrics) answered(method, route string, status int) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status/100)+"xx").Inc()
}

// A census is what there is when somebody asks.
type census struct {
	manager *sessions.Manager
	crowd   *crowd
}

var (
	sessionsDesc         = prometheus.NewDesc("tandem_sessions", "Sessions there are, by what they do.", []string{"state"}, nil)
	queuedDesc           = prometheus.NewDesc("tandem_queued_runs", "Runs that wait, in all sessions.", nil, nil)
	journalDesc          = prometheus.NewDesc("tandem_journal_bytes", "Memory that journals take.", nil, nil)
	journalLimitDesc     = prometheus.NewDesc("tandem_journal_limit_bytes", "Memory that journals may take in all.", nil, nil)
	connectionsDesc      = prometheus.NewDesc("tandem_connections", "Network connections that are open.", nil, nil)
	connectionsLimitDesc = prometheus.NewDesc("tandem_connections_limit", "Network connections that may be open.", nil, nil)
)

// watch adds what is counted when it is asked for.
func (m *metrics) watch(manager *sessions.Manager, crowd *crowd) {
	m.registry.MustRegister(census{manager, crowd})
}

// Describe and Collect are those of a [prometheus.Collector].
func (c census) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, to) }

func (c census) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	st := c.manager.Stats()
	gauge(sessionsDesc, float64(st.Idle), string(sessions.Idle))
	gauge(sessionsDesc, float64(st.Running), string(sessions.Running))
	gauge(queuedDesc, float64(st.Queued))
	gauge(journalDesc, float64(st.JournalBytes))
	gauge(journalLimitDesc, float64(st.JournalLimit))
	gauge(connectionsDesc, float64(c.crowd.count()))
	gauge(connectionsLimitDesc, float64(c.crowd.most))
}
