package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
)

const megabyte = 1 << 20

// payload makes up code and its output for this step.
func (st *step) payload(s *session, most int) (payload, error) {
	return newPayload(st.rng, s.dir, st.runID(), most)
}

func (st *step) restSSE(ctx context.Context, s *session) error {
	p, err := st.payload(s, 3*megabyte)
	if err != nil {
		return err
	}
	r, err := st.rest.runSSE(ctx, s.id, runRequest{Code: p.code})
	if err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	return st.soak.tally.expect(r, p)
}

func (st *step) restJSON(ctx context.Context, s *session) error {
	p, err := st.payload(s, 3*megabyte)
	if err != nil {
		return err
	}
	r, err := st.rest.runJSON(ctx, s.id, runRequest{Code: p.code})
	if err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	return st.soak.tally.expect(r, p)
}

// restStdinText gives a run a text for its input.
func (st *step) restStdinText(ctx context.Context, s *session) error {
	text := randomText(st.rng, size(st.rng, 300<<10))
	r, err := st.rest.runSSE(ctx, s.id, runRequest{Code: "cat", Stdin: text})
	if err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	return st.soak.tally.expect(r, payload{stdout: []byte(text)})
}

// restStdinStream sends a run its input in several requests.
func (st *step) restStdinStream(ctx context.Context, s *session) error {
	id := st.runID()
	if err := st.rest.call(ctx, http.MethodPost, "/session/"+s.id+"/run", runRequest{Code: "cat", RunID: id, Stdin: true, Detach: true}, nil); err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	var want []byte
	for last := false; !last; {
		last = st.rng.IntN(4) == 0
		b := randomBytes(st.rng, size(st.rng, 400<<10))
		path := "/session/" + s.id + "/run/" + id + "/stdin"
		if last {
			path += "?close=1"
		}
		res, err := st.rest.send(ctx, http.MethodPost, path, "", bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("stdin: %w", err)
		}
		_ = res.Body.Close()
		want = append(want, b...)
		if len(want) > 2*megabyte && !last {
			return st.closeStdin(ctx, s, id)
		}
	}
	r, err := st.rest.output(ctx, s.id, id)
	if err != nil {
		return err
	}
	return st.soak.tally.expect(r, payload{stdout: want})
}

// closeStdin ends the input of a run that was given more than is worth comparing.
func (st *step) closeStdin(ctx context.Context, s *session, id string) error {
	if err := st.rest.call(ctx, http.MethodPost, "/session/"+s.id+"/run/"+id+"/stdin?close=1", nil, nil); err != nil {
		return err
	}
	end, err := st.rest.finished(ctx, s.id, id)
	if err != nil {
		return err
	}
	return expectEnd(end, exited(0))
}

// restDetached starts a run that nobody waits for, and reads its output in one of the ways
// there are.
func (st *step) restDetached(ctx context.Context, s *session) error {
	p, err := st.payload(s, megabyte)
	if err != nil {
		return err
	}
	id := st.runID()
	var answer jsonRun
	if err := st.rest.call(ctx, http.MethodPost, "/session/"+s.id+"/run", runRequest{Code: p.code, RunID: id, Detach: true}, &answer); err != nil {
		return err
	}
	if answer.RunID != id {
		return fmt.Errorf("the run is called %q, not %q", answer.RunID, id)
	}
	st.soak.tally.run(st.name)
	if st.rng.IntN(2) == 0 {
		r, err := st.rest.output(ctx, s.id, id)
		if err != nil {
			return err
		}
		return st.soak.tally.expect(r, p)
	}
	o, err := st.rest.openStream(ctx, http.MethodGet, "/session/"+s.id+"/run/"+id+"/output", nil)
	if err != nil {
		return err
	}
	defer o.close()
	if err := o.all(); err != nil {
		return err
	}
	return st.soak.tally.expect(&o.result, p)
}

// restRepeated asks for the same run several times at once. It must happen once.
func (st *step) restRepeated(ctx context.Context, s *session) error {
	p, err := st.payload(s, 200<<10)
	if err != nil {
		return err
	}
	req := runRequest{Code: "n=$((n+1)); " + p.code, RunID: st.runID()}
	fetch := []func(context.Context, string, runRequest) (*result, error){st.rest.runSSE, st.rest.runJSON, st.rest.runSSE}
	errs := make([]error, len(fetch))
	var wg sync.WaitGroup
	for i, f := range fetch {
		wg.Go(func() {
			r, err := f(ctx, s.id, req)
			if err == nil {
				err = st.soak.tally.expect(r, p)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	st.soak.tally.run(st.name)
	s.changed("")
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err = st.rest.runJSON(ctx, s.id, runRequest{Code: "other " + req.Code, RunID: req.RunID})
	if !isCode(err, "RUN_EXISTS") || !isStatus(err, http.StatusConflict) {
		return fmt.Errorf("the same run_id with other code is answered with %v", err)
	}
	return st.probe(ctx, s)
}

// restTimeout lets a run take too long.
func (st *step) restTimeout(ctx context.Context, s *session) error {
	code := "n=$((n+1)); echo begun; " + [...]string{"sleep 60", "while :; do :; done", "while :; do sleep 0.02; done", "sleep 60 & wait"}[st.rng.IntN(4)]
	// On a busy machine the first commands must have had their turn by then.
	req := runRequest{Code: code, Timeout: 1000 + st.rng.Int64N(500)}
	fetch := st.rest.runJSON
	if st.rng.IntN(2) == 0 {
		fetch = st.rest.runSSE
	}
	r, err := fetch(ctx, s.id, req)
	if err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	s.changed("")
	if err := expectEnd(r.end, timedOut); err != nil {
		return err
	}
	if err := st.soak.tally.compare("stdout", r.stdout, []byte("begun\n")); err != nil {
		return err
	}
	return st.probe(ctx, s)
}

// restEnvCwd gives a run an environment of its own, and a directory to move to.
func (st *step) restEnvCwd(ctx context.Context, s *session) error {
	value := randomText(st.rng, 1+st.rng.IntN(40))
	value = string(bytes.ReplaceAll([]byte(value), []byte{0}, nil))
	req := runRequest{Code: `printf '%s' "$SOAK_ONCE"`, Env: map[string]string{"SOAK_ONCE": value}}
	if err := st.plainly(ctx, s, req, value, exited(0)); err != nil {
		return err
	}
	if err := st.plainly(ctx, s, runRequest{Code: `printf '%s' "${SOAK_ONCE-unset}"`}, "unset", exited(0)); err != nil {
		return err
	}
	_, err := st.rest.runJSON(ctx, s.id, runRequest{Code: "echo not", Cwd: filepath.Join(s.dir, "nosuch")})
	if !isStatus(err, http.StatusBadRequest) {
		return fmt.Errorf("a directory that is not there is answered with %v", err)
	}
	if err := st.plainly(ctx, s, runRequest{Code: `n=$((n+1)); pwd`, Cwd: s.dir}, s.dir+"\n", exited(0)); err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	s.changed(s.dir)
	return st.probe(ctx, s)
}
