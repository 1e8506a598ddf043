package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tandem/httpapi"
	"tandem/ws"
)

const defaultURL = "http://127.0.0.1:4477"

// answerLimit is how long a server may take to begin its answer. It is more than waitStep, for
// which one is asked to wait.
const answerLimit = waitStep + 30*time.Second

// A remote is the server that a command uses.
type remote struct {
	base  string // without a slash at the end
	token string
	http  *http.Client

	// patience is how long to try to get a lost connection back, negative: not at all.
	patience time.Duration
}

// remoteFlags defines the flags that say which server, and returns what makes a remote of
// them once they are parsed. Its close lets go of idle connections.
func remoteFlags(cmd *cobra.Command, p process) finder {
	cmd.Flags().String("url", "", "address of the server, http(s)://host:port/path or unix:PATH (TANDEM_URL; default "+defaultURL+")")
	file := cmd.Flags().String("token-file", "", "file with the token (TANDEM_TOKEN_FILE, or the token itself in TANDEM_TOKEN)")
	_ = cmd.MarkFlagFilename("token-file")
	return func() (*remote, error) {
		r, err := newRemote(serverAddress(cmd, p))
		if err != nil {
			return nil, err
		}
		token, err := clientToken(*file, p)
		if err != nil {
			return nil, err
		}
		r.token = first(token, r.token)
		r.patience = patience(cmd)
		return r, nil
	}
}

// patienceFlag defines the flag of the commands that get lost connections back.
func patienceFlag(cmd *cobra.Command) {
	cmd.Flags().Duration("patience", ws.DefaultPatience, "how long to try to get a lost connection back; 0: not at all")
}

func patience(cmd *cobra.Command) time.Duration {
	p, err := cmd.Flags().GetDuration("patience")
	if err == nil && p <= 0 {
		return -1
	}
	return p
}

// serverAddress is where cmd is to find the server.
func serverAddress(cmd *cobra.Command, p process) string {
	flag, _ := cmd.Flags().GetString("url")
	return first(flag, variable(p, "TANDEM_URL"), defaultURL)
}

// first is the first of values that is not empty.
func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func variable(p process, name string) string {
	v, _ := p.getenv(name)
	return v
}

// newRemote takes an address as a person has it: also the link to the page, with the token
// behind its #.
func newRemote(address string) (*remote, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = answerLimit
	r := &remote{http: &http.Client{Transport: transport}}
	if path, ok := strings.CutPrefix(address, "unix:"); ok && path != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		r.base = "http://localhost"
		return r, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || !isPort(u.Port()) {
		shown, _, _ := strings.Cut(address, "#") // behind it there may be the token
		return nil, usagef("server address %q: give one like %s or unix:PATH", shown, defaultURL)
	}
	if fragment, err := url.ParseQuery(u.Fragment); err == nil {
		r.token = fragment.Get("token")
	}
	u.Fragment, u.RawQuery = "", ""
	r.base = strings.TrimSuffix(u.String(), "/")
	return r, nil
}

// isPort reports whether a server can be at the port of a URL, "" being that of its scheme.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

// clientToken is the token to present: of several, the first that may control.
func clientToken(file string, p process) (string, error) {
	tokens, err := clientTokens(file, p)
	if err != nil || len(tokens) == 0 {
		return "", err
	}
	for _, t := range tokens {
		if !t.View {
			return t.Secret, nil
		}
	}
	return tokens[0].Secret, nil
}

// clientTokens are the tokens that a flag or a variable gives.
func clientTokens(file string, p process) ([]httpapi.Token, error) {
	if token := variable(p, "TANDEM_TOKEN"); file == "" && token != "" {
		return []httpapi.Token{{Secret: token}}, nil
	}
	file = first(file, variable(p, "TANDEM_TOKEN_FILE"))
	if file == "" {
		return nil, nil
	}
	tokens, err := readTokens(file)
	if err != nil {
		return nil, usagef("token file: %w", err)
	}
	return tokens, nil
}

func (r *remote) close() { r.http.CloseIdleConnections() }

// dialOptions are what the WebSocket needs of it.
func (r *remote) dialOptions() ws.DialOptions {
	return ws.DialOptions{Token: r.token, HTTPClient: r.http}
}

// call makes a request with a JSON body, or none where in is nil, and decodes the answer into
// out, unless that is nil. It fails with a [ws.RefusedError] or with [ws.ErrLost].
func (r *remote) call(ctx context.Context, method, path string, in, out any) error {
	res, err := r.open(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, res.Body)
	} else {
		err = json.NewDecoder(res.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("%w: read the answer: %w", ws.ErrLost, err)
	}
	return nil
}

// open makes a request and returns the answer, whose body is the caller's to close. An in
// that is an io.Reader is sent as it is.
func (r *remote) open(ctx context.Context, method, path string, in any) (*http.Response, error) {
	body, raw := in.(io.Reader)
	if in != nil && !raw {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return nil, err
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	res, err := r.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ws.ErrLost, err)
	}
	if res.StatusCode/100 != 2 {
		defer res.Body.Close()
		return nil, needsToken(refusal(res), r.token)
	}
	return res, nil
}

