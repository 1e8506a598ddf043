package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"tandem/sessions"
	"tandem/ws"
)

// clientCommands are the commands that use a server.
func clientCommands(p process) []*cobra.Command {
	commands := []*cobra.Command{
		newCommand(p), listCommand(p), runCommand(p), attachCommand(p), interruptCommand(p), signalCommand(p),
		waitCommand(p), logsCommand(p), eventsCommand(p), removeCommand(p), mcpCommand(p),
	}
	for _, c := range commands {
		explained(c, p)
	}
	return commands
}

const (
	sessionHelp = "\n\nSESSION is a session's id, a beginning of it that no other has, or its name."
	runHelp     = "\nRUN is a run's id, a beginning of it, or its number in the session."
)

func newCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new",
		Short: "make a session and print its id",
		Example: `  tandem new --name build --cwd ~/project --env CI=1
  tandem run -s build -- make test`,
		Args: noArgs,
	}
	server := remoteFlags(cmd, p)
	name := cmd.Flags().String("name", "", "what to call it")
	cwd := cmd.Flags().String("cwd", "", "its directory, made where it is missing; ~ and $VAR are expanded by the server")
	env := cmd.Flags().StringArray("env", nil, "NAME=VALUE for its environment; may be repeated")
	asJSON := cmd.Flags().Bool("json", false, "print the server's answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		vars, err := parseEnv(*env)
		if err != nil {
			return err
		}
		r, err := server()
		if err != nil {
			return err
		}
		defer r.close()
		var out struct {
			SessionID string `json:"session_id"`
		}
		if !utf8.ValidString(*name + *cwd) {
			return usagef("--name and --cwd must be UTF-8")
		}
		in := map[string]any{"name": *name, "cwd": *cwd, "env": vars}
		if err := r.call(cmd.Context(), http.MethodPost, "/session", in, &out); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(p.stdout, out)
		}
		_, err = fmt.Fprintln(p.stdout, out.SessionID)
		return err
	}
	return cmd
}

func parseEnv(list []string) (map[string]string, error) {
	vars := map[string]string{}
	for _, kv := range list {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" || !utf8.ValidString(kv) {
			return nil, usagef("--env %q: give NAME=VALUE, in UTF-8", kv)
		}
		vars[name] = value
	}
	return vars, nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func listCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ls [SESSION]",
		Short:   "list sessions, or the runs of one",
		Long:    "List the sessions, or the runs of a session, newest first." + sessionHelp,
		Example: "  tandem ls\n  tandem ls build --json | jq '.[0].exit_code'\n  tandem rm $(tandem ls -q)",
		Args:    someArgs(0, 1, "SESSION"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(false, nil)
	asJSON := cmd.Flags().Bool("json", false, "print a JSON array")
	quiet := cmd.Flags().BoolP("quiet", "q", false, "print ids alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := server()
		if err != nil {
			return err
		}
		defer r.close()
		if len(args) == 1 {
			s, err := r.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			runs, err := r.runs(cmd.Context(), s.ID)
			if err != nil {
				return err
			}
			return printList(p.stdout, runs, *asJSON, *quiet, func(run runInfo) string { return run.RunID }, runColumns, runRow)
		}
		all, err := r.list(cmd.Context())
		if err != nil {
			return err
		}
		return printList(p.stdout, all, *asJSON, *quiet, func(s sessionInfo) string { return s.ID }, sessionColumns, sessionRow)
	}
	return cmd
}

// printList prints rows as JSON, as a table, or only their ids.
func printList[T any](w io.Writer, rows []T, asJSON, quiet bool, id func(T) string, columns string, row func(T) []string) error {
	if asJSON {
		if rows == nil {
			rows = []T{}
		}
		return printJSON(w, rows)
	}
	var lines [][]string
	if !quiet {
		lines = append(lines, strings.Split(columns, " "))
	}
	for _, r := range rows {
		cells := []string{id(r)}
		if !quiet {
			cells = row(r)
		}
		lines = append(lines, cells)
	}
	_, err := io.WriteString(w, table(lines))
	return err
}

const sessionColumns = "ID NAME STATE CLIENTS QUEUED ACTIVE CWD RUN"

