package main

import "testing"

// A Ctrl-C is for what was on when it was pressed: what is run next is not ended by one that is
// heeded late.
func TestCtrlCIsForWhatIsOn(t *testing.T) {
	t.Parallel()
	a := newAttached(process{}, "name", false)
	a.press(keyInterrupt)
	a.running = "the next run"
	if err := (<-a.presses)(t.Context()); err != nil { // there is no session that it could interrupt
		t.Error(err)
	}
	if a.pressing != "" {
		t.Errorf("pressed for %q", a.pressing)
	}
}
