package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tandem/sessions"
	"tandem/ws"
)

const (
	// attachTail is how much of what was is shown at the beginning, in positions.
	attachTail = 16 << 10

	// forceWithin is how soon a second Ctrl-C is one by force.
	forceWithin = 3 * time.Second

	// completeLimit is how long Tab waits for the server.
	completeLimit = 3 * time.Second
)

func attachCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach SESSION",
		Short: "work in a session from this terminal, and see what others do there",
		Long: `Work in a session. A line that is entered is run; while something runs, it is its input.
What others run in the session shows as it happens, standard error in red.

  Up, Down    the lines entered before, and what was run in the session
  Tab         what bash would complete
  Ctrl-C      interrupts what runs; once more, within three seconds, by force
  Ctrl-D      on an empty line: ends the input of what runs, or detaches
  Ctrl-]      detaches; what runs goes on

Without a terminal it takes lines from standard input and detaches after the last.` + sessionHelp,
		Example: "  tandem attach build\n  tandem attach build --view",
		Args:    someArgs(1, 1, "SESSION"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(false, nil)
	patienceFlag(cmd)
	view := cmd.Flags().Bool("view", false, "look only; Ctrl-C and Ctrl-] detach")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := server()
		if err != nil {
			return err
		}
		defer r.close()
		info, err := r.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		a := &attached{view: *view, out: &screen{w: p.stdout}, mine: map[string]bool{}}
		defer a.editing(p.stdin, p.stdout)()
		opts := ws.SessionOptions{Tail: attachTail, View: *view, Event: a.show, Lost: a.lost}
		if a.s, err = r.openSession(cmd, info.ID, opts); err != nil {
			return err
		}
		defer a.s.Close()
		if !*view {
			a.remember(r, cmd, info.ID)
		}
		a.say("attached to %s: Ctrl-] detaches", first(info.Name, info.ID))
		return a.work(cmd.Context(), p)
	}
	return cmd
}

// An attached is a person at a session. Its show is called by the session's goroutine, the
// rest by that of the command.
type attached struct {
	s     *ws.Session
	view  bool
	out   *screen
	lines *bufio.Reader // where there is no terminal
	keys  *keyFilter    // where there is one

	// Of work's goroutine.
	pasting  bool      // the lines that come are one paste, to be run one after the other
	pressed  time.Time // when Ctrl-C was last
	pressing string    // for which run

	mu      sync.Mutex
	mine    map[string]bool // ids of runs that were entered here
	running string          // the run that is on
}

// editing makes a line editor of the terminal, where there is one, and returns what makes it
// as it was.
func (a *attached) editing(stdin io.Reader, stdout io.Writer) (restore func()) {
	in, out := fileOf(stdin), fileOf(stdout)
	if in == nil || out == nil || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(out.Fd())) {
		a.lines = bufio.NewReader(stdin)
		return func() {}
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		a.lines = bufio.NewReader(stdin)
		return func() {}
	}
	a.keys = &keyFilter{r: in, on: make(chan byte, 8), all: a.view}
	a.out.edit(a.keys, out, a.complete)
	stop := onResize(func() { a.out.resize(out) })
	return func() {
		stop()
		a.out.done()
		_ = term.Restore(int(in.Fd()), old)
	}
}

// remember puts what was run in the session before into the history.
func (a *attached) remember(r *remote, cmd *cobra.Command, session string) {
	if a.keys == nil {
		return
	}
	runs, err := r.runs(cmd.Context(), session)
	if err != nil {
		return // a history is no reason not to work
	}
	for _, run := range slices.Backward(runs) {
		if code := strings.TrimSpace(run.Code); !strings.ContainsRune(code, '\n') && !run.Truncated {
			a.out.editor().History.Add(code)
		}
	}
}

// errDetach is that the person wants to go.
var errDetach = errors.New("detached")

