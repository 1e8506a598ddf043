package sessions

import (
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// labelledSleep starts a process with a label, which ends with the test at the latest.
func labelledSleep(t *testing.T, l label) *exec.Cmd {
	t.Helper()
	return startLabelled(t, l, "sleep", "1000")
}

func startLabelled(t *testing.T, l label, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := l.attach(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// Who asks before a reading begins is served by it, and it has all that was there when they
// asked; who asks later gets another.
func TestCensusIsSharedByThoseWhoWait(t *testing.T) {
	t.Parallel()
	var c census
	first := c.join()
	set := procSet{newLabel(1234, 5, 0), wholeSession, &c}
	pid := labelledSleep(t, set.want).Process.Pid
	if c.join() != first {
		t.Error("two who wait get two readings")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got := set.pids(); !slices.Equal(got, []int{pid}) {
				t.Errorf("found %d, want %d", got, pid)
			}
		})
	}
	all.Wait()
	if c.join() == first {
		t.Error("a reading that is over is given out")
	}
	if got := (procSet{newLabel(1234, 6, 0), wholeSession, nil}).pids(); len(got) > 0 {
		t.Errorf("another session has %d", got)
	}
}

func TestAwaitEnds(t *testing.T) {
	t.Parallel()
	ends, stays := labelledSleep(t, newLabel(1235, 1, 0)), labelledSleep(t, newLabel(1235, 2, 0))
	pids := []int{ends.Process.Pid, stays.Process.Pid}
	if awaitEnds(pids, time.Now().Add(20*time.Millisecond)) {
		t.Error("what lives has ended")
	}
	if err := ends.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !awaitEnds(pids[:1], time.Now().Add(time.Minute)) { // nobody has waited for it yet
		t.Error("what was killed has not ended")
	}
	if alive(pids[0]) || !alive(pids[1]) {
		t.Errorf("alive: %v, %v", alive(pids[0]), alive(pids[1]))
	}
	_ = ends.Wait()
	if !awaitEnds(pids[:1], time.Now().Add(time.Minute)) {
		t.Error("what is gone has not ended")
	}
}

// What blocks SIGINT may be waiting for it, and has it; what ignores it has not.
func TestIgnoreInterrupts(t *testing.T) {
	t.Parallel()
	for i, how := range []string{"--default-signal=INT", "--block-signal=INT", "--ignore-signal=INT"} {
		set := procSet{newLabel(1236, uint64(i+1), 0), wholeSession, &census{}}
		pid := startLabelled(t, set.want, "env", how, "sleep", "1000").Process.Pid
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if st, _ := readStat(pid); st.comm == "sleep" {
				break
			}
		}
		if got, want := set.ignoreInterrupts(0), i == 2; got != want {
			t.Errorf("%s: %t, want %t", how, got, want)
		}
		if !set.ignoreInterrupts(pid) {
			t.Errorf("%s: counted though it is left out", how)
		}
	}
}

// A shell that sends itself SIGINT for ever was seen in its handler, and between two of them with
// the next one pending. One that runs a loop, or forks, is seen otherwise.
func TestSpin(t *testing.T) {
	t.Parallel()
	at := func(ticks, faults, pending, blocked string) spin {
		return parseSpin([]byte("77 (ba) sh) R 1 77 77 0 -1 4194560 "+faults+" 0 0 0 "+ticks+" 3 0 0 20 0 1 0"),
			[]byte("Name:\tbash\nSigPnd:\t0000000000000000\nShdPnd:\t"+pending+"\nSigBlk:\t"+blocked+"\nSigIgn:\t0000000000384004\n"))
	}
	const none, child, both = "0000000000000000", "0000000000010000", "0000000000010002"
	start := at("5", "900", none, both)
	for name, c := range map[string]struct {
		now  spin
		want bool
	}{
		"in the handler":   {at("50", "900", none, both), true},
		"between two":      {at("50", "900", both, child), true},
		"a loop":           {at("50", "900", none, none), false},
		"a loop of forks":  {at("50", "990", none, both), false},
		"has not run":      {at("5", "900", both, child), false},
		"gone":             {spin{}, false},
		"not to be parsed": {parseSpin(nil, nil), false},
	} {
		if got := c.now.goesNowhere(start); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
