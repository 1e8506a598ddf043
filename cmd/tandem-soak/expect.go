package main

import (
	"bytes"
	"fmt"
	"slices"
)

// An outcome is how a run ended, the same over every door.
type outcome struct {
	reason string
	exit   int // noCode where there is none
}

const (
	noCode  = -1
	anyCode = -2 // in what is allowed
)

func exited(code int) outcome { return outcome{"exited", code} }

var (
	interrupted   = outcome{"interrupted", 130}
	timedOut      = outcome{"timed_out", 124}
	canceled      = outcome{"canceled", noCode}
	sessionClosed = outcome{"session_closed", noCode}
	shellKilled   = outcome{"shell_exited", 137}
)

// expectEnd fails unless got is one of those allowed.
func expectEnd(got outcome, allowed ...outcome) error {
	ok := slices.ContainsFunc(allowed, func(o outcome) bool {
		return o == got || o.exit == anyCode && o.reason == got.reason
	})
	if !ok {
		return fmt.Errorf("the run ended as %v, allowed is %v", got, allowed)
	}
	return nil
}

// A result is what one reader has seen of a run.
type result struct {
	runID          string
	stdout, stderr []byte
	end            outcome
	ended          bool
	truncated      bool
}

// difference describes where got and want differ, and how many bytes are lost or wrong.
func difference(got, want []byte) (wrong int, text string) {
	if bytes.Equal(got, want) {
		return 0, ""
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	for i := at; i < min(len(got), len(want)); i++ {
		if got[i] != want[i] {
			wrong++
		}
	}
	wrong += max(len(got), len(want)) - min(len(got), len(want))
	return wrong, fmt.Sprintf("%d bytes instead of %d, different from byte %d on: %q instead of %q", len(got), len(want), at, near(got, at), near(want, at))
}

func near(b []byte, at int) []byte { return b[at:min(at+40, len(b))] }

// compare compares and counts bytes.
func (t *tally) compare(what string, got, want []byte) error {
	wrong, text := difference(got, want)
	t.bytes(len(want), wrong)
	if wrong > 0 {
		return fmt.Errorf("%s: %s", what, text)
	}
	return nil
}

// expect compares all that a reader has seen of a run with its payload.
func (t *tally) expect(r *result, p payload) error {
	if !r.ended {
		return fmt.Errorf("the run did not end; %d bytes of stdout, %d of stderr", len(r.stdout), len(r.stderr))
	}
	if r.truncated {
		return fmt.Errorf("some output was no longer kept, of %d and %d bytes", len(p.stdout), len(p.stderr))
	}
	if err := expectEnd(r.end, exited(p.exit)); err != nil {
		return fmt.Errorf("%w; stderr %q", err, near(r.stderr, 0))
	}
	if err := t.compare("stdout", r.stdout, p.stdout); err != nil {
		return err
	}
	return t.compare("stderr", r.stderr, p.stderr)
}