func refusal(res *http.Response) *ws.RefusedError {
	e := &ws.RefusedError{Status: res.StatusCode}
	data, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	_ = json.Unmarshal(data, e) // what is none of ours leaves the code empty
	return e
}

// A sessionInfo is a session as the server tells it.
type sessionInfo struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	State     string      `json:"state"`
	Cwd       string      `json:"cwd"`
	CreatedAt int64       `json:"created_at"`
	ActiveAt  int64       `json:"active_at"`
	Clients   int         `json:"clients"`
	Run       *currentRun `json:"run,omitempty"`
	Queued    int         `json:"queued"`
}

// A currentRun is the run that is on, in its session.
type currentRun struct {
	RunID     string `json:"run_id"`
	Code      string `json:"code"`
	Truncated bool   `json:"code_truncated,omitempty"`
	By        string `json:"by"`
	StartedAt int64  `json:"started_at"`
}

// A runInfo is a run as the server tells it.
type runInfo struct {
	RunID      string  `json:"run_id"`
	Number     uint64  `json:"number"`
	State      string  `json:"state"`
	Code       string  `json:"code"`
	Truncated  bool    `json:"code_truncated,omitempty"`
	By         string  `json:"by"`
	StartedAt  *int64  `json:"started_at"` // nil: it has not started
	First      uint64  `json:"first"`
	Last       *uint64 `json:"last,omitempty"` // nil: it has not finished, and the rest means nothing
	ExitCode   *int    `json:"exit_code"`
	Reason     string  `json:"reason,omitempty"`
	Signal     string  `json:"signal,omitempty"`
	DurationMS int64   `json:"duration_ms"`
	Cwd        string  `json:"cwd,omitempty"`
	Detail     string  `json:"detail,omitempty"`
}

// find resolves what a person calls a session: its id, a beginning of it, or its name.
func (r *remote) find(ctx context.Context, called string) (sessionInfo, error) {
	var info sessionInfo
	if called == "" {
		return info, usagef("the name of the session is empty: give its id, a beginning of it, or its name")
	}
	err := r.call(ctx, http.MethodGet, sessionPath(called), nil, &info)
	refused, ok := errors.AsType[*ws.RefusedError](err)
	if !ok || refused.Status != http.StatusNotFound {
		return info, err
	}
	all, listErr := r.list(ctx)
	if listErr != nil {
		return info, listErr
	}
	var found []sessionInfo
	for _, s := range all {
		if s.Name == called {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		for _, s := range all {
			if strings.HasPrefix(s.ID, called) {
				found = append(found, s)
			}
		}
	}
	switch len(found) {
	case 0:
		return info, err
	case 1:
		return found[0], nil
	}
	return info, usagef("%q is what %d sessions are called: give the id of one", called, len(found))
}

// findRun resolves what a person calls a run of a session: its id, a beginning of it, or its
// number.
func (r *remote) findRun(ctx context.Context, session, called string) (runInfo, error) {
	var info runInfo
	err := r.call(ctx, http.MethodGet, sessionPath(session, "run", called), nil, &info)
	refused, ok := errors.AsType[*ws.RefusedError](err)
	if called == "" || !ok || refused.Status != http.StatusNotFound {
		return info, err
	}
	all, listErr := r.runs(ctx, session)
	if listErr != nil {
		return info, listErr
	}
	var found []runInfo
	for _, run := range all {
		if run.Number > 0 && called == strconv.FormatUint(run.Number, 10) {
			return run, nil
		}
		if strings.HasPrefix(run.RunID, called) {
			found = append(found, run)
		}
	}
	switch len(found) {
	case 0:
		return info, err
	case 1:
		return found[0], nil
	}
	return info, usagef("%q is how the ids of %d runs begin: give more of it, see 'tandem ls %s'", called, len(found), session)
}

// runs are a session's runs, newest first.
func (r *remote) runs(ctx context.Context, session string) ([]runInfo, error) {
	var out struct {
		Runs []runInfo `json:"runs"`
	}
	err := r.call(ctx, http.MethodGet, sessionPath(session, "run"), nil, &out)
	return out.Runs, err
}

func (r *remote) list(ctx context.Context) ([]sessionInfo, error) {
	list, err := r.listing(ctx)
	return list.Sessions, err
}

// role is what the token allows: roleView, or to control.
func (r *remote) role(ctx context.Context) (string, error) {
	list, err := r.listing(ctx)
	return list.Role, err
}

const roleView = "view"

func (r *remote) listing(ctx context.Context) (list struct {
	Sessions []sessionInfo `json:"sessions"`
	Role     string        `json:"role"`
}, err error) {
	return list, r.call(ctx, http.MethodGet, "/session", nil, &list)
}

func sessionPath(id string, more ...string) string {
	path := "/session/" + url.PathEscape(id)
	for _, m := range more {
		path += "/" + url.PathEscape(m)
	}
	return path
}
