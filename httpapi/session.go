package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"tandem/sessions"
)

// sessionView is a session in answers. Times are in ms since 1970.
type sessionView struct {
	ID        string         `json:"id"`
	Name      string         `json:"name"`
	State     sessions.State `json:"state"`
	Cwd       string         `json:"cwd"`
	CreatedAt int64          `json:"created_at"`
	ActiveAt  int64          `json:"active_at"`
	Clients   int            `json:"clients"`
	Run       *currentView   `json:"run,omitempty"`
	Queued    int            `json:"queued"`
}

// currentView is the run that is on, in its session.
type currentView struct {
	RunID         string `json:"run_id"`
	Code          string `json:"code"`
	CodeTruncated bool   `json:"code_truncated,omitempty"`
	By            string `json:"by"`
	StartedAt     int64  `json:"started_at"`
}

func viewSession(s *sessions.Session) sessionView {
	info := s.Info()
	view := sessionView{
		ID: info.ID, Name: info.Name, State: info.State, Cwd: info.Cwd,
		CreatedAt: info.CreatedAt.UnixMilli(), ActiveAt: info.ActiveAt.UnixMilli(),
		Clients: info.Clients, Queued: info.Queued,
	}
	if run := info.Run; run != nil {
		view.Run = &currentView{
			RunID: run.ID, Code: run.Code, CodeTruncated: run.CodeTruncated,
			By: run.By, StartedAt: run.StartedAt.UnixMilli(),
		}
	}
	return view
}

// session finds the session the path names.
func (a *api) session(r *http.Request) (*sessions.Session, error) {
	return a.sessions.Get(pathParam(r, "id"))
}

// pathParam is a part of the path as it was meant. One that cannot be decoded names nothing.
func pathParam(r *http.Request, name string) string {
	value, err := url.PathUnescape(chi.URLParam(r, name))
	if err != nil {
		return ""
	}
	return value
}

func (a *api) createSession(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Cwd  string            `json:"cwd"`
		Name string            `json:"name"`
		Env  map[string]string `json:"env"`
	}
	if err := a.readJSON(w, r, &in, true); err != nil {
		return err
	}
	s, err := a.sessions.Create(sessions.Options{Cwd: in.Cwd, Name: in.Name, Env: in.Env})
	if errors.Is(err, sessions.ErrClosed) {
		// Not the 404 of the table: it is the server that goes, and another may answer.
		return stopping()
	}
	if err != nil {
		return err
	}
	isAbout(r, sessionParam, s.ID())
	return a.writeJSON(w, http.StatusOK, map[string]string{"session_id": s.ID()})
}

// listSessions also tells what the asker may do.
func (a *api) listSessions(w http.ResponseWriter, r *http.Request) error {
	views := []sessionView{}
	for _, s := range a.sessions.List() {
		views = append(views, viewSession(s))
	}
	role := "control"
	if ViewOnly(r) {
		role = "view"
	}
	return a.writeJSON(w, http.StatusOK, map[string]any{"sessions": views, "role": role})
}

func (a *api) getSession(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	return a.writeJSON(w, http.StatusOK, viewSession(s))
}

// renameSession answers the session as it is then.
func (a *api) renameSession(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	var in struct {
		Name *string `json:"name"`
	}
	if err := a.readJSON(w, r, &in, false); err != nil {
		return err
	}
	if in.Name == nil {
		return invalid(`the field "name" is missing; it must be a string`)
	}
	if err := s.Rename(*in.Name); err != nil {
		return err
	}
	return a.writeJSON(w, http.StatusOK, viewSession(s))
}

// deleteSession answers when every process of the session is gone, with an empty body, as
// the reference server does.
func (a *api) deleteSession(w http.ResponseWriter, r *http.Request) error {
	if err := a.sessions.Delete(pathParam(r, "id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// interrupt answers when the interrupt is on its way, not when the run has ended.
func (a *api) interrupt(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	var in struct {
		RunID string `json:"run_id"`
		Force bool   `json:"force"`
	}
	if err := a.readJSON(w, r, &in, true); err != nil {
		return err
	}
	if err := s.Interrupt(in.RunID, in.Force); err != nil {
		return err
	}
	return a.done(w)
}

func (a *api) signal(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	var in struct {
		RunID  string `json:"run_id"`
		Signal string `json:"signal"`
	}
	if err := a.readJSON(w, r, &in, false); err != nil {
		return err
	}
	if err := s.Signal(in.RunID, in.Signal); err != nil {
		return err
	}
	return a.done(w)
}

// done answers a request that has no result.
func (a *api) done(w http.ResponseWriter) error {
	return a.writeJSON(w, http.StatusOK, struct{}{})
}

// interruptCommand serves what the reference server's SDKs send to interrupt a session. It
// differs from that server, which ends the session, in keeping it. It is forceful, since
// those SDKs have no second, stronger call to make when a command ignores the first; and
// where nothing runs it answers 200, since then what the caller wants is so already.
func (a *api) interruptCommand(w http.ResponseWriter, r *http.Request) error {
	query, err := queryOf(r)
	if err != nil {
		return err
	}
	id := query.Get("id")
	if id == "" {
		return invalid(`the query parameter "id" is missing; it must be the id of a session`)
	}
	s, err := a.sessions.Get(id)
	if err != nil {
		return err
	}
	isAbout(r, sessionParam, s.ID())
	if err := s.Interrupt("", true); err != nil && !errors.Is(err, sessions.ErrRunNotRunning) {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// queryOf is what a request's address asks for beside its path, all of it or nothing: a part that
// cannot be read is none that is absent.
func queryOf(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("the query is malformed: %v", err)
	}
	return query, nil
}

// resumePosition is where a client wants a stream to go on: after the last event it saw,
// as a browser's EventSource tells by itself when it reconnects, or else after "after".
func resumePosition(r *http.Request) (*uint64, error) {
	query, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		return parsePosition("the header Last-Event-ID", last)
	}
	if !query.Has("after") {
		return nil, nil
	}
	return parsePosition(`the query parameter "after"`, query.Get("after"))
}

func parsePosition(what, s string) (*uint64, error) {
	pos, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return nil, invalid("%s must be a position, a whole number from 0 on, not %.40q", what, s)
	}
	return &pos, nil
}

// patience reads from the query how long a request is willing to wait, in ms.
func patience(r *http.Request) (time.Duration, error) {
	query, err := queryOf(r)
	if err != nil {
		return 0, err
	}
	if !query.Has("wait") {
		return 0, nil
	}
	ms, err := strconv.ParseUint(query.Get("wait"), 10, 63)
	if err != nil {
		return 0, invalid(`the query parameter "wait" must be a number of milliseconds, not %.40q`, query.Get("wait"))
	}
	return time.Duration(min(ms, uint64(maxWait.Milliseconds()))) * time.Millisecond, nil
}

// maxWait is the longest a request waits for something to happen.
const maxWait = 24 * time.Hour
