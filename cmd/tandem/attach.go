package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

	// mostTyped is how many characters the line editor takes of a line that is typed: it drops
	// the rest, and a part of a line is nothing to run.
	mostTyped = 4096

	// mostAhead is how many lines may be typed while the server has not answered the first.
	mostAhead = 64

	// mostPresses is how many times Ctrl-C may be pressed before the first is heeded.
	mostPresses = 16

	// assistLimit is how long what only helps, Tab and the history, waits for the server.
	assistLimit = 3 * time.Second
)

func attachCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach SESSION",
		Short: "work in a session from this terminal, and see what others do there",
		Long: `Work in a session. A line that is entered is run; while something runs, it is its input.
What others run in the session shows as it happens, standard error in red. Of control
sequences in the output only colours are shown.

  Up, Down    the lines entered before, and what was run in the session
  Tab         what bash would complete
  Ctrl-C      interrupts what runs; once more, within three seconds, by force; or drops the line
  Ctrl-D      on an empty line: ends the input of what runs, or detaches
  Ctrl-]      detaches; what runs goes on

What is pasted is one line, with ␊ for its line ends, and is run by Enter as a whole.
Without a terminal it takes lines from standard input and detaches after the last.` + sessionHelp,
		Example: "  tandem attach build\n  tandem attach build --view",
		Args:    someArgs(1, 1, "SESSION"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(false, nil)
	patienceFlag(cmd)
	view := cmd.Flags().Bool("view", false, "look only; Ctrl-C and Ctrl-] detach")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, info, err := server.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer r.close()
		role, err := r.role(cmd.Context())
		if err != nil {
			return err
		}
		a := newAttached(p, first(info.Name, info.ID), *view || role == roleView)
		defer a.editing(p.stdin, p.stdout)()
		opts := ws.SessionOptions{Tail: attachTail, View: a.view, Event: a.show, Lost: a.lost}
		if a.s, err = r.openSession(cmd, info.ID, opts); err != nil {
			return err
		}
		defer a.s.Close()
		a.remember(cmd.Context(), r, info.ID)
		return a.work(cmd.Context(), p)
	}
	return cmd
}

// An attached is a person at a session. Its show is called by the session's goroutine.
type attached struct {
	s       *ws.Session
	name    string
	view    bool // look only, as wanted or because the token allows no more
	out     *screen
	lines   *bufio.Reader // where there is no terminal
	keys    *keyFilter    // where there is one
	history *past
	presses chan func(context.Context) error // of Ctrl-C: what each is for
	detach  chan struct{}                    // a press of Ctrl-]

	greeted  bool // of the session's goroutine
	overflow bool // of the goroutine that reads lines: the editor has dropped a part of this one

	interrupts atomic.Int64 // how often Ctrl-C was pressed

	mu       sync.Mutex
	mine     map[string]bool // ids of runs that were entered here
	running  string          // the run that is on
	asked    *ws.Command     // one that was asked for here, and is not known to have begun
	pressed  time.Time       // when Ctrl-C was pressed last
	pressing string          // for which run
}

func newAttached(p process, name string, view bool) *attached {
	a := &attached{
		name: name, view: view, mine: map[string]bool{}, presses: make(chan func(context.Context) error, mostPresses), detach: make(chan struct{}, 1),
		out: &screen{stdout: p.stdout, stderr: p.stderr},
	}
	a.history = &past{skip: func() bool { return a.on() != "" }}
	return a
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
	a.keys = &keyFilter{r: in, press: a.press, none: a.view}
	a.out.edit(a.keys, out, !a.view, a.history, a.complete)
	stop := onResize(func() { a.out.resize(out) })
	return func() {
		stop()
		a.out.done()
		_ = term.Restore(int(in.Fd()), old)
	}
}

// remember puts what was run in the session before into the history.
func (a *attached) remember(ctx context.Context, r *remote, session string) {
	if a.keys == nil || a.view {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, assistLimit)
	defer cancel()
	runs, err := r.runs(ctx, session)
	if err != nil {
		return // a history is no reason not to work
	}
	add := past{lines: a.history.lines}
	for _, run := range slices.Backward(runs) {
		if code := toShown.Replace(strings.TrimSpace(run.Code)); !run.Truncated && printable(code) == code {
			add.Add(code)
		}
	}
	a.history.lines = add.lines
}

// errDetach is that the person wants to go.
var errDetach = errors.New("detached")

// work reads lines until the person or the session goes.
func (a *attached) work(ctx context.Context, p process) error {
	ctx, cancel := context.WithCancelCause(ctx)
	signals, stop := p.signals()
	defer stop()
	var beside sync.WaitGroup
	beside.Go(func() { a.heed(ctx, cancel, signals) })
	defer beside.Wait()
	defer cancel(nil)
	err := a.takeLines(ctx)
	switch {
	case errors.Is(err, errDetach):
		a.say("detached; the session goes on")
	case errors.Is(err, ws.ErrSessionClosed):
		a.say("the session has ended")
	default:
		return err
	}
	return a.out.failure()
}

// heed does what keys and signals ask for, whatever else is being waited for, until ctx ends.
func (a *attached) heed(ctx context.Context, cancel context.CancelCauseFunc, signals <-chan os.Signal) {
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		var do func(context.Context) error
		select {
		case <-ctx.Done():
			return
		case <-a.detach:
		case do = <-a.presses:
		case sig := <-signals:
			if sig == os.Interrupt && !a.view {
				do = a.interrupt()
			}
		}
		if do == nil {
			cancel(errDetach)
			return
		}
		asking.Go(func() {
			if err := a.tell(ctx, do(ctx)); err != nil {
				cancel(err)
			}
		})
	}
}

