package sessions_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

func TestInterruptKeepsTheShell(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for name, c := range map[string]struct {
		code   string
		reason sessions.Reason
		exit   int
		stdin  sessions.Stdin
	}{
		"sleep":               {code: "echo go; sleep 60; echo never", reason: sessions.ReasonInterrupted, exit: 130},
		"busy loop":           {code: "echo go; while :; do :; done", reason: sessions.ReasonInterrupted, exit: 130},
		"wait":                {code: "sleep 61 & echo go; wait", reason: sessions.ReasonInterrupted, exit: 130},
		"read":                {code: "echo go; read line", reason: sessions.ReasonInterrupted, exit: 130, stdin: sessions.OpenStdin},
		"substitution":        {code: "echo go; x=$(sleep 50)", reason: sessions.ReasonInterrupted, exit: 130},
		"pipeline in a loop":  {code: "echo go; while :; do sleep 0.01 | cat; done", reason: sessions.ReasonInterrupted, exit: 130},
		"job control":         {code: "set -m; echo go; sleep 62", reason: sessions.ReasonInterrupted, exit: 130},
		"session of its own":  {code: "echo go; setsid sleep 63", reason: sessions.ReasonInterrupted, exit: 130},
		"stopped":             {code: "bash -c 'echo go; kill -STOP $$; sleep 64'", reason: sessions.ReasonInterrupted, exit: 130},
		"took it and went on": {code: "trap 'x=caught' INT; echo go; sleep 60; trap - INT; (exit 4)", reason: sessions.ReasonExited, exit: 4},
		"child chose its end": {code: `bash -c 'trap "exit 7" INT; echo go; while :; do sleep 0.05; done'`, reason: sessions.ReasonExited, exit: 7},
		"shell chose its end": {code: `trap "exit 8" INT; echo go; while :; do sleep 0.05; done`, reason: sessions.ReasonInterrupted, exit: 8},
		"exec":                {code: "echo go; exec sleep 60", reason: sessions.ReasonInterrupted, exit: 130},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, "kept=yes; sleep 600 & job=$!")
			run := sessionstest.Submit(t, s, sessions.RunRequest{Code: c.code, Stdin: c.stdin})
			sessionstest.AwaitOutput(t, run, "go\n")
			if err := s.Interrupt(run.ID(), false); err != nil {
				t.Fatal(err)
			}
			res := sessionstest.Wait(t, run)
			if res.Reason != c.reason || res.Code() != c.exit || res.Stdout != "go\n" {
				t.Errorf("ended as %s %d with %q, want %s %d", res.Reason, res.Code(), res.Stdout, c.reason, c.exit)
			}
			if name == "exec" || name == "shell chose its end" {
				return // these took the shell along: see the tests of what is kept
			}
			if after := sessionstest.Run(t, s, "set +m; kill -0 $job && echo $kept"); after.Stdout != "yes\n" {
				t.Errorf("afterwards %q %q", after.Stdout, after.Stderr)
			}
		})
	}
}

// A trap is set off once by an interrupt, and what it does to clean up is left alone.
func TestInterruptSetsATrapOffOnce(t *testing.T) {
	t.Parallel()
	// What says go is not the shell, and is no bash: bash may lose what comes while it forks.
	const work = "; sh -c 'echo go; exec sleep 600'; echo after"
	const trap = `trap 'echo trapped; sleep 1; echo cleaned $?' INT`
	const job = "sleep 600 & :"
	for name, c := range map[string]struct{ before, code string }{
		"of the run's code":  {job, trap + work},
		"of before":          {trap + "; " + job, "true" + work},
		"set by a function":  {`clean() { ` + trap + `; }; ` + job, "clean" + work},
		"without a job":      {"true", trap + work},
		"in a subshell":      {"true", trap + "; (sh -c 'echo go; exec sleep 600'; :); echo after"},
		"in a busy subshell": {"true", trap + "; (echo go; while :; do :; done); echo after"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
			sessionstest.Run(t, s, c.before)
			sessionstest.Checkpoint(t, s)
			run := sessionstest.Submit(t, s, sessions.RunRequest{Code: c.code})
			sessionstest.AwaitOutput(t, run, "go\n")
			if err := s.Interrupt(run.ID(), false); err != nil {
				t.Fatal(err)
			}
			if res := sessionstest.Wait(t, run); res.Stdout != "go\ntrapped\ncleaned 0\nafter\n" {
				t.Errorf("%q", res.Stdout)
			}
		})
	}
}

