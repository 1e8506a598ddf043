package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
)

// completionCommand prints what makes a shell complete the program's commands, flags, sessions
// and runs.
func completionCommand(p process) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "print what makes bash, zsh or fish complete commands, flags and sessions",
		Long: `Print a script that makes bash, zsh or fish complete commands, flags, sessions and runs.
The server is asked for these: TANDEM_URL and the token must be set where Tab is pressed.`,
		Example: `  source <(tandem completion bash)     # in ~/.bashrc; needs the package bash-completion
  source <(tandem completion zsh)      # in ~/.zshrc, after compinit
  tandem completion fish | source      # in ~/.config/fish/config.fish`,
		Args:              someArgs(1, 1, "SHELL"),
		ValidArgsFunction: cobra.FixedCompletions(shells, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch slices.Index(shells, args[0]) {
			case 0:
				return root.GenBashCompletionV2(p.stdout, true)
			case 1:
				return root.GenZshCompletion(p.stdout)
			case 2:
				return root.GenFishCompletion(p.stdout, true)
			}
			return usagef("there is no completion for %q: give bash, zsh or fish", args[0])
		},
	}
}

// A finder makes a remote of the flags that say which.
type finder func() (*remote, error)

// find makes the remote and finds there what a person calls a session, see [remote.find].
func (l finder) find(ctx context.Context, called string) (*remote, sessionInfo, error) {
	r, err := l()
	if err != nil {
		return nil, sessionInfo{}, err
	}
	s, err := r.find(ctx, called)
	if err != nil {
		r.close()
	}
	return r, s, err
}

// names offers the sessions there are, by their ids and by their names.
func (l finder) names(cmd *cobra.Command) (names []string) {
	r, err := l()
	if err != nil {
		return nil
	}
	defer r.close()
	all, _ := r.list(cmd.Context())
	for _, s := range all {
		names = append(names, s.ID+"\t"+oneLine(first(s.Name, s.Cwd), 40))
		if s.Name != "" {
			names = append(names, s.Name+"\t"+oneLine(s.Cwd, 40))
		}
	}
	return names
}

// runs offers the runs of a session.
func (l finder) runs(cmd *cobra.Command, session string) (runs []string) {
	r, err := l()
	if err != nil {
		return nil
	}
	defer r.close()
	s, err := r.find(cmd.Context(), session)
	if err != nil {
		return nil
	}
	all, _ := r.runs(cmd.Context(), s.ID)
	for _, run := range all {
		runs = append(runs, run.RunID+"\t"+oneLine(run.Code, 40))
	}
	return runs
}

// complete offers sessions for the first argument, or for all, and then what next offers.
func (l finder) complete(all bool, next func(cmd *cobra.Command, session string) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0 || all:
			return l.names(cmd), cobra.ShellCompDirectiveNoFileComp
		case len(args) == 1 && next != nil:
			return next(cmd, args[0]), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// signalNames offers the signals that people send.
func signalNames(*cobra.Command, string) []string {
	return []string{"SIGTERM", "SIGINT", "SIGKILL", "SIGHUP", "SIGQUIT", "SIGSTOP", "SIGCONT", "SIGUSR1", "SIGUSR2"}
}

// completeRun offers for the flag --run what runs the session has that is named before it.
func (l finder) completeRun(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("run", func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return l.runs(cmd, args[0]), cobra.ShellCompDirectiveNoFileComp
	})
}
