package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tandem/ws"
)

// The exit codes of the program. "tandem run" and "tandem wait" also end with that of the
// run; with --json they tell it apart.
const (
	exitOK      = 0
	exitRuntime = 1   // something failed while it was at work
	exitUsage   = 2   // it was asked for something that cannot be done: flags, variables, setup
	exitTimeout = 124 // a run was ended by its timeout: as timeout(1) says it
	exitRefused = 125 // the server refused: a wrong token, an unknown id, no room; or a run has no exit code
	exitLost    = 255 // the server cannot be reached, or no longer: as ssh(1) says it
)

// run is the whole program: it does what args ask for, ends early when ctx does, and
// returns the exit code.
func run(ctx context.Context, args []string, p process) int {
	root := newRoot(p)
	help := &printed{w: p.stdout}
	root.SetOut(help)
	root.SetArgs(append([]string{}, args...)) // nil would be those of the process
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = help.err
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, syscall.EPIPE):
		return 128 + int(syscall.SIGPIPE) // nobody reads what it prints: quietly, as a pipe ends a program
	}
	return fail(p.stderr, cmd, err)
}

// A printed remembers that something could not be written, where who writes does not tell, or does
// not tell apart from what else failed.
type printed struct {
	w   io.Writer
	err error
}

func (p *printed) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if p.err == nil {
		p.err = err
	}
	return n, err
}

// newRoot makes the command line. Nothing of it is kept between calls.
func newRoot(p process) *cobra.Command {
	root := &cobra.Command{
		Use:   "tandem",
		Short: "persistent bash sessions that programs and people drive together",
		Long: `tandem serves persistent bash sessions over REST and WebSocket, and uses them.

The commands that use a server find it at --url or TANDEM_URL, and have the token from
TANDEM_TOKEN or the file that --token-file or TANDEM_TOKEN_FILE names.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			_, _ = io.WriteString(p.stderr, cmd.UsageString())
			return exitError{code: exitUsage}
		},
	}
	root.SetVersionTemplate(versionLine())
	root.SetIn(p.stdin)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v: see '%s --help'", err, cmd.CommandPath())
	})
	root.AddGroup(&cobra.Group{ID: groupServer, Title: "The server:"}, &cobra.Group{ID: groupClient, Title: "Using it:"})
	root.SuggestionsMinimumDistance = 2
	root.SetHelpCommand(helpCommand())
	for _, c := range []*cobra.Command{serveCommand(p), unitCommand(p), doctorCommand(p), completionCommand(p), versionCommand(p), guardCommand(p)} {
		c.GroupID = groupServer
		root.AddCommand(c)
	}
	for _, c := range clientCommands(p) {
		c.GroupID = groupClient
		root.AddCommand(c)
	}
	return root
}

const (
	groupServer = "server"
	groupClient = "client"
)

// helpCommand is "tandem help", which knows what is no command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "help about a command",
		Hidden: true, // "--help" is told
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil || len(rest) > 0 && about == cmd.Root():
				return unknownCommand(cmd.Root(), args[0])
			case len(rest) > 0:
				return usagef("unexpected argument %q: it takes one COMMAND, see 'tandem --help'", rest[0])
			}
			return about.Help()
		},
	}
}

func unknownCommand(root *cobra.Command, name string) error {
	return usagef("unknown command %q%s: see 'tandem --help'", name, suggestion(root, name))
}

func suggestion(cmd *cobra.Command, name string) string {
	if found := cmd.SuggestionsFor(name); len(found) > 0 {
		return fmt.Sprintf(" (did you mean %q?)", found[0])
	}
	return ""
}

// noArgs refuses arguments in the program's own words.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q: flags only, see '%s --help'", args[0], cmd.CommandPath())
	}
	return nil
}

// someArgs takes from least to most arguments, called what.
func someArgs(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("too few arguments: it takes %s, see '%s --help'", what, cmd.CommandPath())
		case len(args) > most:
			return usagef("unexpected argument %q: it takes %s, see '%s --help'", args[most], what, cmd.CommandPath())
		}
		return nil
	}
}

// A usageError is a mistake in how the program was called or set up.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// An exitError is an end with an exit code of its own. Without an error, all there was to
// say has been said.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

// fail prints err as the one line that tells why cmd ended, and returns its exit code.
func fail(w io.Writer, cmd *cobra.Command, err error) int {
	code := exitCodeOf(err)
	if e, ok := errors.AsType[exitError](err); ok && e.err == nil {
		return code
	}
	_, _ = fmt.Fprintf(w, "%s: %s\n", cmd.CommandPath(), strings.ReplaceAll(err.Error(), "\n", " "))
	return code
}

func exitCodeOf(err error) int {
	if e, ok := errors.AsType[exitError](err); ok {
		return e.code
	}
	switch {
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.As(err, new(*ws.RefusedError)):
		return exitRefused
	case errors.Is(err, ws.ErrLost):
		return exitLost
	}
	return exitRuntime
}
