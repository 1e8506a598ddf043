package main

import (
	"github.com/spf13/cobra"

	"tandem/sessions"
)

// guardCommand is the body of the guardian: a process that the session manager starts from
// this same program, and that ends what the server leaves behind if it is killed. It is
// not for people.
func guardCommand(p process) *cobra.Command {
	return &cobra.Command{
		Use:                "guard",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			// Whoever stops a service may signal all its processes. This one is the last to go:
			// it catches what would end it, and looks at none of it.
			_, stop := p.signals()
			defer stop()
			return sessions.Guard(p.stdin, args)
		},
	}
}