// A trap that the engine cannot know of yet is set off once as well, where the code goes on without
// starting anything: that looks like an interrupt that was lost.
func TestInterruptSetsAHiddenTrapOffOnce(t *testing.T) {
	t.Parallel()
	const work = `echo go; while ((SECONDS < end)); do :; done; echo "$n"`
	for name, c := range map[string]struct{ before, code string }{
		"of a file":       {". ./lib", work},
		"of the file now": {":", ". ./lib; " + work},
		"of a string":     {":", `eval "$(<lib)"; ` + work},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
			sessionstest.Run(t, s, `n=0; echo "trap 'n=\$((n+1))' INT" >lib; end=$((SECONDS+3))`)
			sessionstest.Run(t, s, c.before)
			run := sessionstest.Submit(t, s, sessions.RunRequest{Code: c.code})
			sessionstest.AwaitOutput(t, run, "go\n")
			if err := s.Interrupt(run.ID(), false); err != nil {
				t.Fatal(err)
			}
			if res := sessionstest.Wait(t, run); res.Stdout != "go\n1\n" {
				t.Errorf("%q, want the trap once", res.Stdout)
			}
		})
	}
}

// An interrupt ends a pipeline also where a job of an earlier run keeps it from reaching all of it
// at one go; and it reaches nothing twice, nor the command after the one that has coped with it.
func TestInterruptIsOneInterrupt(t *testing.T) {
	t.Parallel()
	const cleanUp = `trap clean INT; clean() { end=$((${EPOCHREALTIME/./} + 350000))
		while ((${EPOCHREALTIME/./} < end)); do :; done; sleep 0.6; echo cleaned $?; exit; }; echo go; while :; do :; done`
	// An interrupt before bash waits for the command is bash's as well.
	const waitedFor = `until read -r _ _ state _ </proc/$PPID/stat && [ "$state" = S ]; do :; done; `
	const loop = "for ((i = 0; i < 20000 && n == 0; i++)); do "
	for name, c := range map[string]struct {
		before, code, out string
		times             int
	}{
		"of a pipeline":        {"sleep 600 & :", "echo go; sleep 600 | cat; echo after", "go\n", 30},
		"of what copes":        {"true", `sh -c 'trap "exit 0" INT; ` + waitedFor + `echo go; while :; do sleep 0.01; done' && /bin/echo after`, "go\nafter\n", 5},
		"of a bash that copes": {"true", `bash -c 'trap "exit 6" INT; ` + waitedFor + `echo go; while :; do :; done'; /bin/echo after $?`, "go\nafter 6\n", 5},
		"of a clean-up":        {"echo '" + cleanUp + "' >clean", "bash clean", "go\ncleaned 0\n", 1},
		"under job control":    {"trap '((n++))' INT", "n=0; echo go; set -m; " + loop + "/bin/true; done; sleep 0.3; set +m; echo $n", "go\n1\n", 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
			sessionstest.Run(t, s, c.before)
			sessionstest.Checkpoint(t, s)
			for range c.times {
				run := sessionstest.Submit(t, s, sessions.RunRequest{Code: c.code})
				sessionstest.AwaitOutput(t, run, "go\n")
				time.Sleep(10 * time.Millisecond) // any moment after it copes will do
				if err := s.Interrupt(run.ID(), false); err != nil {
					t.Fatal(err)
				}
				res := sessionstest.Wait(t, run)
				out := strings.ReplaceAll(res.Stdout, "\n\n", "\n") // bash's own, where a job died of it
				if out != c.out {
					t.Errorf("%q, want %q", res.Stdout, c.out)
				}
			}
		})
	}
}

// Bash throws an interrupt away that comes when a child has just ended by itself. In a loop of
// short children that is often so, and one interrupt ends it all the same: also where some function
// would set a trap that could be set off twice by that, but is not called.
func TestInterruptEndsALoopOfChildren(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, loop := range []string{"(:)", "/bin/true", "if /bin/false; then :; fi", "echo x | cat >/dev/null"} {
		t.Run(loop, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			for n := range 10 {
				if n == 5 {
					sessionstest.Run(t, s, "unused() { trap : INT; }")
					sessionstest.Checkpoint(t, s)
				}
				run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo go; while :; do " + loop + "; done"})
				sessionstest.AwaitOutput(t, run, "go\n")
				if err := s.Interrupt(run.ID(), false); err != nil {
					t.Fatal(err)
				}
				if r := sessionstest.Wait(t, run); r.Reason != sessions.ReasonInterrupted || r.Code() != 130 {
					t.Errorf("ended as %s %d", r.Reason, r.Code())
				}
			}
		})
	}
}