// press is called with a key that is not the editor's. What Ctrl-C is for is what is on now, not what
// is on by the time it is heeded.
func (a *attached) press(key byte) {
	if key == keyInterrupt && !a.view {
		select {
		case a.presses <- a.interrupt():
		default: // there are enough to be heeded
		}
		return
	}
	select {
	case a.detach <- struct{}{}:
	default:
	}
}

// An entered is a line, and how many interrupts came before it: another one makes it void. Or it
// is the end of the input.
type entered struct {
	text       string
	interrupts int64
	end        error
}

func (a *attached) takeLines(ctx context.Context) error {
	lines := make(chan entered, mostAhead)
	// Nobody waits for this one: a read of a terminal cannot be called off.
	go a.readLines(ctx, lines)
	for {
		var err error
		select {
		case line := <-lines:
			if line.end == nil {
				err = a.enter(ctx, line)
			} else if err = a.endOfInput(ctx, line.end); err == nil {
				a.out.again()
				go a.readLines(ctx, lines)
			}
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-a.s.Done():
			err = a.s.Err()
		}
		if err != nil {
			return err
		}
	}
}

// readLines hands lines on until the input ends.
func (a *attached) readLines(ctx context.Context, lines chan<- entered) {
	for {
		text, err := a.readLine()
		line := entered{text: text, interrupts: a.interrupts.Load()}
		if err != nil && (text == "" || !errors.Is(err, io.EOF)) {
			line.end = err
		}
		select {
		case lines <- line:
		case <-ctx.Done():
			return
		}
		if line.end != nil {
			return
		}
	}
}

func (a *attached) readLine() (string, error) {
	if a.keys == nil {
		line, err := a.lines.ReadString('\n')
		return strings.TrimSuffix(line, "\n"), err
	}
	if a.keys.none {
		_, err := a.keys.Read(make([]byte, 1)) // keys are pressed, and nothing is entered
		return "", err
	}
	line, err := a.out.editor().ReadLine()
	if !errors.Is(err, io.EOF) {
		a.out.entered(strings.TrimSpace(line) != "" && !a.overflow)
	}
	if errors.Is(err, term.ErrPasteIndicator) {
		err = nil
	}
	if a.overflow {
		a.overflow = false
		a.say("the line was longer than can be typed and is left out: paste it, or use 'tandem run'")
		return "", err
	}
	return fromShown.Replace(line), err
}

// enter runs a line, or gives it to what runs.
func (a *attached) enter(ctx context.Context, line entered) error {
	running := a.on()
	switch {
	case a.view:
		return nil
	case line.interrupts != a.interrupts.Load():
		a.out.prompt(running != "")
		return nil
	case running != "":
		return a.tell(ctx, a.s.Input(ctx, running, line.text+"\n"))
	case strings.TrimSpace(line.text) == "":
		return nil
	}
	return a.start(ctx, line)
}

// start runs a line, and returns once it is known to have begun: so the next line is input.
func (a *attached) start(ctx context.Context, line entered) error {
	id := uuid.NewString()
	run := ws.Run{ID: id, Code: line.text}
	if a.keys != nil {
		run.Stdin = sessions.OpenStdin
	}
	a.ask(nil, id)
	c, err := a.s.Run(ctx, run)
	if err != nil {
		return err
	}
	a.ask(c, id)
	defer a.ask(nil, id)
	c.Close() // what it puts out is shown with everything else
	if line.interrupts != a.interrupts.Load() {
		ask(ctx, c, true, false) // who interrupted did not see it
	}
	if a.keys == nil {
		_, err = c.Wait(ctx) // of a file of lines each is run, and none is the input of another
		return a.tell(ctx, err)
	}
	if err := c.Started(ctx); err != nil {
		a.out.prompt(a.on() != "")
		return a.tell(ctx, err)
	}
	return nil
}

// ask notes what was asked for, nil being that nothing is any more.
func (a *attached) ask(c *ws.Command, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked, a.mine[id] = c, true
}

// tell shows what did not work, unless that is a reason to go.
func (a *attached) tell(ctx context.Context, err error) error {
	refused, ok := errors.AsType[*ws.RefusedError](err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case ok && refused.Status != 0, errors.Is(err, ws.ErrLost), errors.Is(err, ws.ErrSessionClosed):
		return err
	case ok:
		a.say("%s", refused.Message)
	default:
		a.say("%v", err)
	}
	return nil
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
	return a.tell(ctx, a.s.CloseInput(ctx, running))
}

// interrupt notes that Ctrl-C was pressed. It returns what interrupts what runs now, by force when
// that was asked for a moment ago, or what was asked for and has not begun.
func (a *attached) interrupt() func(context.Context) error {
	a.interrupts.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	running, asked := a.running, a.asked
	switch {
	case running == "" && asked == nil:
		return func(context.Context) error { return nil }
	case running == "":
		return func(ctx context.Context) error { ask(ctx, asked, true, false); return nil }
	}
	force := a.pressing == running && time.Since(a.pressed) < forceWithin
	a.pressed, a.pressing = time.Now(), running
	return func(ctx context.Context) error { return a.s.Interrupt(ctx, running, force) }
}
