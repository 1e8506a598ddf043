package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"tandem/ws"
)

type interruptInput struct {
	Session string `json:"session,omitempty"`
	RunID   string `json:"run_id,omitempty" jsonschema:"only this run: fails when it is not on; absent: whatever runs"`
	Force   bool   `json:"force,omitempty" jsonschema:"end it by force if it does not end by itself"`
}

// A doneView is the answer of what has nothing more to tell.
type doneView struct {
	Session string `json:"session" jsonschema:"id of the session"`
	RunID   string `json:"run_id,omitempty" jsonschema:"id of the run, where one was named"`
	Done    string `json:"done" jsonschema:"what was done"`
}

func (d *doneView) texts() []string { return []string{d.Done} }

func (g *guest) interruptRun(ctx context.Context, _ *mcp.CallToolRequest, in interruptInput) (*doneView, error) {
	session, err := g.session(ctx, in.Session, false)
	if err != nil {
		return nil, g.explain(err, "")
	}
	if err := g.d.interrupt(ctx, session, in.RunID, in.Force); err != nil {
		return nil, g.explain(err, session)
	}
	return &doneView{session, in.RunID, "interrupted: read_output tells how the run ended"}, nil
}

type signalInput struct {
	Signal  string `json:"signal" jsonschema:"name of the signal, as SIGUSR1 or SIGHUP"`
	Session string `json:"session,omitempty"`
	RunID   string `json:"run_id,omitempty" jsonschema:"only this run: fails when it is not on; absent: whatever runs"`
}

func (g *guest) signalRun(ctx context.Context, _ *mcp.CallToolRequest, in signalInput) (*doneView, error) {
	session, err := g.session(ctx, in.Session, false)
	if err != nil {
		return nil, g.explain(err, "")
	}
	body := map[string]any{"signal": in.Signal}
	if in.RunID != "" {
		body["run_id"] = in.RunID
	}
	if err := g.d.remote.call(ctx, http.MethodPost, sessionPath(session, "signal"), body, nil); err != nil {
		return nil, g.explain(err, session)
	}
	return &doneView{session, in.RunID, "sent " + in.Signal}, nil
}

type nothing struct{}

// A sessionView is a session in the list.
type sessionView struct {
	Session   string `json:"session" jsonschema:"its id"`
	Name      string `json:"name,omitempty"`
	State     string `json:"state" jsonschema:"idle or running"`
	Own       bool   `json:"own,omitempty" jsonschema:"it is the one that tools use when no session is given"`
	Cwd       string `json:"cwd"`
	RunID     string `json:"run_id,omitempty" jsonschema:"the run that is on"`
	Code      string `json:"code,omitempty" jsonschema:"what that runs"`
	Queued    int    `json:"queued,omitempty" jsonschema:"runs that wait"`
	CreatedAt string `json:"created_at"`
	ActiveAt  string `json:"active_at"`
}

type sessionList struct {
	Sessions []sessionView `json:"sessions"`
}

func (l *sessionList) texts() []string {
	if len(l.Sessions) == 0 {
		return []string{"there are no sessions: run begins one"}
	}
	var b strings.Builder
	for _, s := range l.Sessions {
		fmt.Fprintf(&b, "%s %s", s.Session, s.State)
		if s.Own {
			b.WriteString(", this connection's own")
		}
		if s.Name != "" {
			fmt.Fprintf(&b, ", named %q", s.Name)
		}
		fmt.Fprintf(&b, ", in %s, active %s", s.Cwd, s.ActiveAt)
		if s.RunID != "" {
			fmt.Fprintf(&b, ", runs %s: %s", s.RunID, oneLine(s.Code, 100))
		}
		b.WriteByte('\n')
	}
	return []string{b.String()}
}

// shownCode is how much of a run's code lists show.
const shownCode = 300

func (g *guest) listSessions(ctx context.Context, _ *mcp.CallToolRequest, _ nothing) (*sessionList, error) {
	all, err := g.d.remote.list(ctx)
	if err != nil {
		return nil, g.explain(err, "")
	}
	list := &sessionList{Sessions: []sessionView{}}
	for _, s := range all {
		v := sessionView{Session: s.ID, Name: s.Name, State: s.State, Cwd: s.Cwd, Queued: s.Queued, CreatedAt: stamp(s.CreatedAt), ActiveAt: stamp(s.ActiveAt)}
		v.Own = s.ID == g.d.session || g.d.session == "" && g.isOwn(s.ID)
		if s.Run != nil {
			v.RunID, v.Code = s.Run.RunID, oneLine(s.Run.Code, shownCode)
		}
		list.Sessions = append(list.Sessions, v)
	}
	return list, nil
}

// stamp is a time in ms since 1970, as people and models read it.
func stamp(ms int64) string { return time.UnixMilli(ms).Format(time.RFC3339) }