// Interrupts that come while a shell tells its state at its exit must not cost it that, nor
// put a piece of it among the output.
func TestInterruptLetsAShellExit(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "for i in {1..3000}; do declare v$i=$i; done")
	var res sessionstest.Result
	for res.Reason != sessions.ReasonExited { // else the interrupt came before the exit
		run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo bye; left=yes; exit 3"})
		sessionstest.AwaitOutput(t, run, "bye\n")
		time.Sleep(10 * time.Millisecond)
		for s.Interrupt(run.ID(), false) == nil {
			time.Sleep(time.Millisecond)
		}
		res = sessionstest.Wait(t, run)
	}
	if res.Code() != 3 || res.Stdout != "bye\n" {
		t.Errorf("ended with %d and %q, want 3 and %q", res.Code(), res.Stdout, "bye\n")
	}
	if after := sessionstest.Run(t, s, "echo $left $v3000"); after.Stdout != "yes 3000\n" {
		t.Errorf("afterwards %q %q", after.Stdout, after.Stderr)
	}
}

func TestInterruptEndsAShellThatSpins(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "kept=yes")
	sessionstest.Checkpoint(t, s)
	run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "exec env --block-signal=INT bash -c 'echo go; while :; do :; done'"})
	sessionstest.AwaitOutput(t, run, "go\n")
	if err := s.Interrupt(run.ID(), false); err != nil {
		t.Fatal(err)
	}
	if res := sessionstest.Wait(t, run); res.Reason != sessions.ReasonInterrupted || res.Code() != 130 {
		t.Errorf("ended as %s %d", res.Reason, res.Code())
	}
	if after := sessionstest.Run(t, s, "echo $kept"); after.Stdout != "yes\n" {
		t.Errorf("afterwards %q %q", after.Stdout, after.Stderr)
	}
}

// A command that takes an interrupt and goes on to its own end has exited, whatever the shell was
// asked meanwhile, and wherever that is answered.
func TestInterruptThatIsCopedWith(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	copes := filepath.Join(t.TempDir(), "copes")
	// A file of its own, so that the session has seen no trap.
	if err := os.WriteFile(copes, []byte("#!/bin/bash\ntrap 'sleep 0.1; exit 3' INT\necho go\nwhile :; do sleep 0.02; done\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		sessionstest.Run(t, s, "true")
		run := sessionstest.Submit(t, s, sessions.RunRequest{Code: copes})
		sessionstest.AwaitOutput(t, run, "go\n")
		if err := s.Interrupt(run.ID(), false); err != nil {
			t.Fatal(err)
		}
		if got := sessionstest.Wait(t, run); got.Reason != sessions.ReasonExited || got.Code() != 3 {
			t.Errorf("%d: %s %d", i, got.Reason, got.Code())
		}
	}
}

// Where bash breaks a builtin off it leaves the $? that there was if that is 128 or more, which an
// earlier run may have ended with.
func TestInterruptIsNotTheStatusBefore(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, before := range []string{"(exit 137)", "kill -9 $$", "exit 178"} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, before)
			run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "read x </dev/zero"})
			sessionstest.Await(t, "the run is on", func() bool { return run.Info().State == sessions.RunRunning })
			if err := s.Interrupt(run.ID(), false); err != nil {
				t.Fatal(err)
			}
			if got := sessionstest.Wait(t, run); got.Reason != sessions.ReasonInterrupted || got.Code() != 130 {
				t.Errorf("%s %d", got.Reason, got.Code())
			}
			if got := sessionstest.Run(t, s, "echo $?").Stdout; got != "130\n" {
				t.Errorf("$? is %q afterwards", got)
			}
		})
	}
}

// A run and its interrupt may be sent in one breath.
func TestInterruptOfARunThatIsAboutToStart(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	for i := range 40 {
		run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "sleep 300"})
		id := run.ID()
		if i%2 == 1 {
			id = ""
		}
		if err := s.Interrupt(id, false); err != nil {
			t.Errorf("%d: %v", i, err)
			s.Cancel(run.ID())
		}
		if got := sessionstest.Wait(t, run); got.Reason != sessions.ReasonInterrupted || got.Code() != 130 {
			t.Errorf("%d: %s %d", i, got.Reason, got.Code())
		}
	}
}