func sessionRow(s sessionInfo) []string {
	run := "-"
	if s.Run != nil {
		run = oneLine(s.Run.Code, 40)
	}
	return []string{s.ID, first(oneLine(s.Name, 24), "-"), s.State, strconv.Itoa(s.Clients), strconv.Itoa(s.Queued), ago(s.ActiveAt), oneLine(s.Cwd, 40), run}
}

const runColumns = "RUN ID STATE END EXIT TOOK BY STARTED CODE"

func runRow(r runInfo) []string {
	number, end, exit, took, started := "-", "-", "-", "-", "-"
	if r.Number > 0 {
		number = strconv.FormatUint(r.Number, 10)
	}
	if r.Last != nil {
		end, took = r.Reason, (time.Duration(r.DurationMS) * time.Millisecond).String()
	}
	if r.ExitCode != nil {
		exit = strconv.Itoa(*r.ExitCode)
	}
	if r.StartedAt != nil {
		started = ago(*r.StartedAt)
	}
	return []string{number, r.RunID, r.State, end, exit, took, r.By, started, oneLine(r.Code, 40)}
}

// oneLine is text for a table: its first line, at most so many characters, and nothing that
// a terminal would act on.
func oneLine(text string, most int) string {
	text = strings.TrimSpace(text)
	line, rest, cut := strings.Cut(text, "\n")
	runes := []rune(printable(line))
	if len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	if cut && strings.TrimSpace(rest) != "" {
		return string(runes) + " …"
	}
	return string(runes)
}

// ago is how long a time in ms since 1970 is past.
func ago(ms int64) string {
	d := time.Since(time.UnixMilli(ms))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

func removeCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rm SESSION...",
		Short:   "end sessions and every process in them",
		Long:    "End sessions. It returns when every process of them is gone. What cannot be ended is\ntold, and the others are." + sessionHelp,
		Example: "  tandem rm build\n  tandem rm $(tandem ls -q)",
		Args:    cobra.ArbitraryArgs,
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(true, nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := server()
		if err != nil || len(args) == 0 {
			return err // no arguments: of "rm $(tandem ls -q)" where there is none
		}
		defer r.close()
		var failed []string
		code := exitOK
		for _, called := range args {
			s, err := r.find(cmd.Context(), called)
			if err == nil {
				err = r.call(cmd.Context(), http.MethodDelete, sessionPath(s.ID), nil, nil)
			}
			if err != nil {
				err = explain(err, serverAddress(cmd, p))
				failed, code = append(failed, err.Error()), max(code, exitCodeOf(err))
			}
		}
		if len(failed) > 0 {
			return exitError{code, errors.New(strings.Join(failed, "; "))}
		}
		return nil
	}
	return cmd
}

func interruptCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "interrupt SESSION",
		Short:   "interrupt what runs in a session, as Ctrl-C would",
		Long:    "Interrupt what runs in a session. The session keeps its state." + sessionHelp,
		Example: "  tandem interrupt build\n  tandem interrupt build --force",
		Args:    someArgs(1, 1, "SESSION"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(false, nil)
	run := cmd.Flags().String("run", "", "only this run; refused when another is on")
	server.completeRun(cmd)
	force := cmd.Flags().Bool("force", false, "SIGTERM after a second, SIGKILL after another, and the shell last")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return post(cmd, server, args[0], "interrupt", map[string]any{"run_id": *run, "force": *force})
	}
	return cmd
}

func signalCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "signal SESSION SIGNAL",
		Short:   "send a signal to what runs in a session",
		Long:    "Send a signal to what a session's run has started, never to the shell itself." + sessionHelp,
		Example: "  tandem signal build SIGUSR1",
		Args:    someArgs(2, 2, "SESSION and SIGNAL"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(false, signalNames)
	run := cmd.Flags().String("run", "", "only this run; refused when another is on")
	server.completeRun(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := sessions.CheckSignal(args[1]); err != nil {
			return usageError{err}
		}
		return post(cmd, server, args[0], "signal", map[string]any{"run_id": *run, "signal": args[1]})
	}
	return cmd
}

// post asks a session for something. Its run_id is as a person has it; empty, it is the run that
// is on.
func post(cmd *cobra.Command, server finder, called, what string, in map[string]any) error {
	r, s, err := server.find(cmd.Context(), called)
	if err != nil {
		return err
	}
	defer r.close()
	if in["run_id"] == "" {
		delete(in, "run_id")
	} else {
		run, err := r.findRun(cmd.Context(), s.ID, in["run_id"].(string))
		if err != nil {
			return err
		}
		in["run_id"] = run.RunID
	}
	return r.call(cmd.Context(), http.MethodPost, sessionPath(s.ID, what), in, nil)
}