type listRunsInput struct {
	Session string `json:"session,omitempty"`
}

// A pastRun is a run in the list.
type pastRun struct {
	RunID      string `json:"run_id"`
	State      string `json:"state" jsonschema:"queued, running or finished"`
	Code       string `json:"code" jsonschema:"what it runs: the first line"`
	By         string `json:"by" jsonschema:"rest or ws: how it was asked for"`
	StartedAt  string `json:"started_at,omitempty"`
	Reason     string `json:"reason,omitempty" jsonschema:"how it ended"`
	ExitCode   *int   `json:"exit_code,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
	Cwd        string `json:"cwd,omitempty" jsonschema:"the directory after it"`
}

type pastRuns struct {
	Session string    `json:"session"`
	Runs    []pastRun `json:"runs"`
	More    int       `json:"more,omitempty" jsonschema:"so many older ones are not shown"`
}

func (l *pastRuns) texts() []string {
	if len(l.Runs) == 0 {
		return []string{"nothing has run in session " + l.Session}
	}
	var b strings.Builder
	for _, r := range l.Runs {
		fmt.Fprintf(&b, "%s %s", r.RunID, first(strings.ReplaceAll(r.Reason, "_", " "), r.State))
		if r.ExitCode != nil {
			fmt.Fprintf(&b, ", exit code %d", *r.ExitCode)
		}
		fmt.Fprintf(&b, ": %s\n", oneLine(r.Code, 100))
	}
	if l.More > 0 {
		fmt.Fprintf(&b, "and %d older ones\n", l.More)
	}
	return []string{b.String()}
}

// shownRuns is how many runs the list has.
const shownRuns = 50

func (g *guest) listRuns(ctx context.Context, _ *mcp.CallToolRequest, in listRunsInput) (*pastRuns, error) {
	session, err := g.session(ctx, in.Session, false)
	if err != nil {
		return nil, g.explain(err, "")
	}
	var all struct {
		Runs []runInfo `json:"runs"`
	}
	if err := g.d.remote.call(ctx, http.MethodGet, sessionPath(session, "run"), nil, &all); err != nil {
		return nil, g.explain(err, session)
	}
	list := &pastRuns{Session: session, Runs: []pastRun{}, More: max(0, len(all.Runs)-shownRuns)}
	for _, r := range all.Runs[:min(len(all.Runs), shownRuns)] {
		v := pastRun{RunID: r.RunID, State: r.State, Code: oneLine(r.Code, shownCode), By: r.By}
		if r.StartedAt != nil {
			v.StartedAt = stamp(*r.StartedAt)
		}
		if r.Last != nil {
			v.Reason, v.ExitCode, v.DurationMS, v.Cwd = r.Reason, r.ExitCode, r.DurationMS, r.Cwd
		}
		list.Runs = append(list.Runs, v)
	}
	return list, nil
}

type createInput struct {
	Name string            `json:"name,omitempty" jsonschema:"what to call it: it can then be given by that name"`
	Cwd  string            `json:"cwd,omitempty" jsonschema:"its directory, made where it is missing"`
	Env  map[string]string `json:"env,omitempty" jsonschema:"environment variables of it"`
}

type createdView struct {
	Session string `json:"session" jsonschema:"id of the session"`
}

func (c *createdView) texts() []string {
	return []string{fmt.Sprintf("created session %s: give it as session; delete_session ends it", c.Session)}
}

func (g *guest) createSession(ctx context.Context, _ *mcp.CallToolRequest, in createInput) (*createdView, error) {
	var out struct {
		SessionID string `json:"session_id"`
	}
	body := map[string]any{"name": in.Name, "cwd": in.Cwd, "env": in.Env}
	if err := g.d.remote.call(ctx, http.MethodPost, "/session", body, &out); err != nil {
		return nil, g.explain(err, "")
	}
	return &createdView{out.SessionID}, nil
}

type deleteInput struct {
	Session string `json:"session" jsonschema:"the session: its id, a beginning of it that no other has, or its name"`
}

func (g *guest) deleteSession(ctx context.Context, _ *mcp.CallToolRequest, in deleteInput) (*doneView, error) {
	if in.Session == "" {
		return nil, errors.New("session is empty: give the session to end")
	}
	s, err := g.d.remote.find(ctx, in.Session)
	if err != nil {
		return nil, g.explain(err, "")
	}
	err = g.d.remote.call(ctx, http.MethodDelete, sessionPath(s.ID), nil, nil)
	if refused, ok := errors.AsType[*ws.RefusedError](err); ok && refused.Code == "CONTEXT_NOT_FOUND" {
		err = nil // somebody was faster
	}
	if err != nil {
		return nil, g.explain(err, "")
	}
	g.drop(s.ID)
	return &doneView{Session: s.ID, Done: "deleted session " + s.ID}, nil
}