func TestInterruptIsOfTheRunItNames(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	if err := s.Interrupt("", false); !errors.Is(err, sessions.ErrRunNotRunning) {
		t.Errorf("idle: %v", err)
	}
	first := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo first"})
	sessionstest.Wait(t, first)
	second := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo go; read line; echo $line", Stdin: sessions.OpenStdin})
	third := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo third"})
	sessionstest.AwaitOutput(t, second, "go\n")
	for _, r := range []*sessions.Run{first, third} {
		if err := s.Interrupt(r.ID(), false); !errors.Is(err, sessions.ErrRunNotRunning) {
			t.Errorf("run %d: %v", r.Number(), err)
		}
	}
	if err := second.WriteStdin(t.Context(), []byte("unharmed\n")); err != nil {
		t.Fatal(err)
	}
	if res := sessionstest.Wait(t, second); res.Stdout != "go\nunharmed\n" {
		t.Errorf("second: %q", res.Stdout)
	}
	if res := sessionstest.Wait(t, third); res.Stdout != "third\n" || res.Code() != 0 {
		t.Errorf("third: %+v", res)
	}
}

// TestInterruptsAtAnyMoment sends interrupts as fast as runs come, so that they land
// between the driver's lines too.
func TestInterruptsAtAnyMoment(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "n=0")
	count := 200
	if testing.Short() {
		count = 50
	}
	for i := range count {
		run := sessionstest.Submit(t, s, sessions.RunRequest{Code: "n=$((n+1)); for ((i=0; i<300; i++)); do :; done"})
		<-run.Started()
		time.Sleep(time.Duration(i%20) * 50 * time.Microsecond) // the moment is what is varied
		_ = s.Interrupt(run.ID(), false)
		res := sessionstest.Wait(t, run)
		ok := res.Reason == sessions.ReasonExited && res.Code() == 0 || res.Reason == sessions.ReasonInterrupted && res.Code() == 130
		if !ok {
			t.Fatalf("run %d ended as %s %d", i, res.Reason, res.Code())
		}
		if next := sessionstest.Run(t, s, "echo $?"); next.Stdout != fmt.Sprintln(res.Code()) || next.Reason != sessions.ReasonExited {
			t.Fatalf("after run %d: %q %q %s, want $? %d", i, next.Stdout, next.Stderr, next.Reason, res.Code())
		}
	}
}

