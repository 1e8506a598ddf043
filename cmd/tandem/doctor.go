package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tandem/sessions"
	"tandem/ws"
)

// A finding is what one check has found.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"`       // ok, warn or fail
	Found  string `json:"found"`        // what is
	Advice string `json:"do,omitempty"` // what to do about it; not with ok
}

// What a finding comes to. With a warning everything works, but less well.
const (
	statusOK   = "ok"
	statusWarn = "warn"
	statusFail = "fail"
)

// errUnwell is an end after which all has been said.
var errUnwell = exitError{code: exitRuntime}

func doctorCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "check this machine, or a server, and say what to do",
		Long: `Check what a server on this machine needs: bash, directories, address, cgroups, limits; then start
one on a free port of this machine, run and interrupt something in it, and end it.

With --url or TANDEM_URL, check that server instead: that it answers, who it takes the token
for, and a session's life.

The exit code is 0 unless something failed, then 1. A warning is no failure.`,
		Example: "  tandem doctor\n  tandem doctor --url https://build.example.com --token-file token\n  tandem doctor --json | jq -r '.[] | select(.status != \"ok\") | .do'",
		Args:    noArgs,
	}
	server := remoteFlags(cmd, p)
	asJSON := cmd.Flags().Bool("json", false, "print a JSON array")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		given := first(cmd.Flag("url").Value.String(), variable(p, "TANDEM_URL")) != ""
		var found []finding
		if given {
			r, err := server()
			if err != nil {
				return err
			}
			defer r.close()
			found = checkServer(cmd.Context(), r, serverAddress(cmd, p))
		} else {
			found = append(checkMachine(cmd.Context(), p), checkOwnServer(cmd.Context(), p)...)
		}
		if err := printFindings(p, found, *asJSON); err != nil {
			return err
		}
		if slices.ContainsFunc(found, func(f finding) bool { return f.Status == statusFail }) {
			return errUnwell
		}
		return nil
	}
	return cmd
}

func printFindings(p process, found []finding, asJSON bool) error {
	if asJSON {
		return printJSON(p.stdout, found)
	}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for _, f := range found {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", f.Status, f.Check, oneLine(f.Found, 300))
		if f.Advice != "" {
			_, _ = fmt.Fprintf(table, "\t\t-> %s\n", f.Advice)
		}
	}
	return table.Flush()
}

func ok(check, format string, args ...any) finding {
	return finding{Check: check, Status: statusOK, Found: fmt.Sprintf(format, args...)}
}

// poor is a finding with something to do about it.
func poor(check, status, advice, format string, args ...any) finding {
	return finding{Check: check, Status: status, Found: fmt.Sprintf(format, args...), Advice: advice}
}

// checkMachine looks at what a server needs.
func checkMachine(ctx context.Context, p process) []finding {
	return append([]finding{checkBash(ctx), checkDir(), checkAddress(p), checkCgroups()}, checkLimits()...)
}

// checkAddress sees whether "tandem serve" could listen, as its variables say.
func checkAddress(p process) finding {
	const check = "address"
	c, err := newConfig(given{}, p.getenv)
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		return poor(check, statusFail, "set the variables of 'tandem serve' right", "%v", err)
	}
	if _, isSocket := socketPath(c.listen); isSocket {
		return ok(check, "%s", c.listen)
	}
	ln, err := p.listen("tcp", c.listen)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return poor(check, statusWarn, "if it is a tandem server, check it with --url; otherwise serve at another address, with --listen", "something listens at %s already", c.listen)
	case err != nil:
		return poor(check, statusFail, "serve at another address, with --listen", "%v", err)
	}
	_ = ln.Close()
	return ok(check, "%s is free", c.listen)
}

func checkBash(ctx context.Context) finding {
	path, err := findBash(ctx, "bash")
	if err != nil {
		return poor("bash", statusFail, fmt.Sprintf("install bash %d.%d or newer and put it first on the PATH", bashMajor, bashMinor), "%v", err)
	}
	major, minor, err := bashVersion(ctx, path)
	if err != nil {
		return poor("bash", statusFail, "see that it can be started", "%v", err)
	}
	return ok("bash", "%s is bash %d.%d", path, major, minor)
}

