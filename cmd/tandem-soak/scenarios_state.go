package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// state changes the state of the session, and its directory.
func (st *step) state(ctx context.Context, s *session) error {
	dir, cd := "", ""
	if st.rng.IntN(2) == 0 {
		dir = filepath.Join(s.dir, st.runID()+" d'ir")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		cd = fmt.Sprintf("; cd \"%s\"", dir)
	}
	if err := st.plainly(ctx, s, runRequest{Code: "n=$((n+1))" + cd + "; eval \"f_$n() { echo $n; }\"; [[ $(f_$n) == $n ]]"}, "", exited(0)); err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	s.changed(dir)
	return st.probe(ctx, s)
}

// exit ends the shell in one of the ways in which it can still tell its state.
func (st *step) exit(ctx context.Context, s *session) error {
	code := st.rng.IntN(256)
	body, want := fmt.Sprintf("exit %d", code), exited(code)
	if st.rng.IntN(3) == 0 {
		body, want = "set -e; false; echo not", exited(1)
	}
	if err := st.plainly(ctx, s, runRequest{Code: "n=$((n+1)); echo bye; " + body}, "bye\n", want); err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	s.changed("")
	s.kept = s.low
	return st.probe(ctx, s)
}

// killShell kills the session's shell under a run.
func (st *step) killShell(ctx context.Context, s *session) error {
	st.soak.tally.fault(st.name)
	if err := st.plainly(ctx, s, runRequest{Code: "n=$((n+1)); echo last; kill -9 $$; sleep 5; echo not"}, "last\n", shellKilled); err != nil {
		return err
	}
	// The state is that of a moment at which the session was idle: this run was none.
	s.lost()
	return st.probe(ctx, s)
}

// deletePrivate deletes the directory in which the server keeps what belongs to the
// session. The shell is lost with it, and nothing else may be.
func (st *step) deletePrivate(ctx context.Context, s *session) error {
	st.soak.tally.fault(st.name)
	code := fmt.Sprintf(`d=$(readlink /proc/$$/fd/1); d=${d%%/*}; [[ $d == '%s'/?* ]] || { echo "$d"; exit 99; }; rm -rf -- "$d"; echo done`, st.soak.server.tmp)
	if err := st.plainly(ctx, s, runRequest{Code: code}, "done\n", shellKilled, exited(0)); err != nil {
		return err
	}
	s.lost()
	return st.probe(ctx, s)
}