// work reads lines and keys until the person or the session goes.
func (a *attached) work(ctx context.Context, p process) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals, stop := p.signals()
	defer stop()
	lines := make(chan entered)
	ended := make(chan error, 1)
	// Nobody waits for this one: a read of a terminal cannot be called off.
	go a.readLines(ctx, lines, ended)
	for {
		var err error
		select {
		case line := <-lines:
			err = a.enter(ctx, line)
		case err = <-ended:
			err = a.endOfInput(ctx, err)
			if err == nil {
				a.out.again()
				go a.readLines(ctx, lines, ended)
			}
		case key := <-a.keyPresses():
			err = a.press(ctx, key)
		case sig := <-signals:
			err = a.signal(ctx, sig)
		case <-a.s.Done():
			err = a.s.Err()
			if errors.Is(err, ws.ErrSessionClosed) {
				a.say("the session has ended")
				return nil
			}
		}
		if errors.Is(err, errDetach) {
			a.say("detached; the session goes on")
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (a *attached) keyPresses() <-chan byte {
	if a.keys == nil {
		return nil
	}
	return a.keys.on
}

// An entered is a line, and whether it was pasted.
type entered struct {
	text   string
	pasted bool
}

// readLines hands lines on until the input ends.
func (a *attached) readLines(ctx context.Context, lines chan<- entered, ended chan<- error) {
	for {
		line, err := a.readLine()
		if err != nil && (line.text == "" || !errors.Is(err, io.EOF)) {
			ended <- err
			return
		}
		select {
		case lines <- line:
		case <-ctx.Done():
			return
		}
	}
}

func (a *attached) readLine() (entered, error) {
	if a.keys != nil {
		text, err := a.out.editor().ReadLine()
		if errors.Is(err, term.ErrPasteIndicator) {
			return entered{text, true}, nil
		}
		return entered{text, false}, err
	}
	text, err := a.lines.ReadString('\n')
	return entered{strings.TrimSuffix(text, "\n"), false}, err
}

// enter runs a line, or gives it to what runs. Of several lines that were pasted while nothing
// ran each is run: the first may still be at work when the second comes.
func (a *attached) enter(ctx context.Context, line entered) error {
	running := a.on()
	a.pasting = line.pasted && (a.pasting || running == "")
	switch {
	case a.view:
		return nil
	case running != "" && !a.pasting:
		return a.tell(a.s.Input(ctx, running, line.text+"\n"))
	case strings.TrimSpace(line.text) == "":
		return nil
	}
	return a.start(ctx, line.text)
}

// start runs a line, and returns once it is known to have begun: so the next line is input.
func (a *attached) start(ctx context.Context, line string) error {
	id := uuid.NewString()
	a.mu.Lock()
	a.mine[id] = true
	a.mu.Unlock()
	c, err := a.s.Run(ctx, ws.Run{ID: id, Code: line, Stdin: sessions.OpenStdin})
	if err != nil {
		return err
	}
	c.Close() // what it puts out is shown with everything else
	if a.keys != nil && a.pasting {
		return nil
	}
	if a.keys != nil {
		return a.tell(c.Started(ctx))
	}
	_, err = c.Wait(ctx) // of a file of lines each is run, none is the input of another
	return a.tell(err)
}

// tell shows what the server refused, which is no reason to go.
func (a *attached) tell(err error) error {
	if refused, ok := errors.AsType[*ws.RefusedError](err); ok && refused.Status == 0 {
		a.say("%s", refused.Message)
		return nil
	}
	return err
}

// endOfInput is Ctrl-D on an empty line, or the end of a file of lines.
func (a *attached) endOfInput(ctx context.Context, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	running := a.on()
	if a.keys == nil || a.view || running == "" {
		return errDetach
	}
	return a.tell(a.s.CloseInput(ctx, running))
}

func (a *attached) press(ctx context.Context, key byte) error {
	if key == keyDetach || a.view {
		return errDetach
	}
	return a.interrupt(ctx)
}

func (a *attached) signal(ctx context.Context, sig os.Signal) error {
	if sig == os.Interrupt && !a.view {
		return a.interrupt(ctx)
	}
	return errDetach
}

// interrupt interrupts what runs, by force when it was asked for a moment ago.
func (a *attached) interrupt(ctx context.Context) error {
	running := a.on()
	if running == "" {
		return nil
	}
	force := a.pressing == running && time.Since(a.pressed) < forceWithin
	a.pressed, a.pressing = time.Now(), running
	return a.tell(a.s.Interrupt(ctx, running, force))
}

// complete is what the line editor asks with every key.
func (a *attached) complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' || a.s == nil {
		return "", 0, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeLimit)
	defer cancel()
	// The editor counts bytes, the server characters.
	c, err := a.s.Complete(ctx, line, len([]rune(line[:min(pos, len(line))])))
	if err != nil {
		return line, pos, true
	}
	if c.Line == line && len(c.Items) > 1 {
		a.out.note(strings.Join(c.Items, "  "))
	}
	runes := []rune(c.Line)
	return c.Line, len(string(runes[:min(c.Point, len(runes))])), true
}

// show shows what happens.
func (a *attached) show(m ws.Message) {
	switch m.Type {
	case ws.TypeStdout, ws.TypeStderr:
		a.out.output(m.Data, m.Type == ws.TypeStderr)
	case ws.TypeAttached, ws.TypeGap:
		a.now(m.Run)
		if m.Type == ws.TypeGap {
			a.say("%d positions are no longer kept", m.To-m.From)
		}
	case ws.TypeRunStarted:
		a.now(&ws.RunState{RunID: m.RunID})
		if !a.isMine(m.RunID) {
			a.say("run %d by %s: %s", m.Number, m.By, oneLine(m.Code, 200))
		}
	case ws.TypeRunFinished:
		a.now(nil)
		if m.ExitCode == nil || *m.ExitCode != 0 {
			a.say("%s", endText(m))
		}
	case ws.TypeShellRestarted:
		a.say("the shell was replaced (%s)", m.Cause)
	}
}

// now notes what runs, nil being nothing, and shows by the prompt what a line would be.
func (a *attached) now(run *ws.RunState) {
	a.mu.Lock()
	a.running = ""
	if run != nil {
		a.running = run.RunID
	}
	a.mu.Unlock()
	if !a.view {
		a.out.prompt(run != nil)
	}
}

// on is the run that is on, or "".
func (a *attached) on() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

func (a *attached) isMine(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mine[id]
}

func (a *attached) lost(err error) { a.say("the connection was lost, trying again: %v", err) }

func (a *attached) say(format string, args ...any) { a.out.note(fmt.Sprintf(format, args...)) }