func checkDir() finding {
	dir, err := sessions.CheckDir()
	if err != nil {
		return poor("private directory", statusFail, "set TMPDIR to a directory that this user may write to, better one in memory", "%v", err)
	}
	if !strings.HasPrefix(dir, "/dev/shm/") && !inMemory(dir) {
		return poor("private directory", statusWarn, "unset TMPDIR, so that /dev/shm is used, or set it to a tmpfs", "%s is on a disk: each run and each checkpoint of a shell waits for it", dir)
	}
	return ok("private directory", "made and removed %s", dir)
}

func checkCgroups() finding {
	if err := sessions.CheckCgroups(); err != nil {
		return poor("cgroups", statusWarn, "run it as a systemd unit with Delegate=yes ('tandem systemd-unit' prints one), as root, or in a container with a writable cgroup v2",
			"sessions get no cgroup of their own (%v): their processes are found by a label in /proc instead, which one that forks very fast can outrun for a while", err)
	}
	return ok("cgroups", "each session gets one of its own")
}

// checkOwnServer starts a server as "tandem serve" would be, sees how it does, and ends it.
func checkOwnServer(ctx context.Context, p process) []finding {
	const check = "server"
	exe, err := os.Executable()
	if err != nil {
		return []finding{poor(check, statusFail, "see that /proc is mounted", "find this program: %v", err)}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "serve", "--listen", "127.0.0.1:0")
	cmd.Env = withoutOwn(p.environ) // it is to be a plain one, and to need no token
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return []finding{poor(check, statusFail, "see that processes can be started", "%v", err)}
	}
	lines := bufio.NewScanner(stdout)
	address := ""
	for address == "" && lines.Scan() {
		_, address, _ = strings.Cut(lines.Text(), "listening on ")
	}
	if address == "" {
		_ = cmd.Wait()
		return []finding{poor(check, statusFail, "mend what it says", "it did not start: %s", stderr.String())}
	}
	r, err := newRemote(address)
	if err != nil {
		return []finding{poor(check, statusFail, "report this", "%v", err)}
	}
	defer r.close()
	found := checkServer(ctx, r, address)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	for lines.Scan() {
	} // to its end, before Wait closes it
	if err := cmd.Wait(); err != nil {
		return append(found, poor("end", statusFail, "report this, with what it logged", "the server did not end in order: %v: %s", err, lastLine(stderr.String())))
	}
	return append(found, ok("end", "the server ended in order"))
}

// withoutOwn leaves out what configures tandem itself.
func withoutOwn(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return strings.HasPrefix(kv, "TANDEM_") })
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// checkServer looks at a server from outside.
func checkServer(ctx context.Context, r *remote, address string) []finding {
	const check = "server"
	var about struct {
		Sessions []sessionInfo `json:"sessions"`
		Role     string        `json:"role"`
	}
	began := time.Now()
	if err := r.call(ctx, http.MethodGet, "/session", nil, &about); err != nil {
		return []finding{poor(check, statusFail, adviceOn(err), "%v", explain(err, address))}
	}
	found := []finding{ok(check, "%s answered in %s and has %d sessions", withoutToken(address), round(time.Since(began)), len(about.Sessions))}
	if about.Role != "control" {
		return append(found, poor("token", statusWarn, "give a token for control to run something", "it is one for viewing"))
	}
	return append(found, checkLife(ctx, r, address)...)
}

func adviceOn(err error) string {
	refused, isRefusal := errors.AsType[*ws.RefusedError](err)
	switch {
	case !isRefusal:
		return "start it, or see that its address and the network are as they must be"
	case refused.Status == http.StatusUnauthorized:
		return "give the server's token with --token-file or TANDEM_TOKEN"
	case refused.Status == http.StatusForbidden:
		return "call it by a name that it knows (--allow-host), or give it a token"
	}
	return "see that it is a tandem server, and what it logs"
}

