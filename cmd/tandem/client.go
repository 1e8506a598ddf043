package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tandem/ws"
)

// clientCommands are the commands that use a server.
func clientCommands(p process) []*cobra.Command {
	return []*cobra.Command{
		newCommand(p), listCommand(p), runCommand(p), attachCommand(p), interruptCommand(p), signalCommand(p),
		waitCommand(p), logsCommand(p), eventsCommand(p), removeCommand(p), mcpCommand(p),
	}
}

const sessionHelp = "\n\nSESSION is a session's id, a beginning of it that no other has, or its name."

// completeSessions offers the sessions there are, for the first argument.
func completeSessions(server func() (*remote, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && cmd.Name() != "rm" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return sessionNames(cmd, server), cobra.ShellCompDirectiveNoFileComp
	}
}

func sessionNames(cmd *cobra.Command, server func() (*remote, error)) (names []string) {
	r, err := server()
	if err != nil {
		return nil
	}
	defer r.close()
	all, _ := r.list(cmd.Context())
	for _, s := range all {
		names = append(names, s.ID+"\t"+first(s.Name, s.Cwd))
	}
	return names
}

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
		if !ok {
			return nil, usagef("--env %q: give NAME=VALUE", kv)
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
	cmd.ValidArgsFunction = completeSessions(server)
	asJSON := cmd.Flags().Bool("json", false, "print a JSON array")
	quiet := cmd.Flags().BoolP("quiet", "q", false, "print ids alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := server()
		if err != nil {
			return err
		}
		defer r.close()
		if len(args) == 1 {
			runs, err := r.runs(cmd, args[0])
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
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if !quiet {
		_, _ = fmt.Fprintln(table, strings.ReplaceAll(columns, " ", "\t"))
	}
	for _, r := range rows {
		cells := []string{id(r)}
		if !quiet {
			cells = row(r)
		}
		_, _ = fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

const sessionColumns = "ID NAME STATE CLIENTS QUEUED ACTIVE CWD RUN"

func sessionRow(s sessionInfo) []string {
	run := "-"
	if s.Run != nil {
		run = oneLine(s.Run.Code, 40)
	}
	return []string{s.ID, first(oneLine(s.Name, 24), "-"), s.State, strconv.Itoa(s.Clients), strconv.Itoa(s.Queued), ago(s.ActiveAt), oneLine(s.Cwd, 40), run}
}

const runColumns = "RUN NUMBER STATE END EXIT TOOK BY STARTED CODE"

func runRow(r runInfo) []string {
	end, exit, took, started := "-", "-", "-", "-"
	if r.Last != nil {
		end, took = r.Reason, (time.Duration(r.DurationMS) * time.Millisecond).String()
	}
	if r.ExitCode != nil {
		exit = strconv.Itoa(*r.ExitCode)
	}
	if r.StartedAt != nil {
		started = ago(*r.StartedAt)
	}
	return []string{r.RunID, strconv.FormatUint(r.Number, 10), r.State, end, exit, took, r.By, started, oneLine(r.Code, 40)}
}

// oneLine is text for a table: its first line, at most so many characters, and nothing that
// a terminal would act on.
func oneLine(text string, most int) string {
	text = strings.TrimSpace(text)
	line, rest, cut := strings.Cut(text, "\n")
	runes := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, line))
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

func (r *remote) runs(cmd *cobra.Command, called string) ([]runInfo, error) {
	s, err := r.find(cmd.Context(), called)
	if err != nil {
		return nil, err
	}
	var out struct {
		Runs []runInfo `json:"runs"`
	}
	err = r.call(cmd.Context(), http.MethodGet, sessionPath(s.ID, "run"), nil, &out)
	return out.Runs, err
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
	cmd.ValidArgsFunction = completeSessions(server)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := server()
		if err != nil {
			return err
		}
		defer r.close()
		if len(args) == 0 {
			return nil // of "rm $(tandem ls -q)" where there is none
		}
		var failed []error
		for _, called := range args {
			s, err := r.find(cmd.Context(), called)
			if err == nil {
				err = r.call(cmd.Context(), http.MethodDelete, sessionPath(s.ID), nil, nil)
			}
			if err != nil {
				failed = append(failed, err)
			}
		}
		return errors.Join(failed...)
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
	cmd.ValidArgsFunction = completeSessions(server)
	run := cmd.Flags().String("run", "", "only this run; refused when another is on")
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
	cmd.ValidArgsFunction = completeSessions(server)
	run := cmd.Flags().String("run", "", "only this run; refused when another is on")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return post(cmd, server, args[0], "signal", map[string]any{"run_id": *run, "signal": args[1]})
	}
	return cmd
}

// post asks a session for something. An empty run_id is the run that is on.
func post(cmd *cobra.Command, server func() (*remote, error), called, what string, in map[string]any) error {
	if in["run_id"] == "" {
		delete(in, "run_id")
	}
	r, err := server()
	if err != nil {
		return err
	}
	defer r.close()
	s, err := r.find(cmd.Context(), called)
	if err != nil {
		return err
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
has none, because it was canceled or refused.` + sessionHelp,
		Example: "  id=$(tandem run -s build --detach -- make)\n  tandem wait build $id && tandem logs build $id",
		Args:    someArgs(1, 2, "SESSION and perhaps RUN"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = completeSessions(server)
	timeout := cmd.Flags().Duration("timeout", 0, "wait no longer, and exit with 124; the run goes on")
	asJSON := cmd.Flags().Bool("json", false, "print the run")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := server()
		if err != nil {
			return err
		}
		defer r.close()
		s, err := r.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		var id string
		if len(args) == 2 {
			id = args[1]
		} else if id, err = r.newest(cmd, s.ID); err != nil || id == "" {
			return err
		}
		run, err := r.await(cmd, s.ID, id, *timeout)
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

// newest is the run that was asked for last, or "".
func (r *remote) newest(cmd *cobra.Command, session string) (string, error) {
	runs, err := r.runs(cmd, session)
	if err != nil || len(runs) == 0 {
		return "", err
	}
	return slices.MaxFunc(runs, func(a, b runInfo) int { return int(int64(a.Number) - int64(b.Number)) }).RunID, nil
}

// await waits for the end of a run, 0 meaning for ever.
func (r *remote) await(cmd *cobra.Command, session, id string, timeout time.Duration) (runInfo, error) {
	deadline := time.Now().Add(timeout)
	for {
		step := waitStep
		if timeout > 0 {
			step = min(step, max(0, time.Until(deadline)))
		}
		var run runInfo
		q := url.Values{"wait": {strconv.FormatInt(step.Milliseconds(), 10)}}
		if err := r.call(cmd.Context(), http.MethodGet, sessionPath(session, "run", id)+"?"+q.Encode(), nil, &run); err != nil {
			return run, err
		}
		if run.Last != nil {
			return run, nil
		}
		if timeout > 0 && time.Now().After(deadline) {
			return run, exitError{exitTimeout, fmt.Errorf("run %s has not ended within %s: it goes on", id, timeout)}
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
	opts.DialOptions = r.dialOptions()
	if id == "" {
		return ws.Create(cmd.Context(), r.base, &ws.CreateOptions{SessionOptions: opts, Ephemeral: true})
	}
	return ws.Open(cmd.Context(), r.base, id, &opts)
}