// waitStep is the longest that one request waits for the end of a run.
const waitStep = time.Minute

func waitCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wait SESSION [RUN]",
		Short: "wait for a run to end, and exit as it did",
		Long: `Wait for a run to end, without RUN the newest, and exit with its exit code; 125 where it
has none, because it was canceled or refused.` + sessionHelp + runHelp,
		Example: "  id=$(tandem run -s build --detach -- make)\n  tandem wait build $id && tandem logs build $id",
		Args:    someArgs(1, 2, "SESSION and perhaps RUN"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(false, server.runs)
	patienceFlag(cmd)
	timeout := cmd.Flags().Duration("timeout", 0, "wait no longer, and exit with 124; the run goes on")
	asJSON := cmd.Flags().Bool("json", false, "print the run")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, s, err := server.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer r.close()
		id, err := r.named(cmd.Context(), s.ID, args[1:])
		if err != nil {
			return err
		}
		run, err := r.await(cmd.Context(), s.ID, id, *timeout)
		if err != nil {
			return err
		}
		if *asJSON {
			if err := printJSON(p.stdout, run); err != nil {
				return err
			}
		}
		return endOf(run.Reason, run.ExitCode, run.Detail)
	}
	return cmd
}

// named is the id of the run that args name, the newest without any.
func (r *remote) named(ctx context.Context, session string, args []string) (string, error) {
	if len(args) == 1 {
		run, err := r.findRun(ctx, session, args[0])
		return run.RunID, err
	}
	runs, err := r.runs(ctx, session)
	if err == nil && len(runs) == 0 {
		err = exitError{exitRefused, errors.New("nothing has run in this session")}
	}
	if err != nil {
		return "", err
	}
	return runs[0].RunID, nil
}

// retryAfter is how long it takes before a server is asked again that could not be reached.
const retryAfter = 250 * time.Millisecond

// await waits for the end of a run, for timeout at most, 0 meaning for ever, and for as long as
// the patience lasts for a server that cannot be reached.
func (r *remote) await(ctx context.Context, session, id string, timeout time.Duration) (run runInfo, err error) {
	deadline := time.Now().Add(timeout)
	heard := time.Now()
	for {
		step := waitStep
		if timeout > 0 {
			step = min(step, max(0, time.Until(deadline)))
		}
		q := url.Values{"wait": {strconv.FormatInt(step.Milliseconds(), 10)}}
		err = r.call(ctx, http.MethodGet, sessionPath(session, "run", id)+"?"+q.Encode(), nil, &run)
		switch {
		case errors.Is(err, ws.ErrLost) && time.Since(heard) < r.patience:
			time.Sleep(min(retryAfter, r.patience))
		case err != nil || run.Last != nil:
			return run, err
		case timeout > 0 && time.Now().After(deadline):
			return run, exitError{exitTimeout, fmt.Errorf("run %s has not ended within %s: it goes on", id, timeout)}
		default:
			heard = time.Now()
		}
	}
}

// endOf turns how a run ended into how the program does: nil for exit code 0.
func endOf(reason string, exitCode *int, detail string) error {
	switch {
	case exitCode == nil && detail != "":
		return exitError{exitRefused, fmt.Errorf("the run was %s: %s", reason, detail)}
	case exitCode == nil:
		return exitError{exitRefused, fmt.Errorf("the run has no exit code: %s", strings.ReplaceAll(reason, "_", " "))}
	case *exitCode == 0:
		return nil
	case reason == "timed_out":
		return exitError{exitTimeout, errors.New("the run was ended by its timeout")}
	}
	return exitError{code: *exitCode}
}

// open attaches to a session of a remote; id "" makes one that ends with this program.
func (r *remote) openSession(cmd *cobra.Command, id string, opts ws.SessionOptions) (*ws.Session, error) {
	opts.DialOptions, opts.Patience = r.dialOptions(), r.patience
	if id == "" {
		return ws.Create(cmd.Context(), r.base, &ws.CreateOptions{SessionOptions: opts, Ephemeral: true})
	}
	return ws.Open(cmd.Context(), r.base, id, &opts)
}