// lifeLimit is how long each step of a session's life may take.
const lifeLimit = 20 * time.Second

// checkLife sees a session through its life, over the WebSocket.
func checkLife(ctx context.Context, r *remote, address string) []finding {
	ctx, cancel := context.WithTimeout(ctx, 3*lifeLimit)
	defer cancel()
	fail := func(check string, err error) finding {
		return poor(check, statusFail, "see what the server logs; is there room for processes, descriptors and memory?", "%v", explain(err, address))
	}
	self := make(chan string, 1)
	opts := ws.SessionOptions{DialOptions: r.dialOptions(), Patience: -1, Event: func(m ws.Message) {
		if m.Type == ws.TypeAttached {
			self <- m.Server
		}
	}}
	began := time.Now()
	s, err := ws.Create(ctx, r.base, &ws.CreateOptions{SessionOptions: opts, Name: "doctor", Ephemeral: true})
	if err != nil {
		return []finding{fail("session", err)}
	}
	defer s.Close()
	made := time.Since(began)
	found := []finding{checkVersion(<-self)}
	took, err := timeRuns(ctx, s)
	if err != nil {
		return append(found, fail("run", err))
	}
	if took > slowRun {
		found = append(found, poor("run", statusWarn, "see what else keeps the machine busy, and where TMPDIR is", "%s each, over the WebSocket, where one millisecond is usual", round(took)))
	} else {
		found = append(found, ok("run", "%s each, over the WebSocket", round(took)))
	}
	if took, err = timeInterrupt(ctx, s); err != nil {
		return append(found, fail("interrupt", err))
	}
	found = append(found, ok("interrupt", "took %s, and the session kept its state", round(took)))
	began = time.Now()
	_ = s.Close()
	return append(found, ok("session", "made in %s, let go of in %s", round(made), round(time.Since(began))))
}

// checkVersion compares what a server says it is with this program.
func checkVersion(server string) finding {
	if own := "tandem/" + version(); server != own {
		return poor("version", statusWarn, "use the same version on both sides", "the server is %s, this program %s", server, own)
	}
	return ok("version", "%s, as this program", server)
}

// slowRun is what a run of nothing takes where something is wrong.
const slowRun = 50 * time.Millisecond

// timeRuns returns what a run takes, at the best of some.
func timeRuns(ctx context.Context, s *ws.Session) (best time.Duration, err error) {
	for i := range 10 {
		began := time.Now()
		res, err := runCode(ctx, s, fmt.Sprintf("doctor=%d; echo $doctor", i))
		if err != nil {
			return 0, err
		}
		if want := fmt.Sprintln(i); string(res.Stdout) != want {
			return 0, fmt.Errorf("a run answered %q, not %q", res.Stdout, want)
		}
		if took := time.Since(began); best == 0 || took < best {
			best = took
		}
	}
	return best, nil
}

func runCode(ctx context.Context, s *ws.Session, code string) (ws.Result, error) {
	c, err := s.Run(ctx, ws.Run{Code: code, Timeout: lifeLimit})
	if err != nil {
		return ws.Result{}, err
	}
	return c.Wait(ctx)
}

func timeInterrupt(ctx context.Context, s *ws.Session) (time.Duration, error) {
	c, err := s.Run(ctx, ws.Run{Code: "echo on; sleep 600", Timeout: lifeLimit})
	if err != nil {
		return 0, err
	}
	if _, err := c.Next(ctx); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := c.Interrupt(ctx, false); err != nil {
		return 0, err
	}
	res, err := c.Wait(ctx)
	took := time.Since(began)
	if err == nil && res.Reason != "interrupted" {
		err = fmt.Errorf("what was interrupted ended as %s", res.Reason)
	}
	if err != nil {
		return 0, err
	}
	if res, err = runCode(ctx, s, "echo $doctor"); err == nil && string(res.Stdout) != "9\n" {
		err = fmt.Errorf("after an interrupt, a variable was %q", res.Stdout)
	}
	return took, err
}

// round leaves a duration the digits that mean something.
func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
