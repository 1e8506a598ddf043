package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// A wire dials, and can cut what it dialed.
type wire struct {
	mu    sync.Mutex
	conns []net.Conn
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err == nil {
		w.mu.Lock()
		w.conns = append(w.conns, c)
		w.mu.Unlock()
	}
	return c, err
}

// cut ends all connections in the middle of whatever they are at, half of them with a
// reset.
func (w *wire) cut(rng *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		if tcp, ok := c.(*net.TCPConn); ok && rng.IntN(2) == 0 {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	w.conns = nil
}

// A client talks REST.
type client struct {
	url, token string
	wire       *wire
	http       *http.Client
}

func newClient(url, token string) *client {
	w := &wire{}
	// A connection is given up long before the server does so: a request that met its end
	// would fail, as HTTP has it.
	transport := &http.Transport{DialContext: w.dial, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second}
	return &client{url: url, token: token, wire: w, http: &http.Client{Transport: transport}}
}

func (c *client) close() {
	c.http.CloseIdleConnections()
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	for _, conn := range c.wire.conns {
		_ = conn.Close()
	}
}

// An apiError is an answer that is not 2xx.
type apiError struct {
	Status  int    `json:"-"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

func isStatus(err error, status int) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.Status == status
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.Code == code
}

// send sends a request; an answer that is not 2xx is an [apiError].
func (c *client) send(ctx context.Context, method, path, accept string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	e := &apiError{Status: res.StatusCode}
	data, _ := io.ReadAll(res.Body)
	if err := json.Unmarshal(data, e); err != nil || e.Code == "" {
		return nil, fmt.Errorf("%s %s: status %d with the body %.200q, which is no error of the protocol", method, path, e.Status, data)
	}
	return nil, e
}

// call sends in as JSON and decodes the answer to out, either of which may be nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	res, err := c.send(ctx, method, path, "application/json", body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: %.200q: %w", method, path, data, err)
	}
	return nil
}

// A runRequest is the body of a run.
type runRequest struct {
	Code    string            `json:"code"`
	RunID   string            `json:"run_id,omitempty"`
	Cwd     string            `json:"cwd,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Timeout int64             `json:"timeout_ms,omitempty"`
	Stdin   any               `json:"stdin,omitempty"`
	Detach  bool              `json:"detach,omitempty"`
}

// A jsonRun is an answer that has a run's output or its state.
type jsonRun struct {
	RunID        string  `json:"run_id"`
	State        string  `json:"state"`
	ExitCode     *int    `json:"exit_code"`
	Reason       string  `json:"reason"`
	Stdout       string  `json:"stdout"`
	Stderr       string  `json:"stderr"`
	StdoutBase64 *[]byte `json:"stdout_base64"`
	StderrBase64 *[]byte `json:"stderr_base64"`
	Truncated    bool    `json:"truncated"`
	Next         uint64  `json:"next"`
}

func (j *jsonRun) end() outcome {
	o := outcome{j.Reason, noCode}
	if j.ExitCode != nil {
		o.exit = *j.ExitCode
	}
	return o
}

// add appends the output of j.
func (r *result) add(j *jsonRun) {
	r.stdout = append(r.stdout, exactly(j.Stdout, j.StdoutBase64)...)
	r.stderr = append(r.stderr, exactly(j.Stderr, j.StderrBase64)...)
	r.truncated = r.truncated || j.Truncated
}

func exactly(text string, exact *[]byte) []byte {
	if exact != nil {
		return *exact
	}
	return []byte(text)
}

// runJSON runs and waits for the one answer.
func (c *client) runJSON(ctx context.Context, session string, req runRequest) (*result, error) {
	var j jsonRun
	if err := c.call(ctx, http.MethodPost, "/session/"+session+"/run", req, &j); err != nil {
		return nil, err
	}
	r := &result{runID: j.RunID, end: j.end(), ended: true}
	r.add(&j)
	return r, nil
}

// runSSE runs, and reads the stream of events to its end.
func (c *client) runSSE(ctx context.Context, session string, req runRequest) (*result, error) {
	s, err := c.openRun(ctx, session, req)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.all(); err != nil {
		return &s.result, err
	}
	return &s.result, nil
}

// An openRun is a run's stream with its connection.
type openRun struct {
	runStream
	body io.Closer
}

func (o *openRun) close() { _ = o.body.Close() }

func (c *client) openRun(ctx context.Context, session string, req runRequest) (*openRun, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	return c.openStream(ctx, http.MethodPost, "/session/"+session+"/run", bytes.NewReader(data))
}

func (c *client) openStream(ctx context.Context, method, path string, body io.Reader) (*openRun, error) {
	res, err := c.send(ctx, method, path, "text/event-stream", body)
	if err != nil {
		return nil, err
	}
	return &openRun{runStream{events: newSSEReader(res.Body)}, res.Body}, nil
}

// state is the state of a run, waited for up to wait.
func (c *client) state(ctx context.Context, session, run string, wait time.Duration) (*jsonRun, error) {
	var j jsonRun
	path := fmt.Sprintf("/session/%s/run/%s?wait=%d", session, url.PathEscape(run), wait.Milliseconds())
	return &j, c.call(ctx, http.MethodGet, path, nil, &j)
}

// finished waits for the end of a run.
func (c *client) finished(ctx context.Context, session, run string) (outcome, error) {
	for {
		j, err := c.state(ctx, session, run, 5*time.Second)
		if err != nil {
			return outcome{}, err
		}
		if j.State == "finished" {
			return j.end(), nil
		}
	}
}

// output collects the output of a run page by page, to its end.
func (c *client) output(ctx context.Context, session, run string) (*result, error) {
	r := &result{runID: run}
	after := ""
	for {
		var j jsonRun
		if err := c.call(ctx, http.MethodGet, "/session/"+session+"/run/"+run+"/output?wait=200"+after, nil, &j); err != nil {
			return r, err
		}
		r.add(&j)
		after = "&after=" + strconv.FormatUint(j.Next, 10)
		if j.State != "finished" || j.Stdout != "" || j.Stderr != "" {
			continue
		}
		end, err := c.finished(ctx, session, run)
		r.end, r.ended = end, err == nil
		return r, err
	}
}

// sessions are the ids of all sessions.
func (c *client) sessions(ctx context.Context) (ids []string, err error) {
	var list struct {
		Sessions []struct {
			ID string `json:"id"`
		} `json:"sessions"`
	}
	err = c.call(ctx, http.MethodGet, "/session", nil, &list)
	for _, s := range list.Sessions {
		ids = append(ids, s.ID)
	}
	return ids, err
}