func TestForceClimbsTheLadder(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for name, c := range map[string]struct {
		code   string
		atMost time.Duration
		keeps  bool
	}{
		"ignores INT":           {`bash -c 'trap "" INT; echo go; while :; do sleep 0.05; done'`, 2 * time.Second, true},
		"ignores INT and TERM":  {`bash -c 'trap "" INT TERM; echo go; while :; do sleep 0.05; done'`, 3 * time.Second, true},
		"the shell ignores INT": {`trap "" INT; echo go; while :; do sleep 0.05; done`, 5 * time.Second, false},
		"stopped":               {`bash -c 'echo go; kill -STOP $$'`, 3 * time.Second, true},
		"the shell stopped":     {`echo go; kill -STOP $$; echo never`, 5 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, "sleep 600 & kept=$!")
			run := sessionstest.Submit(t, s, sessions.RunRequest{Code: c.code})
			sessionstest.AwaitOutput(t, run, "go\n")
			start := time.Now()
			if err := s.Interrupt("", true); err != nil {
				t.Fatal(err)
			}
			res := sessionstest.Wait(t, run)
			if took := time.Since(start); took > c.atMost+3*time.Second {
				t.Errorf("took %v", took)
			}
			if res.Reason == sessions.ReasonShellExited || strings.Contains(res.Stdout, "never") {
				t.Errorf("ended as %s %d, %q", res.Reason, res.Code(), res.Stdout)
			}
			after := sessionstest.Run(t, s, "kill -0 $kept && echo alive")
			if c.keeps && after.Stdout != "alive\n" {
				t.Errorf("afterwards %q %q", after.Stdout, after.Stderr)
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{RunTimeout: 2 * time.Second})
	for name, c := range map[string]struct {
		code    string
		timeout time.Duration
	}{
		"sleep":              {"sleep 60", 200 * time.Millisecond},
		"leaves a job":       {"setsid sleep 60 & sleep 60", 200 * time.Millisecond},
		"ignores everything": {`bash -c 'trap "" INT TERM HUP; while :; do sleep 0.05; done'; sleep 60`, 200 * time.Millisecond},
		"ceiling":            {"sleep 60", 0},
		"above the ceiling":  {"sleep 60", time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mark := uuid.NewString()
			s := sessionstest.Session(t, m)
			sessionstest.Run(t, s, "x=kept; setsid sleep 601 & job=$!")
			res := sessionstest.RunRequest(t, s, sessions.RunRequest{Code: "export MARK=" + mark + "; echo before; " + c.code + "; echo never", Timeout: c.timeout})
			if res.Reason != sessions.ReasonTimedOut || res.Code() != 124 || res.Stdout != "before\n" {
				t.Errorf("ended as %s %d with %q", res.Reason, res.Code(), res.Stdout)
			}
			if left := sessionstest.Marked(mark); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if after := sessionstest.Run(t, s, "kill -0 $job && echo $x"); after.Stdout != "kept\n" {
				t.Errorf("afterwards %q %q", after.Stdout, after.Stderr)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	running := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo go; sleep 60"})
	queued := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo never"})
	last := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo last"})
	sessionstest.AwaitOutput(t, running, "go\n")
	if err := s.Cancel(queued.ID()); err != nil {
		t.Fatal(err)
	}
	if res := sessionstest.Wait(t, queued); res.Reason != sessions.ReasonCanceled || res.ExitCode != nil || !res.StartedAt.IsZero() || res.Duration != 0 {
		t.Errorf("queued: %+v", res)
	}
	if err := s.Cancel(running.ID()); err != nil {
		t.Fatal(err)
	}
	if res := sessionstest.Wait(t, running); res.Reason != sessions.ReasonCanceled || res.ExitCode != nil || res.Stdout != "go\n" {
		t.Errorf("running: %+v", res)
	}
	if res := sessionstest.Wait(t, last); res.Stdout != "last\n" {
		t.Errorf("last: %+v", res)
	}
	if err := s.Cancel(last.ID()); !errors.Is(err, sessions.ErrRunNotRunning) {
		t.Errorf("ended: %v", err)
	}
	if err := s.Cancel("unheard-of"); !errors.Is(err, sessions.ErrRunNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestTetheredRunEndsWithItsLastHolder(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	submit := func(t *testing.T, req sessions.RunRequest) (*sessions.Run, func(bool), func(bool)) {
		s := sessionstest.Session(t, m)
		run := sessionstest.Submit(t, s, req)
		one, two := run.Hold(), run.Hold()
		sessionstest.AwaitOutput(t, run, "go\n")
		return run, one, two
	}
	t.Run("let go", func(t *testing.T) {
		t.Parallel()
		run, one, two := submit(t, sessions.RunRequest{Code: "echo go; sleep 60", Tethered: true})
		one(false)
		one(false)
		if run.Info().State != sessions.RunRunning {
			t.Fatal("ended with a holder left")
		}
		two(false)
		if res := sessionstest.Wait(t, run); res.Reason != sessions.ReasonCanceled {
			t.Errorf("ended as %s", res.Reason)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		t.Parallel()
		run, one, two := submit(t, sessions.RunRequest{Code: "echo go; read x; echo $x", Tethered: true, Stdin: sessions.OpenStdin})
		one(true)
		two(false)
		if err := run.WriteStdin(t.Context(), []byte("went on\n")); err != nil {
			t.Fatal(err)
		}
		if res := sessionstest.Wait(t, run); res.Stdout != "go\nwent on\n" {
			t.Errorf("ended as %s with %q", res.Reason, res.Stdout)
		}
	})
	t.Run("grace", func(t *testing.T) {
		t.Parallel()
		run, one, two := submit(t, sessions.RunRequest{Code: "echo go; sleep 60", Tethered: true, Grace: 200 * time.Millisecond})
		one(false)
		two(false)
		again := run.Hold()
		select {
		case <-run.Done():
			t.Fatal("ended although somebody came back")
		case <-time.After(400 * time.Millisecond): // that nothing happens has no gate
		}
		again(false)
		if res := sessionstest.Wait(t, run); res.Reason != sessions.ReasonCanceled {
			t.Errorf("ended as %s", res.Reason)
		}
	})
}

func TestSignalGoesToWhatTheRunStarted(t *testing.T) {
	t.Parallel()
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	sessionstest.Run(t, s, "trap 'echo shell got it' USR1; bash -c 'trap exit\\ 1 USR1; while :; do sleep 0.05; done' & job=$!")
	run := sessionstest.Submit(t, s, sessions.RunRequest{Code: `setsid bash -c 'trap "echo got; exit 3" USR1; echo go; while :; do sleep 0.05; done'`})
	sessionstest.AwaitOutput(t, run, "go\n")
	if err := s.Signal("", "NOPE"); !errors.Is(err, sessions.ErrInvalid) {
		t.Errorf("unknown signal: %v", err)
	}
	if err := s.Signal(run.ID(), "usr1"); err != nil {
		t.Fatal(err)
	}
	if res := sessionstest.Wait(t, run); res.Stdout != "go\ngot\n" || res.Code() != 3 || res.Reason != sessions.ReasonExited {
		t.Errorf("ended as %s %d with %q", res.Reason, res.Code(), res.Stdout)
	}
	if after := sessionstest.Run(t, s, "kill -0 $job && echo alive"); after.Stdout != "alive\n" {
		t.Errorf("the job of an earlier run: %q %q", after.Stdout, after.Stderr)
	}
	if err := s.Signal(run.ID(), "SIGTERM"); !errors.Is(err, sessions.ErrRunNotRunning) {
		t.Errorf("ended: %v", err)
	}
}

const stubborn = `sleep 301 & setsid sleep 302 &
(setsid bash -c 'trap "" INT TERM HUP; echo stubborn; sleep 303 & wait' &)
nohup sleep 304 >/dev/null 2>&1 & disown -a
env -i setsid sleep 306 &
bash -c 'kill -STOP $$' &
(exec 0<&- 1>&- 2>&-; (setsid sleep 307 &) &)
echo go; `

func TestNothingOutlivesASession(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *sessions.Manager, *sessions.Session){
		"deleted": func(t *testing.T, m *sessions.Manager, s *sessions.Session) {
			if err := m.Delete(s.ID()); err != nil {
				t.Error(err)
			}
			if err := m.Delete(s.ID()); !errors.Is(err, sessions.ErrSessionNotFound) {
				t.Errorf("again: %v", err)
			}
		},
		"drained": func(t *testing.T, m *sessions.Manager, s *sessions.Session) {
			if err := m.Drain(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"closed": func(t *testing.T, m *sessions.Manager, s *sessions.Session) {
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := sessionstest.New(t, sessions.Config{})
			mark := uuid.NewString()
			s, err := m.Create(sessions.Options{Cwd: t.TempDir(), Env: map[string]string{"MARK": mark}})
			if err != nil {
				t.Fatal(err)
			}
			sessionstest.Run(t, s, stubborn+"true")
			run := sessionstest.Submit(t, s, sessions.RunRequest{Code: stubborn + "sleep 305"})
			queued := sessionstest.Submit(t, s, sessions.RunRequest{Code: "true"})
			sessionstest.AwaitOutput(t, run, "go\n")
			sessionstest.AwaitOutput(t, run, "stubborn\n")
			end(t, m, s)
			if left := sessionstest.Marked(mark); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			for _, r := range []*sessions.Run{run, queued} {
				if i := sessionstest.Wait(t, r).RunInfo; i.Reason != sessions.ReasonSessionClosed || i.ExitCode != nil {
					t.Errorf("run %d ended as %s", i.Number, i.Reason)
				}
			}
			if _, _, err := s.Submit(sessions.RunRequest{Code: "true"}); !errors.Is(err, sessions.ErrClosed) {
				t.Errorf("submit: %v", err)
			}
		})
	}
}

func TestIdleSessionIsEnded(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{IdleTimeout: 300 * time.Millisecond, StallTimeout: time.Second})
	attached, busy, idle := sessionstest.Session(t, m), sessionstest.Session(t, m), sessionstest.Session(t, m)
	r, _, err := attached.Attach(sessions.AttachOptions{Client: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	run := sessionstest.Submit(t, busy, sessions.RunRequest{Code: "read x", Stdin: sessions.OpenStdin})
	<-run.Started()
	select {
	case <-idle.Done():
	case <-time.After(sessionstest.Patience):
		t.Fatal("an idle session lives on")
	}
	for _, s := range []*sessions.Session{attached, busy} {
		if _, err := m.Get(s.ID()); err != nil {
			t.Errorf("a session in use was ended: %v", err)
		}
	}
}
